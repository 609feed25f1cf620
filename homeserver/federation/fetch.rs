//! What an event needs to be judged and is not here: the events that allow it, those before it, or the
//! state before it where too many are missing. Asked of the server that sent it, then of others in the
//! room; checked like everything else; bounded.
//!
//! ```text
//!  settle ─► accept ─► done
//!    ▲         ├─ lacks a signature ──► policy/v1/sign ─────┤
//!    │         ├─ lacks auth events ──► event_auth, event ──┤
//!    │         ├─ lacks what is before ► get_missing_events ┤
//!    │         │                        ► state_ids, state  ┤
//!    │         └─ too heavy ──────────► prepare             ┤
//!    └──────────────────────────────────────────────────────┘
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use quick_cache::sync::Cache;
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, ServerName, UInt,
    api::federation::{
        authorization::get_event_authorization::v1 as event_auth,
        event::{
            get_event::v1 as get_event, get_missing_events::v1 as missing, get_room_state::v1 as get_state,
            get_room_state_ids::v1 as state_ids,
        },
    },
    room_version_rules::RoomVersionRules,
};
use serde_json::value::RawValue;
use tokio::task::JoinSet;

use super::{
    checking::Checker,
    handed_over::{self, Answer, Reader},
    policy::PolicyServers,
    remote::{Bounds, Failure, Remote},
};
use crate::{
    base::{random, signing::Identity},
    error::{Error, Result},
    rooms::{
        Room,
        accept::{self, Arrival, Lacks, Verdict},
        event,
        given::{self, Given},
        outliers::{self, Kept},
        pdu::Checked,
        policy, servers,
        state::StateId,
    },
    store::{Store, WriteTx, rows::Standing},
};

/// Steps towards judging one event.
const MAX_STEPS: usize = 12;
/// Servers that are asked for the same thing, the one that sent the event among them.
const MAX_SERVERS: usize = 4;
/// Events before one that are asked for in one request.
const MISSING: u32 = 100;
/// Events before one that are fetched one by one. Of a longer absence the state is fetched, and the rest when
/// somebody wants to see it.
const MAX_MISSING: usize = 300;
/// Single events that are fetched for one event, and at once.
const MAX_SINGLE: usize = 300;
const AT_ONCE: usize = 8;
/// Events in the auth chain of one event at most: more than the oldest rooms have.
const MAX_CHAIN: usize = 10_000;
/// What the IDs of a state's events and of its auth chain may take.
const IDS: Bounds = Bounds { time: Duration::from_secs(60), size: 32 << 20 };
/// Rooms of which it is remembered that their history is being fetched.
const BUSY_ROOMS: usize = 1_000;
/// Events before one that stand on something which is not here: the state before each is asked for.
const MAX_ENDS: usize = 4;
/// Events that one job keeps.
const PIECE: usize = 50;
/// Events of a state that are held parsed at once.
const AT_ONCE_KEPT: usize = 1_000;

/// Fetches events and judges them. Clones share everything.
#[derive(Clone)]
pub struct Fetch {
    pub(super) me: Arc<Identity>,
    pub(super) store: Store,
    pub(super) remote: Remote,
    pub(super) checker: Checker,
    pub(super) policy: PolicyServers,
    /// Reads the states of rooms.
    pub(super) reader: Reader,
    /// Rooms whose history is being fetched, each by one task at a time.
    pub(super) filling: Arc<Cache<OwnedRoomId, Arc<tokio::sync::Mutex<()>>>>,
}

impl Fetch {
    /// By these.
    pub fn new(me: Arc<Identity>, store: Store, remote: Remote, checker: Checker) -> Self {
        let policy = PolicyServers::new(remote.clone());
        let filling = Arc::new(Cache::new(BUSY_ROOMS));
        Self { me, store, remote, checker, policy, reader: Reader::default(), filling }
    }

    /// The same as [`Self::settle`], for an event that can't wait: in a partial room it is judged by what is
    /// known of that.
    pub async fn settle_now(&self, event: &Arc<Checked>, from: &ServerName) -> Result<Standing> {
        if let Some(standing) = self.settle(event, from).await? {
            return Ok(standing);
        }
        let state = self.store.read(|tx| Ok(Room::named(tx, event.room_id())?.row.state))?;
        self.attempt(event, Some(state), from)
            .await?
            .map_err(|_| Error::unknown("what is before the event is not known"))
    }

