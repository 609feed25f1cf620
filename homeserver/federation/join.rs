//! Coming into rooms. Where this server is in the room already it decides by itself; otherwise another
//! server in the room is asked for a template, the join is signed and handed in, and what comes back is
//! checked, judged, laid down in pieces and opened (`rooms/joining.rs`).
//! spec: server-server-api#joining-rooms

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ruma::{
    OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, RoomVersionId, ServerName,
    api::federation::membership::{create_join_event::v2 as send_join, prepare_join_event::v1 as make_join},
    room_version_rules::RoomVersionRules,
};
use serde_json::{Map, Value, value::RawValue};
use tokio::time::timeout;

use super::{
    Bounds, Federation,
    handed_over::{self, Answer},
    handshake::{Attempts, refused, spoken, versions},
    pieces::{Handed, Writing},
    steps::Steps,
};
use crate::{
    base::{RoomNum, json},
    error::{Error, Result},
    rooms::{
        Room, blocked, doorstep,
        draft::Signed,
        guests,
        handshake::{self, Asked, Step},
        joining::{self, Entry, Judge, Judged, Key, Opening, Told},
        members::{self, Change},
        partial,
        pdu::{self, Checked},
        restricted, room, servers,
    },
    store::{Read, WriteTx, rows::Standing},
};

/// How long a server to which a join was handed in may be silent, where there are others.
const PATIENCE: Duration = Duration::from_secs(10);

/// What says that somebody on another server may know better.
const VOUCHED_FOR: [&str; 3] =
    ["M_UNABLE_TO_AUTHORISE_JOIN", "M_UNABLE_TO_GRANT_JOIN", "M_UNABLE_DUE_TO_PARTIAL_STATE"];

/// Somebody of ours who wants into a room, or to its door.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Who.
    pub user: OwnedUserId,
    /// Where.
    pub room: OwnedRoomId,
    /// Servers that may be in the room.
    pub via: Vec<OwnedServerName>,
    /// Why, in their words.
    pub reason: Option<String>,
    /// What their membership says besides.
    pub more: Map<String, Value>,
}

/// A room that is being entered.
struct Entered<'a> {
    room: &'a RoomId,
    version: &'a RoomVersionId,
    /// Whether its members are left out.
    partly: bool,
    /// Whether the first steps into it are done.
    begun: AtomicBool,
}

impl Federation {
    /// Brings somebody of ours into a room. It goes on even if nobody waits for it any more: once another
    /// server has taken the join in, we are to know of it.
    pub async fn join(self: &Arc<Self>, wish: Wish) -> Result<()> {
        let this = self.clone();
        let joining = tokio::spawn(async move {
            let _turn = this.turns.take(&wish.room).await;
            match this.change_here(&wish, Step::Join).await {
                Ok(true) => Ok(()),
                Ok(false) => {
                    this.store.read(|tx| guests::check_far(tx, &wish.user))?;
                    this.join_elsewhere(&wish, None).await
                }
                // Somebody on another server may be able to vouch for them.
                Err(error) if VOUCHED_FOR.contains(&error.errcode()) => {
                    this.store.read(|tx| guests::check_far(tx, &wish.user))?;
                    this.join_elsewhere(&wish, Some(error)).await
                }
                Err(error) => Err(error),
            }
        });
        joining.await.map_err(Error::internal)?
    }

