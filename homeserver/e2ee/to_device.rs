//! Messages from device to device: each waits in its device's queue until the device has said, by the
//! token of its next sync, that it came. Contents are sealed and pass through as they were sent.
//! spec: client-server-api#send-to-device-messaging

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
};

use ruma::{
    OwnedServerName, OwnedUserId, ServerName, UserId,
    api::{client::to_device::send_event_to_device::v3::Messages, federation::transactions::edu::DirectDeviceContent},
    to_device::DeviceIdOrAllDevices,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    accounts::transactions::Transaction,
    base::{Pos, json, random},
    error::{Error, Result},
    rooms::outgoing::{self, Outgoing},
    store::{Flow, LAST, Read, WriteTx, tables},
};

/// A message's content at most.
const MAX_CONTENT: usize = 64 * 1024;
/// Messages in one request at most, with `*` as one.
const MAX_MESSAGES: usize = 10_000;
/// Messages that one job writes, more or less: a bound on how long it keeps others waiting.
const PER_JOB: usize = 250;
/// What `*` counts for in a job: more devices than people have. Their true number may change before a
/// request is tried again, which has to be divided alike.
const ALL_DEVICES: usize = 25;
/// Bytes of content that weigh as much as a message.
const HEAVY: usize = 4096;
/// Messages in one sync answer at most. spec: client-server-api#server-behaviour-1
const PER_SYNC: usize = 100;
/// Messages and bytes that wait for a device at most, more or less: the oldest give way.
const MAX_QUEUE: (usize, usize) = (20_000, 64 << 20);
/// Queues are measured at every so many-th position.
const MEASURED_EVERY: Pos = 256;

/// Messages from one other server that are remembered, so that none is delivered twice.
const MAX_RECEIVED: usize = 10_000;
/// Bytes that a message takes in an EDU besides its content, more or less.
const OVERHEAD: usize = 100;

/// What one person's devices are sent: for each device, or for all that are not named, the content.
type ForUser = (OwnedUserId, BTreeMap<DeviceIdOrAllDevices, String>);

/// Checks the messages of a request and divides them into what one job each should write. Messages for
/// people of other servers are left out.
pub fn check(me: &ServerName, kind: &str, messages: Messages) -> Result<Vec<Vec<ForUser>>> {
    if kind.len() > 255 {
        return Err(Error::invalid_param("the event type is longer than 255 bytes"));
    }
    if messages.values().map(BTreeMap::len).sum::<usize>() > MAX_MESSAGES {
        return Err(Error::too_large(format!("send {MAX_MESSAGES} messages at once at most")));
    }
    let (mut jobs, mut job, mut size) = (Vec::new(), Vec::new(), 0);
    for (user, devices) in messages {
        let mut contents = BTreeMap::new();
        for (device, content) in devices {
            let content = content.json().get();
            if content.len() > MAX_CONTENT {
                return Err(Error::too_large(format!("a message's content is larger than {MAX_CONTENT} bytes")));
            }
            if !content.starts_with('{') {
                return Err(Error::bad_json("a message's content must be an object"));
            }
            contents.insert(device, content.to_owned());
        }
        if user.server_name() != me {
            continue;
        }
        let all = contents.contains_key(&DeviceIdOrAllDevices::AllDevices);
        size += contents.len() + if all { ALL_DEVICES - 1 } else { 0 };
        job.push((user, contents));
        if size >= PER_JOB {
            jobs.push(mem::take(&mut job));
            size = 0;
        }
    }
    if !job.is_empty() {
        jobs.push(job);
    }
    Ok(jobs)
}

/// What the messages of a request weigh to a rate limit: each by its size, `*` as often as there are
/// devices. 413 if there are too many.
pub fn weight(tx: &impl Read, jobs: &[Vec<ForUser>]) -> Result<u32> {
    let (mut messages, mut weight) = (0, 0);
    for (user, contents) in jobs.iter().flatten() {
        for (device, content) in contents {
            let times = match device {
                DeviceIdOrAllDevices::AllDevices => devices(tx, user)?.len().max(1),
                DeviceIdOrAllDevices::DeviceId(_) => 1,
            };
            messages += times;
            weight += times * (1 + content.len() / HEAVY);
        }
        if messages > MAX_MESSAGES {
            return Err(Error::too_large(format!("send {MAX_MESSAGES} messages at once at most")));
        }
    }
    Ok(u32::try_from(weight).unwrap_or(u32::MAX))
}