    /// Judges an event that came from a server, and fetches from there and elsewhere what that takes. None in
    /// a partial room, if what is before it can't be had so: the state there would be as much as the room
    /// itself lacks, and is known once that is.
    pub async fn settle(&self, event: &Arc<Checked>, from: &ServerName) -> Result<Option<Standing>> {
        // First only what is before it, as long as that is not much.
        let lacks = match self.attempt(event, None, from).await? {
            Ok(standing) => return Ok(Some(standing)),
            Err(lacks) => lacks,
        };
        tracing::debug!(event = %event.id(), room = %event.room_id(), lacking = lacks.len(), "events before one are missing");
        let mut ends = 0;
        for before in self.before(event, from).await? {
            // One that can't be judged leaves a gap, which the next one then has the state for.
            let before = Arc::new(before);
            let judged = match self.attempt(&before, None, from).await {
                Ok(Err(_)) if ends < MAX_ENDS && !self.is_partial(event.room_id())? => {
                    ends += 1;
                    self.judge(&before, from).await.map(drop)
                }
                other => other.map(drop),
            };
            if let Err(error) = judged {
                tracing::debug!(event = %before.id(), %error, "an event before one can't be judged");
            }
        }
        if self.is_partial(event.room_id())? {
            return Ok(self.attempt(event, None, from).await?.ok());
        }
        self.judge(event, from).await.map(Some)
    }

    fn is_partial(&self, room: &RoomId) -> Result<bool> {
        self.store.read(|tx| Ok(Room::named(tx, room)?.is_partial()))
    }

    /// Judges events of one room, in their order, all in one job. What comes of each: none for one that
    /// something lacks for.
    pub async fn judge_all(&self, events: Vec<Arc<Checked>>) -> Result<Vec<Result<Option<Standing>>>> {
        let events = self.looked_at(events).await?;
        let work = move |tx: &WriteTx| {
            let mut out = Vec::with_capacity(events.len());
            for event in &events {
                let mut room = Room::named(tx, event.room_id())?;
                out.push(
                    match accept::accept(
                        tx,
                        &mut room,
                        Arrival { event, state_before: None, outgoing: false, unvouched: false },
                    ) {
                        Ok(Verdict::Is(_, standing)) => Ok(Some(standing)),
                        Ok(_) => Ok(None),
                        // It was refused before anything of it was written.
                        Err(error) if error.cause().is_none() => Err(error),
                        Err(error) => return Err(error),
                    },
                );
            }
            Ok(out)
        };
        self.store.write(work).await
    }

    /// The same events of one room, once it has been looked whether they carry the signature of its policy
    /// server, if it has one.
    async fn looked_at(&self, events: Vec<Arc<Checked>>) -> Result<Vec<Arc<Checked>>> {
        let Some(first) = events.first() else { return Ok(events) };
        let known = self.store.read(|tx| {
            let room = Room::named(tx, first.room_id())?;
            Ok(policy::of(tx, &room)?.map(|policy| (policy, room.rules())))
        })?;
        let Some((policy, rules)) = known else { return Ok(events) };
        let look = move || events.iter().map(|event| Arc::new((**event).clone().looked_at(&policy, &rules))).collect();
        tokio::task::spawn_blocking(look).await.map_err(Error::internal)
    }

    /// Judges an event. Where what is before it is not here, the state there has to be had.
    pub(super) async fn judge(&self, event: &Arc<Checked>, from: &ServerName) -> Result<Standing> {
        if let Ok(standing) = self.attempt(event, None, from).await? {
            return Ok(standing);
        }
        let state = self.state_before(event, from).await?;
        match self.attempt(event, Some(state), from).await? {
            Ok(standing) => Ok(standing),
            Err(_) => Err(Error::internal("an event lacks what it has been given")),
        }
    }

    /// Judges an event with what allows it, if what is before it is here: otherwise says what lacks.
    async fn attempt(
        &self,
        event: &Arc<Checked>,
        state_before: Option<StateId>,
        from: &ServerName,
    ) -> Result<Result<Standing, Vec<OwnedEventId>>> {
        let (mut event, mut unvouched) = (event.clone(), false);
        for _ in 0..MAX_STEPS {
            match self.accept(&event, state_before, unvouched).await? {
                Verdict::Is(_, standing) => return Ok(Ok(standing)),
                Verdict::Lacks(Lacks::Prev(ids)) => return Ok(Err(ids)),
                Verdict::Lacks(Lacks::Auth(ids)) => self.auth_events(&event, ids, from).await?,
                Verdict::Lacks(Lacks::Signature(policy)) => {
                    match self.policy.vouch(&policy, &event, &self.rules(event.room_id())?).await {
                        Some(vouched) => event = Arc::new(vouched),
                        None => unvouched = true,
                    }
                }
                Verdict::TooHeavy => self.prepare(&event, state_before).await?,
            }
        }
        Err(Error::unknown("the event can't be judged: its room changes all the time"))
    }

