//! How much somebody has not read: the events of a room that their push rules notify them of, by
//! thread, after what they have read. Worked out when they ask, each event once, and remembered; who is
//! away costs nothing. spec: client-server-api#receiving-notifications

use std::{
    cell::Cell,
    collections::{BTreeMap, HashSet},
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use quick_cache::{Weighter, sync::Cache};
use ruma::{
    OwnedUserId, UInt, UserId,
    events::StateEventType,
    push::{Action, AnyPushRuleRef, FlattenedJson, PushConditionPowerLevelsCtx, PushConditionRoomCtx, Ruleset},
    serde::Raw,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use super::{
    event::{self, Slices},
    members,
    power::Powers,
    receipts,
    room::Room,
    state, threads,
    timeline::{self, order_of},
};
use crate::{
    base::{Pos, RoomNum, json},
    error::Result,
    store::{
        Read, WriteTx,
        rows::{Place, UnreadRow},
        tables,
    },
};

/// Events of a room that are judged at once at most: of a longer absence the oldest are left out.
const MAX_GAP: usize = 2000;
/// Events of a room that are judged even if a request has judged very many already.
const MIN_GAP: usize = 50;
/// Events that one request judges, more or less.
const MAX_JUDGED: usize = 50_000;
/// Unread events of a room that are remembered: counts go no higher.
const MAX_UNREAD: usize = 2000;
/// A memo that has come this many events further is written down.
const SAVE_EVERY: usize = 200;
/// Events in their flattened form that are kept for the next reader.
const FLAT_EVENTS: usize = 1024;
/// Rooms of which it is kept what rules look at, for the next reader of the same moment.
const AROUND: usize = 256;
/// The thread of what is in no thread.
const MAIN: &str = "main";

/// Who reads.
pub struct Reader<'a> {
    /// Whose counts.
    pub user: &'a UserId,
    /// Their push rules.
    pub rules: &'a Ruleset,
    /// Whom they ignore.
    pub ignored: &'a HashSet<OwnedUserId>,
    /// Whether a rule of theirs looks for their name.
    by_name: bool,
    /// Events that may still be judged for this request.
    budget: Cell<usize>,
}

impl<'a> Reader<'a> {
    /// A reader at the beginning of a request.
    pub fn new(user: &'a UserId, rules: &'a Ruleset, ignored: &'a HashSet<OwnedUserId>) -> Self {
        Self { user, rules, ignored, by_name: looks_for_name(rules), budget: MAX_JUDGED.into() }
    }

    fn ignores(&self, user: &str) -> bool {
        self.ignored.iter().any(|ignored| ignored.as_str() == user)
    }
}

/// Events that notify, and those of them that highlight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Those that highlight.
    #[serde(rename = "highlight_count")]
    pub highlight: usize,
    /// All.
    #[serde(rename = "notification_count")]
    pub notify: usize,
}

/// The counts of a room.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// By thread; what is in none is in "main". Threads without unread events are left out.
    pub threads: BTreeMap<String, Count>,
    /// What should be written down, by [`save`].
    pub to_save: Option<UnreadRow>,
}

impl Counts {
    /// The counts of one thread.
    pub fn of(&self, thread: &str) -> Count {
        self.threads.get(thread).copied().unwrap_or_default()
    }

    /// The counts of all together.
    pub fn total(&self) -> Count {
        let add = |sum: Count, count: &Count| Count {
            notify: sum.notify + count.notify,
            highlight: sum.highlight + count.highlight,
        };
        self.threads.values().fold(Count::default(), add)
    }
}

#[derive(Clone, Default)]
struct Memo {
    row: UnreadRow,
    /// Events judged since it was written down.
    unsaved: usize,
}

#[derive(Clone)]
struct Weight;

impl Weighter<(RoomNum, OwnedUserId), Arc<Memo>> for Weight {
    fn weight(&self, (_, user): &(RoomNum, OwnedUserId), memo: &Arc<Memo>) -> u64 {
        let unread = |(thread, events): (&String, &Vec<_>)| thread.len() + 48 + 16 * events.len();
        (user.as_str().len() + 128 + memo.row.threads.iter().map(unread).sum::<usize>()) as u64
    }
}

/// What has been worked out so far, for everybody.
pub struct Unread {
    memos: Cache<(RoomNum, OwnedUserId), Arc<Memo>, Weight>,
    flat: Cache<Pos, Arc<Judged>>,
    /// With the position of the snapshot that it was read from.
    around: Cache<RoomNum, (Pos, Arc<Surroundings>)>,
}

