//! History that is not here: fetched when somebody comes to where a room's timeline has a gap, a page at a
//! time, and put into the gap with the state that it happened in, so that everybody sees of it what they
//! may. Who asks for a time in a gap has a page put into its middle. spec: server-server-api#backfilling-and-retrieving-missing-events

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedServerName, RoomId, ServerName, UInt,
    api::{
        Direction,
        federation::{backfill::get_backfill::v1 as backfill, event::get_event_by_timestamp::v1 as by_timestamp},
    },
};

use super::{
    fetch::{Fetch, in_order},
    remote::Bounds,
};
use crate::{
    error::{Error, Result},
    rooms::{
        Room, accept, event,
        event::Slices,
        gaps::{self, Gap},
        history::Way,
        pdu::Checked,
        servers,
        state::StateId,
        timeline,
    },
    store::Read,
};

/// Events of one page.
const PAGE: u32 = 50;
/// Pages that one request fetches.
const MAX_PAGES: usize = 3;
const MAX_PAGES_FORWARD: usize = 40;
/// Pages that are fetched to reach a time, before anybody is asked where it is.
const MAX_PAGES_TO_TIME: usize = 2;
/// Servers that are asked for a page.
const MAX_SERVERS: usize = 3;
/// Events of one page whose past is elsewhere: the state before each has to be asked for.
const MAX_ENDS: usize = 4;
/// What an answer may take that names one event.
const QUICK: Bounds = Bounds { time: Duration::from_secs(5), size: 64 << 10 };
/// How long somebody waits for history.
const PATIENCE: Duration = Duration::from_secs(20);

impl Fetch {
    /// Fetches history, if so many events from a place there is a gap. What can't be had is left. Returns the gap
    /// that a page from there must not go over, as what belongs into it can still be had.
    ///
    /// Going forward, too, a gap is filled from its end: nobody can be asked what comes after an event.
    pub async fn reach(&self, room: &RoomId, way: Way, from: i64, limit: usize) -> Result<Option<Gap>> {
        let most = if way == Way::Back { MAX_PAGES } else { MAX_PAGES_FORWARD };
        let reaching = async {
            for pages in 0..=most {
                let near = self.store.read(|tx| {
                    let room = Room::named(tx, room)?;
                    let (gap, there) = match way {
                        Way::Back => {
                            let Some(gap) = gaps::last(tx, room.num, from.saturating_add(1))? else { return Ok(None) };
                            let there = timeline::back(tx, room.num, gap.before.saturating_sub(1), from, limit)?;
                            (gap, there)
                        }
                        Way::Forward => {
                            // What lies before everything is not on the way.
                            let Some(gap) = gaps::next_inner(tx, room.num, from)? else { return Ok(None) };
                            let there = timeline::forward(tx, room.num, from, gap.start(), limit)?;
                            (gap, there)
                        }
                    };
                    // Going forward, a page that has something ends at the gap.
                    let enough = if way == Way::Back { limit } else { 1 };
                    Ok(Some((gap, there.len() >= enough)))
                })?;
                let Some((gap, is_enough)) = near else { return Ok(None) };
                if is_enough || (pages == most && way == Way::Back) {
                    return Ok(Some(gap));
                }
                if pages == most || self.fill(room, gap.before).await? == 0 {
                    return Ok(None);
                }
            }
            Ok(None)
        };
        // Who waits longer than this is shown what there is.
        tokio::time::timeout(PATIENCE, reaching).await.unwrap_or(Ok(None))
    }