    async fn accept(&self, event: &Arc<Checked>, state_before: Option<StateId>, unvouched: bool) -> Result<Verdict> {
        let event = event.clone();
        let work = move |tx: &WriteTx| {
            let mut room = Room::named(tx, event.room_id())?;
            accept::accept(tx, &mut room, Arrival { event: &event, state_before, outgoing: false, unvouched })
        };
        self.store.write(work).await
    }

    async fn prepare(&self, event: &Arc<Checked>, state_before: Option<StateId>) -> Result<()> {
        let (store, event) = (self.store.clone(), event.clone());
        let thinking = move || {
            store.read(|tx| {
                let room = Room::named(tx, event.room_id())?;
                accept::prepare(tx, &room, Arrival { event: &event, state_before, outgoing: false, unvouched: false })
            })
        };
        match tokio::task::spawn_blocking(thinking).await.map_err(Error::internal)?? {
            true => Ok(()),
            false => Err(Error::unknown("the room's state is too complicated to be resolved")),
        }
    }

    /// The server that sent something, and some others in the room.
    pub(super) fn servers(&self, room: &RoomId, from: &ServerName) -> Result<Vec<OwnedServerName>> {
        let mut others = self.store.read(|tx| {
            let room = Room::named(tx, room)?;
            servers::in_room(tx, room.num)
        })?;
        others.retain(|server| *server != self.me.name && server != from);
        let mut out = vec![from.to_owned()];
        while out.len() < MAX_SERVERS && !others.is_empty() {
            let at = usize::from(u16::from_le_bytes(random::bytes::<2>())) % others.len();
            out.push(others.swap_remove(at));
        }
        out.retain(|server| *server != self.me.name);
        Ok(out)
    }

    pub(super) fn rules(&self, room: &RoomId) -> Result<RoomVersionRules> {
        self.store.read(|tx| Ok(Room::named(tx, room)?.rules()))
    }

    /// Those of some events that are not here.
    fn unknown(&self, ids: impl IntoIterator<Item = OwnedEventId>) -> Result<Vec<OwnedEventId>> {
        self.store.read(|tx| {
            let mut out = Vec::new();
            for id in ids {
                if event::position(tx, &id)?.is_none() {
                    out.push(id);
                }
            }
            Ok(out)
        })
    }

    /// Sees to it that the events which allow an event are here.
    pub(super) async fn allow(&self, event: &Checked, from: &ServerName) -> Result<()> {
        let lacking = self.unknown(event.pdu().auth_events.iter().cloned())?;
        if lacking.is_empty() { Ok(()) } else { self.auth_events(event, lacking, from).await }
    }

    /// Fetches the events that allow an event, with those that allow them.
    async fn auth_events(&self, event: &Checked, ids: Vec<OwnedEventId>, from: &ServerName) -> Result<()> {
        let rules = self.rules(event.room_id())?;
        for server in self.servers(event.room_id(), from)? {
            let request = event_auth::Request::new(event.room_id().to_owned(), event.id().to_owned());
            match self.remote.call_for_events(Bounds::USUAL, &server, request).await {
                Ok(answer) if answer.auth_chain.len() > MAX_CHAIN => {
                    let length = answer.auth_chain.len();
                    tracing::info!(%server, event = %event.id(), "{server} says that {length} events allow one: too many");
                }
                Ok(answer) => {
                    let chain = self.checker.check(answer.auth_chain, &rules).await?;
                    self.keep(event.room_id(), chain).await?;
                }
                Err(failure) => tracing::info!(%server, %failure, "{server} does not tell what allows an event"),
            }
            let lacking = self.unknown(ids.iter().cloned())?;
            if lacking.is_empty() || self.singles(event.room_id(), lacking, &server, &rules).await? {
                return Ok(());
            }
        }
        Err(Error::unknown("the events that allow it can't be had"))
    }

    /// Fetches events one by one, and what allows them. Whether all are here then.
    async fn singles(
        &self,
        room: &RoomId,
        wanted: Vec<OwnedEventId>,
        server: &ServerName,
        rules: &RoomVersionRules,
    ) -> Result<bool> {
        let (mut asked, mut held): (HashSet<OwnedEventId>, Vec<Checked>) = Default::default();
        let mut next = wanted.clone();
        while !next.is_empty() && asked.len() < MAX_SINGLE {
            next.truncate(MAX_SINGLE - asked.len());
            asked.extend(next.iter().cloned());
            let raw = self.events(server, next).await;
            let checked = self.checker.check(raw, rules).await?;
            let cited: BTreeSet<OwnedEventId> =
                checked.iter().flat_map(|event| event.pdu().auth_events.iter().cloned()).collect();
            held.extend(checked);
            next = self.unknown(cited)?;
            next.retain(|id| !asked.contains(id));
        }
        self.keep(room, held).await?;
        Ok(self.unknown(wanted)?.is_empty())
    }

