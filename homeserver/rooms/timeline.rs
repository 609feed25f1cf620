//! A room's events in order, and how one person's client sees them.
//!
//! A place in a timeline is an `order`: the event's position, or less than zero for history that was
//! fetched later. A token `t<order>` stands just after that place; a sync token stands after its
//! position.

use std::{cell::OnceCell, collections::HashSet};

use ruma::{DeviceId, OwnedUserId, UserId};
use serde_json::value::RawValue;

use super::{
    aggregations, delayed,
    event::{self, Slices, Unsigned, client_form},
    redact,
    room::Room,
    state,
    visibility::Sight,
};
use crate::{
    accounts::{account_data, users},
    base::{Pos, RoomNum, clock},
    error::{Error, Result},
    store::{
        Flow, Read,
        rows::{EventRow, Place, Standing},
        tables,
    },
};

/// The place in timelines where this server was at a position: what came in later stands behind it.
pub fn order_of(pos: Pos) -> i64 {
    i64::try_from(pos).unwrap_or(i64::MAX)
}

/// Where the event at `pos` stands in its room's timeline, if it stands there at all.
pub fn order(tx: &impl Read, pos: Pos) -> Result<Option<i64>> {
    Ok(event::row(tx, pos)?.place(pos))
}

/// Writes a timeline token.
pub fn token(order: i64) -> String {
    format!("t{order}")
}

/// Reads a timeline token or a sync token. 400 for anything else.
pub fn parse_token(token: &str) -> Result<i64> {
    let bad = || Error::invalid_param("this pagination token is not one of ours");
    match token.split_at_checked(1) {
        Some(("t", order)) => order.parse().map_err(|_| bad()),
        Some(("s", rest)) => {
            let pos = rest.split('_').next().and_then(|pos| pos.parse().ok()).ok_or_else(bad)?;
            Ok(order_of(pos))
        }
        _ => Err(bad()),
    }
}

/// Up to `limit` places with `after < order <= upto`, the newest first.
pub fn back(tx: &impl Read, room: RoomNum, after: i64, upto: i64, limit: usize) -> Result<Vec<(i64, Place)>> {
    let mut out = Vec::new();
    if after >= upto || limit == 0 {
        return Ok(out);
    }
    tables::TIMELINE.scan_back(tx, (room, after.saturating_add(1))..=(room, upto), |(_, order), place| {
        if place.event != 0 {
            out.push((order, place));
        }
        Ok(if out.len() < limit { Flow::Next } else { Flow::Stop })
    })?;
    Ok(out)
}

/// Up to `limit` places with `after < order <= upto`, the oldest first.
pub fn forward(tx: &impl Read, room: RoomNum, after: i64, upto: i64, limit: usize) -> Result<Vec<(i64, Place)>> {
    let mut out = Vec::new();
    if after >= upto || limit == 0 {
        return Ok(out);
    }
    tables::TIMELINE.scan(tx, (room, after.saturating_add(1))..=(room, upto), |(_, order), place| {
        if place.event != 0 {
            out.push((order, place));
        }
        Ok(if out.len() < limit { Flow::Next } else { Flow::Stop })
    })?;
    Ok(out)
}

/// The newest place at or before `upto`, be it one without an event.
pub fn last(tx: &impl Read, room: RoomNum, upto: i64) -> Result<Option<(i64, Place)>> {
    let mut last = None;
    tables::TIMELINE.scan_back(tx, (room, i64::MIN)..=(room, upto), |(_, order), place| {
        last = Some((order, place));
        Ok(Flow::Stop)
    })?;
    Ok(last)
}

/// The room's current state as it was at `upto`: 0, the empty state, before its first event.
pub fn state_at(tx: &impl Read, room: RoomNum, upto: i64) -> Result<state::StateId> {
    Ok(last(tx, room, upto)?.map_or(0, |(_, place)| place.state_after))
}