#[derive(Serialize)]
struct Event<'a> {
    content: &'a RawValue,
    sender: &'a UserId,
    #[serde(rename = "type")]
    kind: &'a str,
}

/// Puts messages into the queues of the devices that there are. The same transaction again does nothing.
pub fn send(tx: &WriteTx, transaction: &Transaction, sender: &UserId, kind: &str, messages: &[ForUser]) -> Result<()> {
    if transaction.outcome(tx)?.is_some() {
        return Ok(());
    }
    let pos = tx.next_pos();
    for (user, contents) in messages {
        deliver(tx, pos, (sender, kind), (user, contents))?;
    }
    transaction.done(tx, "")
}

/// Puts messages into the queues of the devices that a person has.
fn deliver(
    tx: &WriteTx,
    pos: Pos,
    (sender, kind): (&UserId, &str),
    (user, contents): (&UserId, &BTreeMap<DeviceIdOrAllDevices, String>),
) -> Result<()> {
    let mut woken = false;
    for device in &devices(tx, user)? {
        let named = DeviceIdOrAllDevices::DeviceId(device.as_str().into());
        let content = contents.get(&named).or_else(|| contents.get(&DeviceIdOrAllDevices::AllDevices));
        let Some(content) = content else { continue };
        let content: &RawValue = serde_json::from_str(content).map_err(Error::internal)?;
        let event = json::to_raw(&Event { content, sender, kind })?;
        tables::TO_DEVICE.put(tx, (user.as_str(), device.as_str(), pos), &event.get().to_owned())?;
        if pos.is_multiple_of(MEASURED_EVERY) {
            trim(tx, user, device, MAX_QUEUE)?;
        }
        woken = true;
    }
    if woken {
        tx.wake(|wake| {
            wake.users.insert(user.to_owned());
        });
    }
    Ok(())
}

/// Puts messages that came from another server into the queues of our devices. The same message again does
/// nothing. spec: server-server-api#send-to-device-messaging
pub fn receive(tx: &WriteTx, me: &ServerName, told: &DirectDeviceContent) -> Result<()> {
    let (origin, id, kind) = (told.sender.server_name().as_str(), told.message_id.as_str(), told.ev_type.to_string());
    if tables::RECEIVED_TO_DEVICE.has(tx, (origin, id))? {
        return Ok(());
    }
    let pos = tx.next_pos();
    tables::RECEIVED_TO_DEVICE.put(tx, (origin, id), &pos)?;
    tables::RECEIVED_TO_DEVICE_LOG.put(tx, (origin, pos), &id.to_owned())?;
    if pos.is_multiple_of(MEASURED_EVERY) {
        forget_received(tx, origin)?;
    }
    for (user, devices) in told.messages.iter().filter(|(user, _)| user.server_name() == me) {
        let fits = |content: &str| content.len() <= MAX_CONTENT && content.starts_with('{');
        let contents = devices.iter().filter(|(_, content)| fits(content.json().get()));
        let contents = contents.map(|(device, content)| (device.clone(), content.json().get().to_owned())).collect();
        deliver(tx, pos, (&told.sender, &kind), (user, &contents))?;
    }
    Ok(())
}

/// Whether a message from another server can be taken: what keys hold is short.
pub fn is_fit(told: &DirectDeviceContent) -> bool {
    let count: usize = told.messages.values().map(BTreeMap::len).sum();
    (1..=255).contains(&told.message_id.as_str().len())
        && told.ev_type.to_string().len() <= 255
        && count <= MAX_MESSAGES
}

