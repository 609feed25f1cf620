//! History that is not here: fetched when somebody goes back to where a room's timeline has a gap, a page at
//! a time, and put into the gap with the state that it happened in, so that everybody sees of it what they
//! may. spec: server-server-api#backfilling-and-retrieving-missing-events

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use ruma::{
    OwnedEventId, OwnedServerName, RoomId, ServerName, UInt, api::federation::backfill::get_backfill::v1 as backfill,
};

use super::fetch::{Fetch, in_order};
use crate::{
    error::{Error, Result},
    rooms::{
        Room, accept, event,
        event::Slices,
        gaps::{self, Gap},
        pdu::Checked,
        servers, timeline,
    },
    store::{Read, WriteTx},
};

/// Events of one page.
const PAGE: u32 = 50;
/// Pages that one request fetches.
const MAX_PAGES: usize = 3;
/// Pages that are fetched to reach a time.
const MAX_PAGES_TO_TIME: usize = 6;
/// Servers that are asked for a page.
const MAX_SERVERS: usize = 3;
/// Events of one page whose past is elsewhere: the state before each has to be asked for.
const MAX_ENDS: usize = 4;
/// How long somebody waits for history.
const PATIENCE: Duration = Duration::from_secs(20);

impl Fetch {
    /// Fetches history, if so many events back from a place there is a gap. What can't be had is left.
    pub async fn reach_back(&self, room: &RoomId, from: i64, limit: usize) -> Result<()> {
        let reaching = async {
            for _ in 0..MAX_PAGES {
                let wanted = self.store.read(|tx| {
                    let room = Room::named(tx, room)?;
                    let Some(gap) = gaps::last(tx, room.num, from.saturating_add(1))? else { return Ok(None) };
                    let there = timeline::back(tx, room.num, gap.before.saturating_sub(1), from, limit)?;
                    Ok(Some(gap.before).filter(|_| there.len() < limit))
                })?;
                let Some(before) = wanted else { return Ok(()) };
                if self.fill(room, before).await? == 0 {
                    return Ok(());
                }
            }
            Ok(())
        };
        // Who waits longer than this is shown what there is.
        tokio::time::timeout(PATIENCE, reaching).await.unwrap_or(Ok(()))
    }

    /// Fetches history until it reaches back to a time, or far enough.
    pub async fn reach_time(&self, room: &RoomId, ts: u64) -> Result<()> {
        let reaching = async {
            for _ in 0..MAX_PAGES_TO_TIME {
                let Some(before) = self.store.read(|tx| gap_after(tx, room, ts))? else { return Ok(()) };
                if self.fill(room, before).await? == 0 {
                    return Ok(());
                }
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, reaching).await.unwrap_or(Ok(()))
    }

    /// Fetches one page of what lies in the gap before a place. Returns how many events came in.
    async fn fill(&self, room: &RoomId, before: i64) -> Result<usize> {
        let turn = self.filling.get_or_insert_with(&room.to_owned(), || Ok::<_, Error>(Arc::default()))?;
        let _turn = turn.lock().await;
        let (gap, servers) = self.store.read(|tx| {
            let room = Room::named(tx, room)?;
            let gap = gaps::last(tx, room.num, before)?.filter(|gap| gap.before == before);
            Ok((gap, servers::in_room(tx, room.num)?))
        })?;
        // Somebody else was faster.
        let Some(gap) = gap else { return Ok(1) };
        for server in self.some_of(servers) {
            match self.page(room, &gap, &server).await {
                Ok(0) => {}
                Ok(came) => return Ok(came),
                Err(error) if error.cause().is_some() => return Err(error),
                Err(error) => tracing::debug!(%room, %server, %error, "history can't be had"),
            }
        }
        Ok(0)
    }

    fn some_of(&self, mut servers: Vec<OwnedServerName>) -> Vec<OwnedServerName> {
        servers.retain(|server| *server != self.me.name);
        while servers.len() > MAX_SERVERS {
            let at = usize::from(crate::base::random::bytes::<1>()[0]) % servers.len();
            servers.swap_remove(at);
        }
        servers
    }

    /// One page by one server: what ends the gap, what stands before that, and the state before the oldest.
    async fn page(&self, room: &RoomId, gap: &Gap, server: &ServerName) -> Result<usize> {
        let ends = gap.row.missing.iter().filter_map(|id| OwnedEventId::try_from(id.as_str()).ok()).take(20);
        let request = backfill::Request::new(room.to_owned(), ends.collect(), UInt::from(PAGE));
        let answer = self.remote.call(server, request).await?;
        let mut raw = answer.pdus;
        raw.truncate(PAGE as usize);
        let checked = self.checker.check(raw, &self.rules(room)?).await?;
        let events = in_order(self.wanted(room, checked)?, |event| &event.pdu().prev_events);
        let page: BTreeSet<OwnedEventId> = events.iter().map(|event| event.id().to_owned()).collect();
        let (mut out, mut asked) = (Vec::with_capacity(events.len()), 0);
        for event in events {
            self.allow(&event, server).await?;
            let state = match self.stands_on(&event, &page)? {
                true => None,
                false if asked >= MAX_ENDS => continue,
                false => {
                    asked += 1;
                    Some(self.state_before(&event, server).await?)
                }
            };
            out.push((event, state));
        }
        let (room, before) = (room.to_owned(), gap.before);
        let work = move |tx: &WriteTx| accept::fill(tx, &mut Room::named(tx, &room)?, before, &out);
        self.store.write(work).await
    }

    /// Those of the room that have no place here yet, each once.
    fn wanted(&self, room: &RoomId, events: Vec<Checked>) -> Result<Vec<Checked>> {
        let mut seen = BTreeSet::new();
        self.store.read(|tx| {
            let mut out = Vec::new();
            for event in events {
                let fits = event.room_id() == room && seen.insert(event.id().to_owned());
                if fits && !gaps::missing_of(tx, &[event.id().to_owned()])?.is_empty() {
                    out.push(event);
                }
            }
            Ok(out)
        })
    }

    /// Whether all that is before an event is on the page or here.
    fn stands_on(&self, event: &Checked, page: &BTreeSet<OwnedEventId>) -> Result<bool> {
        let others: Vec<_> = event.pdu().prev_events.iter().filter(|id| !page.contains(*id)).cloned().collect();
        self.store.read(|tx| Ok(gaps::missing_of(tx, &others)?.is_empty()))
    }
}

/// The gap after which everything was sent later than a time.
fn gap_after(tx: &impl Read, room: &RoomId, ts: u64) -> Result<Option<i64>> {
    let room = Room::named(tx, room)?;
    let mut upto = i64::MAX;
    while let Some(gap) = gaps::last(tx, room.num, upto)? {
        let Some((_, place)) = timeline::forward(tx, room.num, gap.before.saturating_sub(1), i64::MAX, 1)?.pop() else {
            return Ok(None);
        };
        let row = event::row(tx, place.event)?;
        if Slices::of(&row)?.origin_server_ts <= ts {
            return Ok(None);
        }
        // A gap that something stands before is the one only if that was sent earlier.
        let behind = match gap.row.after {
            Some(after) => timeline::back(tx, room.num, i64::MIN, after, 1)?.pop(),
            None => None,
        };
        match behind {
            Some((_, place)) => {
                let row = event::row(tx, place.event)?;
                if Slices::of(&row)?.origin_server_ts <= ts {
                    return Ok(Some(gap.before));
                }
                upto = gap.before.saturating_sub(1);
            }
            None => return Ok(Some(gap.before)),
        }
    }
    Ok(None)
}