/// One person's client looking at one room.
pub struct View<'a> {
    /// Which room.
    pub room: &'a Room,
    /// Who looks.
    pub user: &'a UserId,
    device: Option<&'a DeviceId>,
    /// Whom they ignore, once that is asked.
    ignored: OnceCell<HashSet<OwnedUserId>>,
    /// What they may see.
    pub sight: Sight<'a>,
    /// Whether events say which room they are in: not where the answer says so already.
    pub name_room: bool,
    now: u64,
}

impl<'a> View<'a> {
    /// The view of `user`, on `device` if the answer goes to one.
    pub fn new(tx: &impl Read, room: &'a Room, user: &'a UserId, device: Option<&'a DeviceId>) -> Result<Self> {
        Ok(Self {
            room,
            user,
            device,
            ignored: OnceCell::new(),
            sight: Sight::of(tx, room, user)?,
            name_room: true,
            now: clock::now_ms(),
        })
    }

    /// The event at `pos`, if the person may see it and wants to: of whom they ignore they see state alone.
    /// spec: client-server-api#ignoring-users
    pub fn see(&mut self, tx: &impl Read, pos: Pos) -> Result<Option<Box<RawValue>>> {
        let row = event::row(tx, pos)?;
        self.see_row(tx, pos, &row)
    }

    /// As [`Self::see`], for a row that has been read already.
    pub fn see_row(&mut self, tx: &impl Read, pos: Pos, row: &EventRow) -> Result<Option<Box<RawValue>>> {
        let slices = Slices::of(row)?;
        match slices.state_key.is_none() && self.ignores(tx, &slices.sender)? {
            true => Ok(None),
            false => self.see_slices(tx, pos, row, &slices),
        }
    }

    /// As [`Self::see_row`], for a row that has been sliced already, and whomever the person ignores.
    pub fn see_slices(
        &mut self,
        tx: &impl Read,
        pos: Pos,
        row: &EventRow,
        slices: &Slices<'_>,
    ) -> Result<Option<Box<RawValue>>> {
        if row.standing != Standing::Accepted || !self.sight.may_see(tx, pos, row, slices)? {
            return Ok(None);
        }
        if self.hides(tx, &slices.sender)? {
            return self.see_emptied(tx, (pos, row));
        }
        self.show(tx, (pos, row), slices).map(Some)
    }

    /// Whether the person sees nothing of what somebody said, as that one wanted to be forgotten before they came.
    pub fn hides(&mut self, tx: &impl Read, sender: &str) -> Result<bool> {
        match users::erased_at(tx, sender)? {
            Some(at) => Ok(!self.sight.was_in_before(tx, at)?),
            None => Ok(false),
        }
    }

    /// The event as one that was redacted, if the person may see it.
    pub fn see_emptied(&mut self, tx: &impl Read, (pos, row): (Pos, &EventRow)) -> Result<Option<Box<RawValue>>> {
        if !self.sight.may_see(tx, pos, row, &Slices::of(row)?)? {
            return Ok(None);
        }
        let emptied = redact::emptied(self.room, row)?;
        self.show(tx, (pos, &emptied), &Slices::of(&emptied)?).map(Some)
    }

    /// Whom the person ignores.
    pub fn ignored(&self, tx: &impl Read) -> Result<&HashSet<OwnedUserId>> {
        match self.ignored.get() {
            Some(known) => Ok(known),
            None => {
                let found = account_data::ignored(tx, self.user)?;
                Ok(self.ignored.get_or_init(|| found))
            }
        }
    }

    /// Whether the person ignores somebody.
    pub fn ignores(&self, tx: &impl Read, user: &str) -> Result<bool> {
        let ignored = self.ignored(tx)?;
        Ok(!ignored.is_empty() && UserId::parse(user).is_ok_and(|user| ignored.contains(&user)))
    }