/// Forgets the oldest messages that a server sent: nobody sends those again.
fn forget_received(tx: &WriteTx, origin: &str) -> Result<()> {
    let (mut count, mut old) = (0, Vec::new());
    tables::RECEIVED_TO_DEVICE_LOG.scan_back(tx, (origin, 0)..=(origin, Pos::MAX), |(_, pos), id| {
        count += 1;
        if count > MAX_RECEIVED {
            old.push((pos, id));
        }
        Ok(Flow::Next)
    })?;
    for (pos, id) in old {
        tables::RECEIVED_TO_DEVICE.remove(tx, (origin, &*id))?;
        tables::RECEIVED_TO_DEVICE_LOG.remove(tx, (origin, pos))?;
    }
    Ok(())
}

/// Messages for people of one other server, in pieces that are sent as one EDU each.
pub type ForServer = (OwnedServerName, Vec<String>);

/// What a request sends to other servers, as the contents of EDUs.
pub fn for_others(me: &ServerName, (sender, kind): (&UserId, &str), messages: &Messages) -> Result<Vec<ForServer>> {
    let mut servers = BTreeMap::<OwnedServerName, Vec<Piece<'_>>>::new();
    for (user, devices) in messages.iter().filter(|(user, _)| user.server_name() != me) {
        let pieces = servers.entry(user.server_name().to_owned()).or_default();
        for (device, content) in devices {
            let length = content.json().get().len();
            let fits = pieces.last().is_some_and(|piece| piece.size + length <= MAX_CONTENT);
            if !fits {
                pieces.push(Piece::default());
            }
            let Some(piece) = pieces.last_mut() else { continue };
            piece.size += length + OVERHEAD;
            piece.messages.entry(user).or_default().insert(device.to_string(), content.json());
        }
    }
    let content = |piece: Piece<'_>| {
        let message_id = random::id::<32>();
        let told = Told { sender, kind, message_id, messages: piece.messages };
        serde_json::to_string(&told).map_err(Error::internal)
    };
    let of_server =
        |(server, pieces): (_, Vec<_>)| Ok((server, pieces.into_iter().map(content).collect::<Result<_>>()?));
    servers.into_iter().map(of_server).collect()
}

/// What messages for other servers weigh to a rate limit, each by its size.
pub fn weight_for_others(others: &[ForServer]) -> u32 {
    let weight = |content: &String| 1 + content.len() / HEAVY;
    let weight: usize = others.iter().flat_map(|(_, contents)| contents).map(weight).sum();
    u32::try_from(weight).unwrap_or(u32::MAX)
}

#[derive(Default)]
struct Piece<'a> {
    size: usize,
    messages: BTreeMap<&'a UserId, BTreeMap<String, &'a RawValue>>,
}

#[derive(Serialize)]
struct Told<'a> {
    sender: &'a UserId,
    #[serde(rename = "type")]
    kind: &'a str,
    message_id: String,
    messages: BTreeMap<&'a UserId, BTreeMap<String, &'a RawValue>>,
}

/// Puts messages into the queues of other servers. The same transaction again does nothing.
pub fn send_to_others(tx: &WriteTx, transaction: &Transaction, messages: &[ForServer]) -> Result<()> {
    if transaction.outcome(tx)?.is_some() {
        return Ok(());
    }
    for (server, contents) in messages {
        for content in contents {
            let pos = tx.next_pos();
            tables::OUTGOING_TO_DEVICE.put(tx, (server.as_str(), pos), content)?;
            outgoing::log(tx, pos, &Outgoing::ToDevice { server: server.to_string() })?;
            if pos.is_multiple_of(MEASURED_EVERY) {
                trim_server(tx, server.as_str())?;
            }
        }
    }
    transaction.done(tx, "")
}

/// Takes the oldest messages away that wait for a server which does not come.
fn trim_server(tx: &WriteTx, server: &str) -> Result<()> {
    let (mut count, mut size, mut last) = (0, 0, None);
    tables::OUTGOING_TO_DEVICE.scan_back(tx, (server, 0)..=(server, Pos::MAX), |(_, pos), content| {
        (count, size) = (count + 1, size + content.len());
        let over = count > MAX_QUEUE.0 || size > MAX_QUEUE.1;
        last = over.then_some(pos);
        Ok(if over { Flow::Stop } else { Flow::Next })
    })?;
    match last {
        Some(last) => tables::OUTGOING_TO_DEVICE.remove_range(tx, (server, 0)..=(server, last)),
        None => Ok(()),
    }
}