    /// Asks for single events, some at once.
    async fn events(&self, server: &ServerName, ids: Vec<OwnedEventId>) -> Vec<Box<RawValue>> {
        let (mut out, mut asking) = (Vec::with_capacity(ids.len()), JoinSet::new());
        let mut ids = ids.into_iter();
        loop {
            while asking.len() < AT_ONCE
                && let Some(id) = ids.next()
            {
                let (remote, server) = (self.remote.clone(), server.to_owned());
                asking.spawn(async move {
                    let request = get_event::Request::new(id);
                    remote.call_for_events(Bounds::SMALL, &server, request).await.map(|answer| answer.pdu)
                });
            }
            match asking.join_next().await {
                None => return out,
                Some(Ok(Ok(event))) => out.push(event),
                Some(Ok(Err(failure))) => {
                    tracing::debug!(%server, %failure, "an event can't be had");
                    if let Failure::Unreachable(_) = failure {
                        return out;
                    }
                }
                Some(Err(_)) => {}
            }
        }
    }

    /// Keeps events as parts of states and auth chains, each after those that it cites. Those whose own
    /// auth events are not here are left out.
    async fn keep(&self, room: &RoomId, events: Vec<Checked>) -> Result<()> {
        let events = Arc::new(in_order(events, |event| &event.pdu().auth_events));
        for start in (0..events.len()).step_by(PIECE) {
            let (events, room) = (events.clone(), room.to_owned());
            let work = move |tx: &WriteTx| {
                let room = Room::named(tx, &room)?;
                for event in events.iter().skip(start).take(PIECE).filter(|event| event.room_id() == room.id()) {
                    if let Kept::Lacks(ids) = outliers::keep(tx, &room, event)? {
                        tracing::debug!(event = %event.id(), lacking = ids.len(), "an event is left out: what allows it is not here");
                    }
                }
                Ok(())
            };
            self.store.write(work).await?;
        }
        Ok(())
    }

    /// The events before one as far back as to what is here, the oldest first. Of a gap that is too long, or
    /// that nobody tells, only what is nearest.
    /// spec: server-server-api#backfilling-and-retrieving-missing-events
    async fn before(&self, event: &Checked, from: &ServerName) -> Result<Vec<Checked>> {
        let rules = self.rules(event.room_id())?;
        let (mut held, mut latest) = (BTreeMap::new(), vec![event.id().to_owned()]);
        for server in self.servers(event.room_id(), from)? {
            while held.len() < MAX_MISSING && !latest.is_empty() {
                let earliest = self.store.read(|tx| {
                    let ends = Room::named(tx, event.room_id())?.row.extremities.into_iter().take(20);
                    Ok(ends.filter_map(|(_, id)| OwnedEventId::try_from(id).ok()).collect())
                })?;
                let mut request = missing::Request::new(event.room_id().to_owned(), earliest, latest.clone());
                request.limit = UInt::from(MISSING);
                let answer = match self.remote.call_for_events(Bounds::USUAL, &server, request).await {
                    Ok(answer) => answer,
                    Err(failure) => {
                        tracing::info!(%server, %failure, "{server} does not tell what came before an event");
                        break;
                    }
                };
                let mut raw = answer.events;
                raw.truncate(MISSING as usize);
                let before = held.len();
                for found in self.checker.check(raw, &rules).await? {
                    if found.room_id() == event.room_id() {
                        held.entry(found.id().to_owned()).or_insert(found);
                    }
                }
                latest = self.with_unknown_past(event, &held)?;
                if held.len() == before {
                    break;
                }
            }
            if latest.is_empty() {
                break;
            }
        }
        Ok(in_order(held.into_values().collect(), |event| &event.pdu().prev_events))
    }

    /// Which of some events stand on others that are neither among them nor here.
    fn with_unknown_past(&self, event: &Checked, held: &BTreeMap<OwnedEventId, Checked>) -> Result<Vec<OwnedEventId>> {
        let mut out = Vec::new();
        for one in held.values().chain([event]) {
            let others = one.pdu().prev_events.iter().filter(|id| !held.contains_key(*id)).cloned();
            if !self.unknown(others)?.is_empty() {
                out.push(one.id().to_owned());
            }
        }
        out.truncate(20);
        Ok(out)
    }