    /// An event of the room's state, which whoever may see the state may see.
    pub fn show_state(&mut self, tx: &impl Read, pos: Pos) -> Result<Box<RawValue>> {
        let row = event::row(tx, pos)?;
        let slices = Slices::of(&row)?;
        self.show(tx, (pos, &row), &slices)
    }

    /// An event that the person is known to be allowed to see.
    pub fn show(&mut self, tx: &impl Read, (pos, row): (Pos, &EventRow), slices: &Slices<'_>) -> Result<Box<RawValue>> {
        let age = i128::from(self.now) - i128::from(slices.origin_server_ts);
        let mut unsigned = Unsigned {
            age: Some(i64::try_from(age).unwrap_or(0)),
            membership: Some(self.sight.membership(tx, row, slices)?),
            transaction_id: self.transaction_id(row, slices),
            delay_id: delayed::id_of(row).filter(|_| slices.sender == self.user.as_str()),
            ..Unsigned::default()
        };
        if let Some(key) = slices.state_key.as_deref() {
            add_replaced(tx, row, &slices.kind, key, &mut unsigned)?;
        }
        unsigned.relations = aggregations::of(tx, self, (pos, row), slices)?;
        if row.redacted_by != 0 {
            unsigned.redacted_because = Some(self.redaction(tx, row.redacted_by)?);
        }
        self.plain(row, slices, &unsigned)
    }

    /// An event with what is told besides it.
    pub(super) fn plain(&self, row: &EventRow, slices: &Slices<'_>, unsigned: &Unsigned) -> Result<Box<RawValue>> {
        client_form(row, slices, self.name_room.then_some(self.room.row.id.as_str()), unsigned)
    }

    /// The transaction ID, if it was this device that sent the event.
    fn transaction_id(&self, row: &EventRow, slices: &Slices<'_>) -> Option<String> {
        let (by, transaction) = row.sent_by.as_ref()?;
        (by == self.device?.as_str() && slices.sender == self.user.as_str()).then(|| transaction.clone())
    }

    fn redaction(&self, tx: &impl Read, pos: Pos) -> Result<Box<RawValue>> {
        let row = event::row(tx, pos)?;
        let slices = Slices::of(&row)?;
        client_form(&row, &slices, Some(self.room.row.id.as_str()), &Unsigned::default())
    }
}

/// An event as somebody is told of it who is no member and sees all: with `told`, what the room told who is
/// invited by it.
pub fn for_service(
    tx: &impl Read,
    room_id: &str,
    row: &EventRow,
    slices: &Slices<'_>,
    told: Option<Box<RawValue>>,
) -> Result<Box<RawValue>> {
    let age = i128::from(clock::now_ms()) - i128::from(slices.origin_server_ts);
    let mut unsigned =
        Unsigned { age: Some(i64::try_from(age).unwrap_or(0)), invite_room_state: told, ..Unsigned::default() };
    if let Some(key) = slices.state_key.as_deref() {
        add_replaced(tx, row, &slices.kind, key, &mut unsigned)?;
    }
    if row.redacted_by != 0 {
        let redaction = event::row(tx, row.redacted_by)?;
        let form = client_form(&redaction, &Slices::of(&redaction)?, Some(room_id), &Unsigned::default())?;
        unsigned.redacted_because = Some(form);
    }
    client_form(row, slices, Some(room_id), &unsigned)
}

/// Says which state event this one replaced, and what that one said.
fn add_replaced(tx: &impl Read, row: &EventRow, kind: &str, key: &str, unsigned: &mut Unsigned) -> Result<()> {
    let Some(number) = state::key(tx, kind, key)? else { return Ok(()) };
    let Some(pos) = state::at(tx, row.state_before, number)? else { return Ok(()) };
    let old = event::row(tx, pos)?;
    let slices = Slices::of(&old)?;
    unsigned.prev_content = Some(slices.content.to_owned());
    unsigned.prev_sender = Some(slices.sender.into_owned());
    unsigned.replaces_state = Some(old.id);
    Ok(())
}