/// The devices of a person.
/// The devices that a person has.
pub fn devices(tx: &impl Read, user: &UserId) -> Result<Vec<String>> {
    let range = (user.as_str(), "")..=(user.as_str(), LAST);
    tables::DEVICES.collect(tx, range, |(_, device), _| device.to_owned())
}

/// Takes messages away until a queue is within its bounds: the oldest of whoever has most in it, so
/// that a stranger can't push out what others sent.
fn trim(tx: &WriteTx, user: &UserId, device: &str, (most, bytes): (usize, usize)) -> Result<()> {
    #[derive(Deserialize)]
    struct Sent {
        sender: String,
    }
    let (mut count, mut size) = (0, 0);
    tables::TO_DEVICE.scan(tx, queue(user, device, 0, Pos::MAX), |_, event| {
        (count, size) = (count + 1, size + event.len());
        Ok(Flow::Next)
    })?;
    if count <= most && size <= bytes {
        return Ok(());
    }
    let mut shares = BTreeMap::<String, (usize, VecDeque<(Pos, usize)>)>::new();
    tables::TO_DEVICE.scan(tx, queue(user, device, 0, Pos::MAX), |(_, _, pos), event| {
        let sender = serde_json::from_str(&event).map_or_else(|_| String::new(), |sent: Sent| sent.sender);
        let (held, sent) = shares.entry(sender).or_default();
        *held += event.len() + bytes / most;
        sent.push_back((pos, event.len()));
        Ok(Flow::Next)
    })?;
    while count > most || size > bytes {
        let Some((held, sent)) = shares.values_mut().max_by_key(|(held, _)| *held) else { break };
        let Some((pos, length)) = sent.pop_front() else { break };
        *held -= length + bytes / most;
        (count, size) = (count - 1, size - length);
        tables::TO_DEVICE.remove(tx, (user.as_str(), device, pos))?;
    }
    Ok(())
}

type Key<'a> = (&'a str, &'a str, Pos);

fn queue<'a>(user: &'a UserId, device: &'a str, from: Pos, to: Pos) -> std::ops::RangeInclusive<Key<'a>> {
    (user.as_str(), device, from)..=(user.as_str(), device, to)
}

/// What a sync delivers.
#[derive(Debug, PartialEq, Eq)]
pub struct Pending {
    /// Messages as JSON, the oldest first.
    pub events: Vec<String>,
    /// How far they go: the `to_device` of the answer's token.
    pub upto: Pos,
}

/// The messages that wait for a device after `after` up to `upto`, as many as one answer takes.
pub fn pending(tx: &impl Read, user: &UserId, device: &str, after: Pos, upto: Pos) -> Result<Pending> {
    let mut pending = Pending { events: Vec::new(), upto };
    let mut last = after;
    tables::TO_DEVICE.scan(tx, queue(user, device, after.saturating_add(1), upto), |(_, _, pos), event| {
        if pending.events.len() == PER_SYNC {
            pending.upto = last;
            return Ok(Flow::Stop);
        }
        pending.events.push(event);
        last = pos;
        Ok(Flow::Next)
    })?;
    Ok(pending)
}

/// The next person with messages, after `user` in the order of their IDs.
pub fn next_recipient(tx: &impl Read, user: &str) -> Result<Option<String>> {
    let mut found = None;
    tables::TO_DEVICE.scan(tx, (user, LAST, Pos::MAX).., |(next, ..), _| {
        found = Some(next.to_owned());
        Ok(Flow::Stop)
    })?;
    Ok(found)
}