    /// Makes the change if this server is in the room. False if it is not. 403 if nobody may come into it.
    pub(super) async fn change_here(&self, wish: &Wish, step: Step) -> Result<bool> {
        let (me, wish, store) = (self.me.clone(), wish.clone(), self.store.clone());
        let (identity, id) = (me.clone(), wish.room.clone());
        let look = move || {
            store.read(|tx| {
                blocked::check(tx, &id)?;
                // Where nobody of ours is there is nothing to be written.
                let room = Room::find(tx, &id)?;
                if room.map_or(Ok(true), |room| doorstep::is_inside(tx, &identity, &room).map(|inside| !inside))? {
                    return Ok(None);
                }
                if step == Step::Join { restricted::voucher(tx, &identity, &id).map(Some) } else { Ok(Some(None)) }
            })
        };
        let looked = tokio::task::spawn_blocking(look).await.map_err(Error::internal)??;
        let Some(voucher) = looked else { return Ok(false) };
        let work = move |tx: &WriteTx| {
            let Some(mut room) = Room::find(tx, &wish.room)? else { return Ok(false) };
            if !doorstep::is_inside(tx, &me, &room)? {
                return Ok(false);
            }
            // What they were to the room is not known yet, and other servers would ask.
            if step == Step::Join && room.is_partial() && !members::is_joined(tx, room.num, &wish.user)? {
                return Err(partial::unable());
            }
            let (sender, membership, reason) = (&*wish.user, step.membership(), wish.reason.clone());
            let change = Change { sender, target: sender, membership, reason, more: wish.more.clone() };
            members::change_vouched(tx, &me, &mut room, change, voucher.as_deref())?;
            Ok(true)
        };
        self.write(work).await
    }

    /// The servers to ask: those that were named, those behind an invite, and those that are in the room as
    /// far as we know.
    pub(super) fn servers_for(&self, wish: &Wish) -> Result<Vec<OwnedServerName>> {
        let mut out = wish.via.clone();
        self.store.read(|tx| {
            let Some(room) = Room::known(tx, &wish.room)? else { return Ok(()) };
            if let Some((_, from)) = doorstep::standing(tx, &self.me, &room, &wish.user)? {
                out.extend(doorstep::servers_behind(tx, &room, &wish.user, &from)?);
            }
            out.extend(servers::in_room(tx, room.num)?);
            Ok(())
        })?;
        out.retain(|server| *server != self.me.name);
        Ok(out)
    }

    async fn join_elsewhere(self: &Arc<Self>, wish: &Wish, here: Option<Error>) -> Result<()> {
        let (remote, room, user) = (self.remote.clone(), wish.room.clone(), wish.user.clone());
        let mut attempts = Attempts::new(self.servers_for(wish)?, move |server| {
            let (remote, mut request) = (remote.clone(), make_join::Request::new(room.clone(), user.clone()));
            request.ver = versions();
            async move { remote.call_within(Bounds::SMALL, &server, request).await.map_err(refused) }
        });
        while let Some((server, template)) = attempts.next().await {
            // One that says nothing more keeps nobody waiting for long who has others to ask.
            let patience = attempts.has_others().then_some(PATIENCE);
            let entered = match here {
                None => self.enter(wish, &server, (&template, patience)).await,
                Some(_) => self.be_vouched_for(wish, &server, (&template, patience)).await,
            };
            match entered {
                Ok(()) => return Ok(()),
                // Ours to mend, not theirs.
                Err(error) if error.cause().is_some() => return Err(error),
                Err(error) => attempts.failed(&server, error),
            }
        }
        let error = attempts.error();
        Err(here.filter(|_| error.errcode() == "M_NOT_FOUND").unwrap_or(error))
    }

    /// One handshake with one server.
    async fn enter(
        self: &Arc<Self>,
        wish: &Wish,
        server: &ServerName,
        (template, patience): (&make_join::Response, Option<Duration>),
    ) -> Result<()> {
        let began = Instant::now();
        let version = spoken(template.room_version.clone())?;
        let (signed, answer) = self.hand_in(wish, (server, patience), (&template.event, &version)).await?;
        let answered = began.elapsed();
        let rules = room::rules(&version)?;
        let Answer { event, state, auth_chain, members_omitted, servers, place: _place } = answer;
        let join = self.checker.check(vec![taken_in(&signed, event, &rules)?], &rules).await?;
        let join = join.into_iter().next().ok_or_else(unsigned)?;
        let judge = Judge::new(&wish.room, &version, join.pdu(), None)?;
        let entered =
            Entered { room: &wish.room, version: &version, partly: members_omitted, begun: AtomicBool::new(false) };
        let write =
            |piece| -> Writing<'_> { Box::pin(async { self.laying(&entered, piece).await?.run(&self.store).await }) };
        let handed = Handed { state, auth_chain, members_omitted };
        let (Judged { state, events, left_out }, last) = self.take_in_pieces(handed, judge, write).await?;
        let checked = began.elapsed();
        let laying = self.laying(&entered, last).await?;
        match members_omitted {
            true => self.open_partly(laying, state, join, (server, servers)).await?,
            false => self.open(laying, state, join).await?,
        }
        let all = began.elapsed();
        tracing::info!(
            room = %wish.room, %server, events, left_out, members_omitted, ?answered, ?checked, ?all,
            "entered {} by {server}: {events} events", wish.room
        );
        Ok(())
    }