    /// The state before an event, as a server in the room says, stored. Where nobody tells it without something
    /// that can't be had or that nothing which is here allows, it is that in which least is lacking: of old rooms
    /// some of it is lost for good.
    pub(super) async fn state_before(&self, event: &Checked, from: &ServerName) -> Result<StateId> {
        let mut best: Option<Given> = None;
        for server in self.servers(event.room_id(), from)? {
            match self.state_from(&server, event).await {
                Ok(state) if state.lacking == 0 => return self.store_given(state).await,
                Ok(state) => {
                    let (id, lacking) = (event.id(), state.lacking);
                    tracing::info!(%server, event = %id, lacking, "of the state before {id} not all can be had from {server}");
                    if best.as_ref().is_none_or(|best| state.lacking < best.lacking) {
                        best = Some(state);
                    }
                }
                Err(error) if error.cause().is_some() => return Err(error),
                Err(error) => tracing::info!(%server, %error, "{server} does not tell the state before an event"),
            }
        }
        self.store_given(best.ok_or_else(|| Error::unknown("the state before it can't be had"))?).await
    }

    async fn state_from(&self, server: &ServerName, event: &Checked) -> Result<Given> {
        let (room, rules) = (event.room_id().to_owned(), self.rules(event.room_id())?);
        let request = state_ids::Request::new(event.id().to_owned(), room.clone());
        let (ids, chain) = self.reader.receive_ids(self.remote.stream(IDS, server, request).await?).await?;
        let lacking = self.unknown(ids.iter().chain(&chain).cloned())?;
        if lacking.len() > MAX_SINGLE {
            let request = get_state::Request::new(event.id().to_owned(), room.clone());
            let incoming = self.remote.stream(Bounds::LARGE, server, request).await?;
            let answer = self.reader.receive(incoming, handed_over::OF_STATE).await?;
            let Answer { state, auth_chain, place: _place, .. } = answer;
            self.keep_state(&room, [auth_chain, state], &rules).await?;
        } else if !lacking.is_empty() {
            self.singles(&room, lacking, server, &rules).await?;
        }
        let store = self.store.clone();
        let reading = move || store.read(|tx| given::read(tx, &Room::named(tx, &room)?, &ids));
        tokio::task::spawn_blocking(reading).await.map_err(Error::internal)?
    }

    async fn store_given(&self, given: Given) -> Result<StateId> {
        let given = Arc::new(given);
        for start in (0..given.fresh()).step_by(PIECE) {
            let given = given.clone();
            self.store.write(move |tx| given::number(tx, &given, start..start + PIECE)).await?;
        }
        self.store.write(move |tx| given::store(tx, &given)).await
    }

    /// Keeps all events of a state and its auth chain. They are held as they came, and parsed some at a time.
    async fn keep_state(&self, room: &RoomId, lists: [Vec<Box<RawValue>>; 2], rules: &RoomVersionRules) -> Result<()> {
        let mut checking = self.checker.begin(lists, rules).await?;
        while !checking.is_over() {
            let some = checking.some(AT_ONCE_KEPT).await?;
            self.keep(room, some.into_iter().map(|(_, event)| event).collect()).await?;
        }
        Ok(())
    }
}

/// Events in an order in which each comes after those of them that it names, as far as there is one.
pub(super) fn in_order(events: Vec<Checked>, names: impl Fn(&Checked) -> &Vec<OwnedEventId>) -> Vec<Checked> {
    let index: HashMap<OwnedEventId, usize> =
        events.iter().enumerate().map(|(index, event)| (event.id().to_owned(), index)).collect();
    let mut left: Vec<usize> = Vec::with_capacity(events.len());
    let mut above: Vec<Vec<usize>> = vec![Vec::new(); events.len()];
    for (at, event) in events.iter().enumerate() {
        let below: BTreeSet<usize> =
            names(event).iter().filter_map(|id| index.get(id)).copied().filter(|below| *below != at).collect();
        left.push(below.len());
        for below in below {
            above[below].push(at);
        }
    }
    // The least deep first, where the order is free.
    let depth = |at: usize| (events[at].pdu().depth, at);
    let mut ready: BTreeSet<(u64, usize)> = (0..events.len()).filter(|at| left[*at] == 0).map(depth).collect();
    let mut order = Vec::with_capacity(events.len());
    while let Some((_, at)) = ready.pop_first() {
        order.push(at);
        for upper in &above[at] {
            left[*upper] -= 1;
            if left[*upper] == 0 {
                ready.insert(depth(*upper));
            }
        }
    }
    let mut events: Vec<Option<Checked>> = events.into_iter().map(Some).collect();
    order.into_iter().filter_map(|at| events[at].take()).collect()
}
