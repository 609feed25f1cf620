//! Looking out for the server itself: now and then whether others still find it, as what keeps them from it (a name, a
//! certificate, a proxy) fails without a word. Owns what is news of that, and who is told.

use std::time::Duration;

use super::{Federation, reached::Seen};
use crate::rooms::admins;

/// After the start, while all is well, and while it is not.
const FIRST: Duration = Duration::from_secs(5);
const EVERY: Duration = Duration::from_secs(3 * 3600);
const SOON: Duration = Duration::from_secs(10 * 60);
/// Looks in a row in vain after which a server that was found is lost: one alone may be chance.
const MISSES: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Found,
    /// It was not there at the first look, which may be for what is between the server and itself alone.
    NotFound,
    Lost,
    Back,
}

/// What was seen so far.
#[derive(Default)]
struct Lookout {
    last: Option<News>,
    misses: u32,
}

impl Lookout {
    fn saw(&mut self, is_there: bool) -> Option<News> {
        self.misses = if is_there { 0 } else { self.misses + 1 };
        let news = match (self.last, is_there) {
            (None | Some(News::NotFound), true) => Some(News::Found),
            (Some(News::Lost), true) => Some(News::Back),
            (None, false) => Some(News::NotFound),
            (Some(News::Found | News::Back), false) if self.misses >= MISSES => Some(News::Lost),
            _ => None,
        };
        self.last = news.or(self.last);
        news
    }
}

impl Federation {
    /// Looks out for as long as the server runs. Nobody else can find a machine that calls itself `localhost`.
    pub(super) async fn look_out(&self) {
        if !self.remote.is_enabled() || self.me.name.host() == "localhost" {
            return std::future::pending().await;
        }
        let (mut lookout, mut wait) = (Lookout::default(), FIRST);
        loop {
            tokio::time::sleep(wait).await;
            match self.seen_from_outside().await {
                Ok(seen) => {
                    wait = if seen.answer.is_ok() { EVERY } else { SOON };
                    if let Some(news) = lookout.saw(seen.answer.is_ok()) {
                        self.report(news, &seen).await;
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "can't look whether others find this server");
                    wait = EVERY;
                }
            }
        }
    }

    async fn report(&self, news: News, seen: &Seen) {
        let (address, why) = (&seen.address, seen.answer.as_ref().err().cloned().unwrap_or_default());
        let page = match &seen.delegated {
            Some(Err(page)) if *page != why => format!("; its /.well-known/matrix/server can't be read: {page}"),
            _ => String::new(),
        };
        let text = match news {
            News::Found => return tracing::info!("others find this server at {address}"),
            News::NotFound => {
                return tracing::warn!(
                    "others can't reach this server at {address}, as far as can be seen from here: {why}{page}"
                );
            }
            News::Lost => format!("Other servers can't reach this one any more at {address}: {why}{page}"),
            News::Back => format!("Other servers reach this one again at {address}"),
        };
        tracing::warn!("{text}");
        let me = self.me.clone();
        if let Err(error) = self.store.write(move |tx| admins::tell(tx, &me, &text)).await {
            tracing::error!(%error, "the administrators can't be told");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_as_it_is_is_no_news_and_one_miss_is_chance() {
        let mut lookout = Lookout::default();
        let looks = [true, true, false, true, false, false, false, true, false, false];
        let news = looks.map(|is_there| lookout.saw(is_there));
        let (found, lost, back) = (Some(News::Found), Some(News::Lost), Some(News::Back));
        assert_eq!(news, [found, None, None, None, None, lost, None, back, None, lost]);
    }

    #[test]
    fn who_was_never_found_is_not_lost() {
        let mut lookout = Lookout::default();
        let news = [false, false, false, true, false].map(|is_there| lookout.saw(is_there));
        assert_eq!(news, [Some(News::NotFound), None, None, Some(News::Found), None]);
    }
}