/// What judging an event needs, which is the same for every reader.
pub struct Judged {
    /// Who sent it.
    pub sender: String,
    /// Its state key.
    pub state_key: Option<String>,
    /// Its type.
    pub kind: String,
    /// The thread that it is in.
    pub thread: String,
    redacts: Option<String>,
    /// It came after its redaction, or is judged after it: nobody is told of it.
    is_redacted: bool,
    flat: FlattenedJson,
}

impl Judged {
    /// Whether it takes back what another one said.
    pub fn is_redaction(&self) -> bool {
        self.redacts.is_some()
    }
}

/// What rules look at beside the event: the same for everybody in a room but for their name.
pub struct Surroundings {
    joined: UInt,
    levels: Option<PushConditionPowerLevelsCtx>,
}

impl Surroundings {
    /// Those of a room as it stands; of one that was never entered nothing is known.
    pub fn of(tx: &impl Read, room: &Room) -> Result<Self> {
        let levels = if room.row.state == 0 { None } else { Powers::of(tx, room)?.for_push() };
        Ok(Self { joined: UInt::new_saturating(room.row.joined), levels })
    }

    fn around(&self, tx: &impl Read, room: &Room, reader: &Reader<'_>) -> Result<PushConditionRoomCtx> {
        let name = if reader.by_name { name(tx, room, reader.user)? } else { reader.user.to_string() };
        let context = PushConditionRoomCtx::new(room.id().to_owned(), self.joined, reader.user.to_owned(), name);
        Ok(match &self.levels {
            Some(levels) => context.with_power_levels(levels.clone()),
            None => context,
        })
    }
}

impl Unread {
    /// An empty memory of at most `bytes`.
    pub fn new(bytes: u64) -> Self {
        Self {
            memos: Cache::with_weighter(1024, bytes, Weight),
            flat: Cache::new(FLAT_EVENTS),
            around: Cache::new(AROUND),
        }
    }

    /// The reader's counts in a room as it was at `upto`.
    pub fn counts(&self, tx: &impl Read, room: &Room, reader: &Reader<'_>, upto: i64) -> Result<Counts> {
        let key = (room.num, reader.user.to_owned());
        let mut memo = match self.memos.get(&key) {
            Some(memo) => memo,
            None => Arc::new(self.recall(tx, room, reader)?),
        };
        if memo.row.counted < upto {
            self.go_on(tx, room, reader, Arc::make_mut(&mut memo), upto)?;
        }
        if !memo.row.threads.is_empty() {
            let read = receipts::read_upto(tx, room.num, reader.user)?;
            let memo = Arc::make_mut(&mut memo);
            memo.row.threads.retain(|thread, events| {
                let upto = read.get("").max(read.get(thread)).copied().unwrap_or(i64::MIN);
                events.retain(|(order, _)| *order > upto);
                !events.is_empty()
            });
        }
        let to_save = (memo.unsaved >= SAVE_EVERY).then(|| {
            Arc::make_mut(&mut memo).unsaved = 0;
            memo.row.clone()
        });
        let count = |events: &Vec<(i64, bool)>| Count {
            notify: events.len(),
            highlight: events.iter().filter(|(_, highlight)| *highlight).count(),
        };
        let threads = memo.row.threads.iter().map(|(thread, events)| (thread.clone(), count(events))).collect();
        self.memos.insert(key, memo);
        Ok(Counts { threads, to_save })
    }

    /// The memo that was written down, or one that begins where the reader has surely read to.
    fn recall(&self, tx: &impl Read, room: &Room, reader: &Reader<'_>) -> Result<Memo> {
        if let Some(row) = tables::UNREAD.get(tx, (reader.user.as_str(), room.num))? {
            return Ok(Memo { row, unsaved: 0 });
        }
        let read = receipts::read_upto(tx, room.num, reader.user)?.get("").copied();
        let member = members::of(tx, room.num, reader.user)?.filter(|row| row.event != 0);
        let fresh = match &member {
            Some(row) => !was_joined(tx, event::row(tx, row.event)?.state_before, reader.user)?,
            None => false,
        };
        let joined = member.filter(|_| fresh).map(|row| order_of(row.since()));
        let counted = read.max(joined).unwrap_or(i64::MIN);
        Ok(Memo { row: UnreadRow { counted, threads: BTreeMap::new() }, unsaved: 0 })
    }