    /// Fetches what was sent at about a time, if it is not here. spec:
    /// client-server-api#get_matrixclientv1roomsroomidtimestamp_to_event
    ///
    /// 1. A few pages of history, as it is often not far.
    /// 2. Other servers are asked which event it was, and for the history that ends with it.
    pub async fn reach_time(&self, room: &RoomId, ts: UInt, way: Direction) -> Result<()> {
        let reaching = async {
            // 1.
            for _ in 0..MAX_PAGES_TO_TIME {
                let Some(gap) = self.store.read(|tx| gap_around(tx, room, ts.into()))? else { return Ok(()) };
                if self.fill(room, gap.before).await? == 0 {
                    break;
                }
            }
            // 2.
            let Some(_) = self.store.read(|tx| gap_around(tx, room, ts.into()))? else { return Ok(()) };
            let servers = self.store.read(|tx| servers::in_room(tx, Room::named(tx, room)?.num))?;
            for server in self.some_of(servers) {
                match self.ask_time(room, (ts, way), &server).await {
                    Ok(true) => return Ok(()),
                    Ok(false) => {}
                    Err(error) if error.cause().is_some() => return Err(error),
                    Err(error) => tracing::debug!(%room, %server, %error, "what was sent at a time is not told"),
                }
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, reaching).await.unwrap_or(Ok(()))
    }

    /// Asks a server which event was sent at about a time, and takes it in with what came before it. Whether it
    /// is here then.
    async fn ask_time(&self, room: &RoomId, (ts, way): (UInt, Direction), server: &ServerName) -> Result<bool> {
        let request = by_timestamp::Request::new(room.to_owned(), MilliSecondsSinceUnixEpoch(ts), way);
        let told = self.remote.call_within(QUICK, server, request).await?;
        let is_here =
            |id: &OwnedEventId| self.store.read(|tx| Ok(gaps::missing_of(tx, std::slice::from_ref(id))?.is_empty()));
        if is_here(&told.event_id)? {
            return Ok(true);
        }
        let turn = self.filling.get_or_insert_with(&room.to_owned(), || Ok::<_, Error>(Arc::default()))?;
        let _turn = turn.lock().await;
        let events = self.page(room, vec![told.event_id.clone()], server).await?;
        let Some((newest, _)) = events.last().filter(|(event, _)| event.id() == told.event_id) else {
            return Ok(false);
        };
        // Where it belongs is for it to say, not for the server.
        let sent = u64::from(newest.pdu().origin_server_ts.get());
        let fits = if way == Direction::Forward { sent >= ts.into() } else { sent <= ts.into() };
        let Some(gap) = self.store.read(|tx| gap_around(tx, room, sent))?.filter(|_| fits) else { return Ok(false) };
        let id = room.to_owned();
        self.store.write(move |tx| accept::split(tx, &mut Room::named(tx, &id)?, gap.before, &events)).await?;
        is_here(&told.event_id)
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
        let ends = || gap.row.missing.iter().filter_map(|id| OwnedEventId::try_from(id.as_str()).ok()).take(20);
        for server in self.some_of(servers) {
            let came = match self.page(room, ends().collect(), &server).await {
                Ok(events) => {
                    let room = room.to_owned();
                    self.store.write(move |tx| accept::fill(tx, &mut Room::named(tx, &room)?, before, &events)).await
                }
                Err(error) => Err(error),
            };
            match came {
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

    /// One page by one server, the oldest first: some events, what stands before them, and the state before the
    /// oldest.
    async fn page(
        &self,
        room: &RoomId,
        ends: Vec<OwnedEventId>,
        server: &ServerName,
    ) -> Result<Vec<(Checked, Option<StateId>)>> {
        let request = backfill::Request::new(room.to_owned(), ends, UInt::from(PAGE));
        let answer = self.remote.call_for_events(Bounds::USUAL, server, request).await?;
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
        Ok(out)
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

/// The gap in which there may be what was sent at a time: what comes after it was sent later, and what is before
/// it earlier.
fn gap_around(tx: &impl Read, room: &RoomId, ts: u64) -> Result<Option<Gap>> {
    let room = Room::named(tx, room)?;
    let sent = |event| event::row(tx, event).and_then(|row| Ok(Slices::of(&row)?.origin_server_ts));
    let mut upto = i64::MAX;
    while let Some(gap) = gaps::last(tx, room.num, upto)? {
        let after = timeline::forward(tx, room.num, gap.before.saturating_sub(1), i64::MAX, 1)?.pop();
        match after {
            Some((_, place)) if sent(place.event)? > ts => {}
            _ => return Ok(None),
        }
        let behind = match gap.row.after {
            Some(after) => timeline::back(tx, room.num, i64::MIN, after, 1)?.pop(),
            None => None,
        };
        match behind {
            Some((_, place)) if sent(place.event)? > ts => upto = gap.before.saturating_sub(1),
            _ => return Ok(Some(gap)),
        }
    }
    Ok(None)
}