    /// The same where this server is in the room and nobody of ours can vouch for the join: only the join
    /// itself is of interest, and is judged as any other event.
    async fn be_vouched_for(
        &self,
        wish: &Wish,
        server: &ServerName,
        (template, patience): (&make_join::Response, Option<Duration>),
    ) -> Result<()> {
        let version = spoken(template.room_version.clone())?;
        // The rest is let go of: what the join lacks may be as large, and there is one place for that.
        let (signed, Answer { event, .. }) =
            self.hand_in(wish, (server, patience), (&template.event, &version)).await?;
        let rules = room::rules(&version)?;
        let join = self.checker.check(vec![taken_in(&signed, event, &rules)?], &rules).await?;
        let join = join.into_iter().next().ok_or_else(unsigned)?;
        match self.fetch.settle_now(&Arc::new(join), server).await? {
            Standing::Accepted => Ok(()),
            _ => Err(Error::forbidden("the room does not allow this join")),
        }
    }

    /// Signs a join by a template, and hands it in.
    async fn hand_in(
        &self,
        wish: &Wish,
        (server, patience): (&ServerName, Option<Duration>),
        (template, version): (&RawValue, &RoomVersionId),
    ) -> Result<(Signed, Answer)> {
        let (room, user, reason) = (&*wish.room, &*wish.user, wish.reason.as_deref());
        let asked = Asked { room, version, user, step: Step::Join, reason, more: &wish.more };
        let signed = self.store.read(|tx| handshake::complete(tx, &self.me, template, &asked))?;
        let event = json::raw(signed.json.clone())?;
        let mut request = send_join::Request::new(wish.room.clone(), signed.pdu.id.clone(), event);
        request.omit_members = true;
        let asking = self.remote.stream(Bounds::LARGE, server, request);
        let incoming = match patience {
            Some(patience) => timeout(patience, asking)
                .await
                .map_err(|_| Error::bad_gateway("the other server does not say whether it has taken the join in"))?,
            None => asking.await,
        };
        let incoming = incoming.map_err(refused)?;
        let answer = self.fetch.reader.receive(incoming, handed_over::OF_JOIN).await?;
        Ok((signed, answer))
    }

    /// The steps that write a piece of what holds, after the first ones into the room: nothing of it is written, or
    /// forgotten, before something has been found to hold.
    async fn laying(&self, entered: &Entered<'_>, piece: Vec<Told>) -> Result<Steps> {
        let Entered { room, version, partly, begun } = entered;
        let steps = match begun.swap(true, Ordering::Relaxed) {
            false => self.beginning(room, version, *partly).await?,
            true => Steps::default(),
        };
        let id = (*room).to_owned();
        Ok(steps.each(piece, move |tx, piece| joining::lay_events(tx, number(tx, &id)?, piece).map(drop)))
    }