    /// Judges what has come since.
    fn go_on(&self, tx: &impl Read, room: &Room, reader: &Reader<'_>, memo: &mut Memo, upto: i64) -> Result<()> {
        let gap = reader.budget.get().clamp(MIN_GAP, MAX_GAP);
        let mut places = timeline::back(tx, room.num, memo.row.counted, upto, gap)?;
        reader.budget.set(reader.budget.get().saturating_sub(places.len()));
        places.reverse();
        let context = std::cell::OnceCell::new();
        for (order, place) in &places {
            let judged = self.judged(tx, room, place.event)?;
            let context = || -> Result<&PushConditionRoomCtx> {
                match context.get() {
                    Some(context) => Ok(context),
                    None => {
                        let made = self.surroundings(tx, room)?.around(tx, room, reader)?;
                        Ok(context.get_or_init(|| made))
                    }
                }
            };
            judge(tx, (*order, place), &judged, reader, &mut memo.row, context)?;
        }
        memo.row.counted = upto;
        memo.unsaved += places.len();
        Ok(())
    }

    /// What rules look at in a room: once for all whom one commit has woken.
    fn surroundings(&self, tx: &impl Read, room: &Room) -> Result<Arc<Surroundings>> {
        let now = tx.pos()?;
        match self.around.get(&room.num) {
            Some((at, known)) if at == now => Ok(known),
            _ => {
                let found = Arc::new(Surroundings::of(tx, room)?);
                self.around.insert(room.num, (now, found.clone()));
                Ok(found)
            }
        }
    }

    /// What rules have done about an event for somebody who is there to be notified; None if nothing.
    pub fn actions(
        &self,
        tx: &impl Read,
        room: &Room,
        event: Pos,
        reader: &Reader<'_>,
        around: &Surroundings,
    ) -> Result<Option<Vec<Action>>> {
        let judged = self.judged(tx, room, event)?;
        let hidden = judged.state_key.is_none() || judged.kind == "m.room.member";
        if judged.sender == reader.user.as_str() || (hidden && reader.ignores(&judged.sender)) {
            return Ok(None);
        }
        let context = around.around(tx, room, reader)?;
        let rule = deciding(reader.rules, &judged.flat, &context).filter(|rule| rule.triggers_notification());
        Ok(rule.map(|rule| rule.actions().to_vec()))
    }

    /// What an event is to judge.
    pub fn judged(&self, tx: &impl Read, room: &Room, event: Pos) -> Result<Arc<Judged>> {
        self.flat.get_or_insert_with(&event, || {
            let row = event::row(tx, event)?;
            let slices = Slices::of(&row)?;
            Ok(Arc::new(Judged {
                thread: threads::of(tx, room.num, &slices)?.unwrap_or_else(|| MAIN.to_owned()),
                redacts: redacted(&slices),
                is_redacted: row.redacted_by != 0,
                flat: flatten(&slices, room.id().as_str(), &row.id)?,
                sender: slices.sender.into_owned(),
                state_key: slices.state_key.map(|key| key.into_owned()),
                kind: slices.kind.into_owned(),
            }))
        })
    }
}

/// Writes down what [`Unread::counts`] found.
pub fn save(tx: &WriteTx, user: &UserId, room: RoomNum, row: &UnreadRow) -> Result<()> {
    tables::UNREAD.put(tx, (user.as_str(), room), row)
}

/// What one event does to somebody's unread events.
fn judge<'c>(
    tx: &impl Read,
    (order, place): (i64, &Place),
    event: &Judged,
    reader: &Reader<'_>,
    row: &mut UnreadRow,
    context: impl Fn() -> Result<&'c PushConditionRoomCtx>,
) -> Result<()> {
    let is_own_member = event.kind == "m.room.member" && event.state_key.as_deref() == Some(reader.user.as_str());
    if is_own_member && !was_joined(tx, event::row(tx, place.event)?.state_before, reader.user)? {
        // What was said before somebody came does not notify them.
        row.threads.clear();
        return Ok(());
    }
    if let Some(redacted) = &event.redacts
        && let Some(pos) = tables::EVENT_IDS.get(tx, redacted.as_str())?
        && let Some(redacted) = timeline::order(tx, pos)?
    {
        row.threads.values_mut().for_each(|events| events.retain(|(order, _)| *order != redacted));
        row.threads.retain(|_, events| !events.is_empty());
    }
    if event.sender == reader.user.as_str() {
        // Who answers has read. spec: client-server-api#marking-notifications-as-read
        if event.state_key.is_none() {
            row.threads.remove(&event.thread);
        }
        return Ok(());
    }
    if event.is_redacted || (reader.ignores(&event.sender) && event.state_key.is_none()) {
        return Ok(());
    }
    let Some(highlight) = notifies(reader.rules, &event.flat, context()?) else { return Ok(()) };
    row.threads.entry(event.thread.clone()).or_default().push((order, highlight));
    if row.threads.values().map(Vec::len).sum::<usize>() > MAX_UNREAD
        && let Some(longest) = row.threads.values_mut().max_by_key(|events| events.len())
    {
        longest.remove(0);
    }
    Ok(())
}