/// The messages for all devices of a person after `after` up to `upto`, each with its position and its device.
/// Of one that has more than `most`, that many of the oldest.
pub fn for_all_devices(
    tx: &impl Read,
    user: &UserId,
    (after, upto): (Pos, Pos),
    most: usize,
) -> Result<Vec<(Pos, String, String)>> {
    let mut out = Vec::new();
    for device in devices(tx, user)? {
        let mut count = 0;
        tables::TO_DEVICE.scan(tx, queue(user, &device, after.saturating_add(1), upto), |(_, _, pos), event| {
            out.push((pos, device.clone(), event));
            count += 1;
            Ok(if count < most { Flow::Next } else { Flow::Stop })
        })?;
    }
    Ok(out)
}

/// Whether a device has delivered messages that are still kept: whether to call [`acknowledge`].
pub fn unacknowledged(tx: &impl Read, user: &UserId, device: &str, upto: Pos) -> Result<bool> {
    let mut found = false;
    tables::TO_DEVICE.scan(tx, queue(user, device, 0, upto), |_, _| {
        found = true;
        Ok(Flow::Stop)
    })?;
    Ok(found)
}

/// Takes away what a device has received.
pub fn acknowledge(tx: &WriteTx, user: &UserId, device: &str, upto: Pos) -> Result<()> {
    tables::TO_DEVICE.remove_range(tx, queue(user, device, 0, upto))
}