    /// The first steps into a room. What is thought of its people from an earlier stay is forgotten where it does not
    /// serve any more.
    async fn beginning(&self, id: &RoomId, version: &RoomVersionId, partly: bool) -> Result<Steps> {
        let (me, of, room) = (self.me.clone(), version.clone(), id.to_owned());
        let beginning = Steps::default().then(move |tx| joining::begin(tx, &me, &room, &of).map(drop));
        let known = self.store.read(|tx| {
            let Some(room) = Room::known(tx, id)? else { return Ok(None) };
            let is_stale = partial::of(tx, room.num)?.is_some() || partly && partial::is_remembered(tx, &room)?;
            let people = if is_stale { partial::remembered(tx, &self.me, room.num)? } else { Vec::new() };
            Ok(Some((room.num, servers::told(tx, room.num)?, people, is_stale)))
        })?;
        let Some((num, told, people, is_stale)) = known else { return Ok(beginning) };
        let beginning = beginning
            .each(told, move |tx, servers| partial::tell(tx, num, servers, false))
            .each(people, move |tx, people| partial::forget(tx, num, people));
        if is_stale {
            beginning.run(&self.store).await?;
            self.forget_what_came(num).await?;
            self.store.write(move |tx| partial::forgotten(tx, num)).await?;
            return Ok(Steps::default());
        }
        Ok(beginning)
    }

    /// Lays down the state, in pieces, and opens it.
    async fn open(&self, laying: Steps, state: BTreeMap<Key, OwnedEventId>, join: Checked) -> Result<()> {
        laying.run(&self.store).await?;
        let (me, id) = (self.me.clone(), join.room_id());
        let room = self.store.read(|tx| known(tx, id))?;
        let (num, (ahead, held)) = (room.num, self.store.read(|tx| joining::plan(tx, &me, &room, &state))?);
        let opening = move |tx: &WriteTx| joining::open(tx, &me, num, &Opening { join: &join, held: &held }).map(drop);
        let laying = Steps::default().each(ahead, move |tx, entries| joining::lay_state(tx, num, entries));
        laying.then(opening).run(&self.store).await
    }

    /// The same for a state from which the members were left out: they are fetched afterwards.
    async fn open_partly(
        self: &Arc<Self>,
        laying: Steps,
        state: BTreeMap<Key, OwnedEventId>,
        join: Checked,
        (by, servers): (&ServerName, BTreeSet<OwnedServerName>),
    ) -> Result<()> {
        let state = state.into_iter().map(|(key, id)| (key, Some(id)));
        let (members, rest): (Vec<Entry>, Vec<Entry>) = state.partition(|(key, _)| key.0 == "m.room.member");
        let mut told: Vec<OwnedServerName> = servers.into_iter().filter(|server| *server != self.me.name).collect();
        if !told.iter().any(|server| server == by) {
            told.push(by.to_owned());
        }
        let (by, id) = (by.to_owned(), join.room_id().to_owned());
        let [for_rest, for_told] = [id.clone(), id.clone()];
        let opening = move |tx: &WriteTx| {
            let opening = partial::Opening { join: &join, members: &members, by: &by };
            partial::open(tx, number(tx, join.room_id())?, &opening).map(drop)
        };
        laying
            .each(rest, move |tx, entries| joining::lay_state(tx, number(tx, &for_rest)?, entries))
            .each(told, move |tx, servers| partial::tell(tx, number(tx, &for_told)?, servers, true))
            .then(opening)
            .run(&self.store)
            .await?;
        self.complete(self.store.read(|tx| number(tx, &id))?);
        Ok(())
    }
}

/// The room that is being entered, which nobody sees yet.
fn known(tx: &impl Read, id: &RoomId) -> Result<Room> {
    Room::known(tx, id)?.ok_or_else(|| Error::internal("a room is missing that is being entered"))
}

fn number(tx: &impl Read, id: &RoomId) -> Result<RoomNum> {
    known(tx, id).map(|room| room.num)
}

/// The join as the other server has taken it in: ours, or signed by who vouches for it besides.
fn taken_in(signed: &Signed, event: Option<Box<RawValue>>, rules: &RoomVersionRules) -> Result<Box<RawValue>> {
    match event.filter(|event| pdu::parse(event, rules).is_ok_and(|parsed| parsed.id() == signed.pdu.id)) {
        Some(event) => Ok(event),
        None => json::raw(signed.json.clone()),
    }
}

fn unsigned() -> Error {
    Error::bad_gateway("nobody on the other server has signed this join")
}