/// Whether rules say that an event as it is stored notifies, and if so, whether it highlights.
pub fn verdict(rules: &Ruleset, event: &Slices<'_>, context: &PushConditionRoomCtx) -> Result<Option<bool>> {
    Ok(notifies(rules, &flatten(event, context.room_id.as_str(), "")?, context))
}

/// Whether rules say that an event notifies, and if so, whether it highlights.
fn notifies(rules: &Ruleset, event: &FlattenedJson, context: &PushConditionRoomCtx) -> Option<bool> {
    let rule = deciding(rules, event, context)?;
    rule.triggers_notification().then(|| rule.triggers_highlight())
}

/// The rule that decides about an event.
fn deciding<'r>(
    rules: &'r Ruleset,
    event: &FlattenedJson,
    context: &PushConditionRoomCtx,
) -> Option<AnyPushRuleRef<'r>> {
    rules.iter().find(|rule| at_once(rule.applies(event, context)).unwrap_or(false))
}

/// Whether a rule is about the name of whose it is.
fn looks_for_name(rules: &Ruleset) -> bool {
    let rules = rules.override_.iter().chain(&rules.underride);
    rules.flat_map(|rule| &rule.conditions).any(|condition| condition.kind() == "contains_display_name")
}

/// The outcome of a future that has nothing to wait for.
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    }
}

/// What somebody is called in a room. Who has no name there is never called by it.
fn name(tx: &impl Read, room: &Room, user: &UserId) -> Result<String> {
    #[derive(Deserialize)]
    struct Member {
        displayname: Option<String>,
    }
    let Some(member) = room.state_pos(tx, &StateEventType::RoomMember, user.as_str())? else {
        return Ok(user.to_string());
    };
    let row = event::row(tx, member)?;
    let member = serde_json::from_str::<Member>(Slices::of(&row)?.content.get());
    let name = member.ok().and_then(|member| member.displayname);
    Ok(name.filter(|name| !name.is_empty()).unwrap_or_else(|| user.to_string()))
}

fn was_joined(tx: &impl Read, before: state::StateId, user: &UserId) -> Result<bool> {
    match state::event(tx, before, &StateEventType::RoomMember, user.as_str())? {
        Some(pos) => Ok(super::Pdu::at(tx, pos)?.membership().as_deref() == Some("join")),
        None => Ok(false),
    }
}

fn redacted(event: &Slices<'_>) -> Option<String> {
    #[derive(Deserialize)]
    struct Content {
        redacts: String,
    }
    if event.kind != "m.room.redaction" {
        return None;
    }
    let inside = serde_json::from_str::<Content>(event.content.get()).ok().map(|content| content.redacts);
    inside.or_else(|| event.redacts.as_deref().map(str::to_owned))
}

/// The part of an event that push rules can look at.
fn flatten(event: &Slices<'_>, room_id: &str, event_id: &str) -> Result<FlattenedJson> {
    #[derive(Serialize)]
    struct Visible<'a> {
        content: &'a RawValue,
        event_id: &'a str,
        room_id: &'a str,
        origin_server_ts: u64,
        sender: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        state_key: Option<&'a str>,
        #[serde(rename = "type")]
        kind: &'a str,
    }
    let raw = json::to_raw(&Visible {
        content: event.content,
        event_id,
        room_id,
        origin_server_ts: event.origin_server_ts,
        sender: &event.sender,
        state_key: event.state_key.as_deref(),
        kind: &event.kind,
    })?;
    // Flattening parses again and takes for granted that this succeeds, which nesting could prevent.
    let nested = raw.get().bytes().filter(|byte| matches!(byte, b'{' | b'[')).count();
    let sound = nested < 100 || serde_json::from_str::<Value>(raw.get()).is_ok();
    let raw = if sound { raw } else { json::raw("{}".to_owned())? };
    Ok(FlattenedJson::from_raw(&Raw::<Value>::from_json(raw)))
}
