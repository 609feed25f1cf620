//! What the log says of those who ask in a server's name and can't prove that they may. Anybody can do so, in any
//! name and as often as they like: each address is complained of once in a while for each name, and not more is
//! said in a minute than somebody can read.

use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use quick_cache::sync::Cache;
use ruma::{OwnedServerName, ServerName};

use crate::limits;

/// How long nothing more is said of an address and a name, and of how many that is remembered.
const QUIET: Duration = Duration::from_secs(60);
const MAX_REMEMBERED: usize = 1_000;
/// Lines in that time at most.
const MAX_LINES: usize = 60;

/// Who was complained of, and when.
pub struct Strangers {
    said: Cache<(String, OwnedServerName), Instant>,
    /// Since when lines are counted, and how many there were.
    lines: Mutex<(Instant, usize)>,
}

impl Default for Strangers {
    fn default() -> Self {
        Self { said: Cache::new(MAX_REMEMBERED), lines: Mutex::new((Instant::now(), 0)) }
    }
}

impl Strangers {
    /// Somebody has asked in a server's name, and it is not believed.
    pub fn complain(&self, ip: IpAddr, claimed: &ServerName, why: &str) {
        if self.is_news(ip, claimed) {
            tracing::info!(%ip, %claimed, "{ip} says that it is {claimed}, and is not believed: {why}");
        }
    }

    fn is_news(&self, ip: IpAddr, claimed: &ServerName) -> bool {
        let key = (limits::address(ip), claimed.to_owned());
        if self.said.get(&key).is_some_and(|since| since.elapsed() < QUIET) {
            return false;
        }
        self.said.insert(key, Instant::now());
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.0.elapsed() >= QUIET {
            *lines = (Instant::now(), 0);
        }
        lines.1 += 1;
        lines.1 <= MAX_LINES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_complained_of_once_in_a_while_and_not_more_than_can_be_read() {
        let strangers = Strangers::default();
        let is_news = |ip: &str, name: &str| {
            strangers.is_news(ip.parse().expect("an address"), &ServerName::parse(name).expect("a name"))
        };
        assert!(is_news("10.0.0.1", "a.test") && is_news("10.0.0.2", "a.test") && is_news("10.0.0.1", "b.test"));
        assert!(!is_news("10.0.0.1", "a.test"), "a moment ago");
        let lines = (0..1000).filter(|n| is_news("10.0.0.1", &format!("x{n}.test"))).count();
        assert_eq!(lines, MAX_LINES - 3);
    }
}