#[cfg(test)]
mod tests {
    use ruma::serde::Raw;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        e2ee::testing::{alice, bob, open},
        store::rows::DeviceRow,
    };

    fn messages(value: Value) -> Messages {
        serde_json::from_value(value).expect("messages")
    }

    fn checked(value: Value) -> Vec<ForUser> {
        check(alice().server_name(), "m.test", messages(value)).expect("good").concat()
    }

    fn transaction(id: &str) -> Transaction {
        Transaction {
            user: alice().to_string(),
            device: "PHONE".into(),
            endpoint: "sendToDevice/m.test".into(),
            id: id.into(),
        }
    }

    fn with_devices(tx: &WriteTx) -> Result<()> {
        for device in ["ONE", "TWO"] {
            tables::DEVICES.put(tx, (bob().as_str(), device), &DeviceRow::default())?;
        }
        Ok(())
    }

    fn waiting(tx: &impl Read, device: &str) -> Vec<Value> {
        let pending = pending(tx, bob(), device, 0, u64::MAX).expect("read");
        pending.events.iter().map(|event| serde_json::from_str(event).expect("JSON")).collect()
    }

    #[tokio::test]
    async fn messages_reach_named_devices_and_all_and_unknown_ones_nowhere() {
        let (_dir, store) = open();
        let sent = store.write(|tx| {
            with_devices(tx)?;
            let all = checked(json!({ bob().as_str(): { "*": { "n": 1 }, "TWO": { "n": 2 }, "GONE": { "n": 3 } } }));
            send(tx, &transaction("a"), alice(), "m.test", &all)?;
            assert_eq!(weight(tx, &[all])?, 4, "two devices, and two that are named");
            let event = |n| vec![json!({ "sender": alice(), "type": "m.test", "content": { "n": n } })];
            assert_eq!(waiting(tx, "ONE"), event(1));
            assert_eq!(waiting(tx, "TWO"), event(2), "the device's own message goes before that for all");
            assert!(waiting(tx, "GONE").is_empty());
            Ok(())
        });
        sent.await.expect("written");
    }

    #[tokio::test]
    async fn the_same_transaction_again_sends_nothing() {
        let (_dir, store) = open();
        let sent = store.write(|tx| {
            with_devices(tx)?;
            let one = checked(json!({ bob().as_str(): { "ONE": {} } }));
            for id in ["a", "a", "b"] {
                send(tx, &transaction(id), alice(), "m.test", &one)?;
            }
            let long = send(tx, &transaction(&"x".repeat(256)), alice(), "m.test", &one);
            assert_eq!(long.expect_err("too long").errcode(), "M_INVALID_PARAM");
            Ok(waiting(tx, "ONE").len())
        });
        assert_eq!(sent.await.expect("written"), 2);
    }

    #[tokio::test]
    async fn a_sync_delivers_a_hundred_and_acknowledges_those_alone() {
        let (_dir, store) = open();
        let sent = store.write(|tx| {
            with_devices(tx)?;
            let one = checked(json!({ bob().as_str(): { "ONE": {} } }));
            for n in 0..150 {
                send(tx, &transaction(&n.to_string()), alice(), "m.test", &one)?;
            }
            let now = tx.pos()?;
            let first = pending(tx, bob(), "ONE", 0, now)?;
            assert_eq!((first.events.len(), first.upto), (100, 100));
            assert!(unacknowledged(tx, bob(), "ONE", first.upto)?);
            acknowledge(tx, bob(), "ONE", first.upto)?;
            assert!(!unacknowledged(tx, bob(), "ONE", first.upto)?);
            let second = pending(tx, bob(), "ONE", first.upto, now)?;
            assert_eq!((second.events.len(), second.upto), (50, now));
            Ok(())
        });
        sent.await.expect("written");
    }

    #[tokio::test]
    async fn a_queue_has_bounds_in_messages_and_in_bytes() {
        let (_dir, store) = open();
        let sent = store.write(|tx| {
            for pos in 1..=20 {
                tables::TO_DEVICE.put(tx, (bob().as_str(), "ONE", pos), &"x".repeat(10))?;
            }
            trim(tx, bob(), "ONE", (20, 200))?;
            assert_eq!(pending(tx, bob(), "ONE", 0, 99)?.events.len(), 20);
            trim(tx, bob(), "ONE", (15, 200))?;
            assert_eq!(pending(tx, bob(), "ONE", 0, 99)?.events.len(), 15);
            trim(tx, bob(), "ONE", (15, 49))?;
            assert_eq!(pending(tx, bob(), "ONE", 0, 99)?.events.len(), 4);
            assert_eq!(pending(tx, bob(), "ONE", 19, 99)?.events.len(), 1, "the newest are kept");
            Ok(())
        });
        sent.await.expect("written");
    }

    #[tokio::test]
    async fn a_stranger_pushes_out_nothing_but_what_is_their_own() {
        let (_dir, store) = open();
        let sent = store.write(|tx| {
            let put = |pos: Pos, sender: &str| {
                let event = json!({ "content": {}, "sender": sender, "type": "t" }).to_string();
                tables::TO_DEVICE.put(tx, (bob().as_str(), "ONE", pos), &event)
            };
            (1..=5).try_for_each(|pos| put(pos, "@friend:here"))?;
            (6..=40).try_for_each(|pos| put(pos, "@stranger:here"))?;
            trim(tx, bob(), "ONE", (20, 1 << 20))?;
            let senders: Vec<_> = waiting(tx, "ONE").iter().map(|event| event["sender"].clone()).collect();
            assert_eq!(senders.len(), 20);
            assert_eq!(senders.iter().filter(|sender| **sender == "@friend:here").count(), 5);
            Ok(())
        });
        sent.await.expect("written");
    }

    #[test]
    fn what_is_too_large_or_no_object_is_refused_and_much_is_divided() {
        let me = alice().server_name();
        let long = messages(json!({ bob().as_str(): { "ONE": { "x": "x".repeat(MAX_CONTENT) } } }));
        assert_eq!(check(me, "m.test", long).expect_err("too large").errcode(), "M_TOO_LARGE");
        let text = messages(json!({ bob().as_str(): { "ONE": "x" } }));
        assert_eq!(check(me, "m.test", text).expect_err("no object").errcode(), "M_BAD_JSON");
        let elsewhere = messages(json!({ "@c:elsewhere": { "ONE": {} } }));
        assert!(check(me, "m.test", elsewhere).expect("good").is_empty());
        let many: Messages = (0..600)
            .map(|n| {
                let content = Raw::from_json(json::raw("{}".into()).expect("JSON"));
                let user = format!("@u{n}:here").try_into().expect("an ID");
                (user, BTreeMap::from([(DeviceIdOrAllDevices::AllDevices, content)]))
            })
            .collect();
        let sizes: Vec<_> = check(me, "m.test", many).expect("good").iter().map(Vec::len).collect();
        assert_eq!(sizes, [vec![10; 60]].concat(), "with `*` for the devices that people may have");
    }
}
