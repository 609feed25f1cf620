//! What is sent to one server next: gathered from the log of what others are to be told, in its order,
//! within the bounds of a transaction. Reads only; knows nothing of when it is sent.
//! spec: server-server-api#transactions

use std::collections::{BTreeMap, HashMap};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest::{Context, SHA256};
use ruma::{
    DeviceId, MilliSecondsSinceUnixEpoch, OwnedUserId, ServerName, UInt, UserId,
    api::federation::transactions::edu::{
        DeviceListUpdateContent, Edu, ReceiptContent, ReceiptData, ReceiptMap, SigningKeyUpdateContent,
    },
    events::receipt::{Receipt, ReceiptThread},
    serde::Raw,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    base::{Pos, RoomNum, json, signing::Identity},
    e2ee::{cross_signing, device_keys, device_lists},
    error::{Error, Result},
    rooms::{Room, outgoing, outgoing::Outgoing, receipts, servers},
    store::{Flow, Read, rows::ServerRow, tables},
};

/// Events and EDUs in one transaction at most. spec: server-server-api#transactions
const MAX_PDUS: usize = 50;
pub const MAX_EDUS: usize = 100;
/// Bytes of EDUs, more or less: room keys for many devices are large.
const MAX_EDU_BYTES: usize = 1 << 20;
/// Messages for devices in one transaction, which leave room for other EDUs.
const MAX_TO_DEVICE: usize = 50;
/// Entries of the log that are looked at for one transaction, and how many of them are read at once.
const MAX_SCAN: usize = 5000;
const READ: usize = 100;

/// A name for the device of somebody who has none, to say that something changed.
const NO_DEVICE: &str = "NONE";

/// What is wanted for a server.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// It has been told everything up to here.
    pub cursor: Pos,
    /// No further than here.
    pub limit: Pos,
    /// One thing at a time: what came before was refused.
    pub narrow: bool,
}

/// What is to be sent.
#[derive(Default)]
pub struct Batch {
    /// Events.
    pub pdus: Vec<Box<RawValue>>,
    /// Everything else.
    pub edus: Vec<Raw<Edu>>,
    /// Once it is taken, the server has been told everything up to here.
    pub upto: Pos,
    /// And its messages for devices up to here.
    pub to_device: Pos,
    /// Whether there is more.
    pub more: bool,
    /// The transaction's ID, but for what lives in memory only: the same positions and contents give the
    /// same, so that a server that took it already knows it again.
    pub id: String,
}

impl Batch {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.pdus.is_empty() && self.edus.is_empty()
    }
}

/// Gathers what a server is told next.
pub fn gather(tx: &impl Read, me: &Identity, server: &ServerName, wanted: &Wanted) -> Result<Batch> {
    let mut gathering = Gathering {
        tx,
        me,
        server,
        batch: Batch { upto: wanted.cursor, ..Batch::default() },
        receipts: Receipts::default(),
        edu_bytes: 0,
        most: if wanted.narrow { (1, 1, 1) } else { (MAX_PDUS, MAX_EDUS, MAX_TO_DEVICE) },
        rooms: HashMap::new(),
        company: HashMap::new(),
        hash: Context::new(&SHA256),
    };
    gathering.messages(wanted)?;
    let trimmed = tables::COUNTERS.get(tx, outgoing::TRIMMED)?.unwrap_or(0);
    match wanted.cursor < trimmed {
        true => gathering.catch_up(wanted.cursor, trimmed)?,
        false => gathering.log(wanted)?,
    }
    gathering.finish(wanted.cursor)
}

struct Gathering<'a, T> {
    tx: &'a T,
    me: &'a Identity,
    server: &'a ServerName,
    batch: Batch,
    receipts: Receipts,
    edu_bytes: usize,
    most: (usize, usize, usize),
    /// The server's stays in rooms that came up.
    rooms: HashMap<RoomNum, Option<ServerRow>>,
    /// People that came up, and whether the server is in a room with them.
    company: HashMap<String, bool>,
    hash: Context,
}

/// Where a piece of the log ends.
enum End {
    /// At the next piece.
    Piece,
    /// At what is not wanted.
    Wanted,
    /// Where there is no more.
    Log,
}

/// Receipts as EDUs want them: one of a person in a room in each. room → person → receipt
#[derive(Default)]
struct Receipts(Vec<BTreeMap<ruma::OwnedRoomId, BTreeMap<OwnedUserId, ReceiptData>>>);

impl Receipts {
    fn add(&mut self, room: &Room, user: OwnedUserId, receipt: ReceiptData) {
        let room = room.id().to_owned();
        let free = |edu: &&mut BTreeMap<_, BTreeMap<OwnedUserId, _>>| {
            !edu.get(&room).is_some_and(|people| people.contains_key(&user))
        };
        match self.0.iter_mut().find(free) {
            Some(edu) => drop(edu.entry(room).or_default().insert(user, receipt)),
            None => self.0.push(BTreeMap::from([(room, BTreeMap::from([(user, receipt)]))])),
        }
    }
}

impl<T: Read> Gathering<'_, T> {
    /// Messages for devices, which have a queue of their own: they come first, as room keys do before what
    /// they open.
    fn messages(&mut self, wanted: &Wanted) -> Result<()> {
        let (mut messages, mut more) = (Vec::new(), false);
        let server = self.server.as_str();
        let (mut bytes, most) = (0, self.most.2);
        tables::OUTGOING_TO_DEVICE.scan(self.tx, (server, 0)..=(server, wanted.limit), |(_, pos), content| {
            if messages.len() == most || bytes + content.len() > MAX_EDU_BYTES && !messages.is_empty() {
                more = true;
                return Ok(Flow::Stop);
            }
            bytes += content.len();
            messages.push((pos, content));
            Ok(Flow::Next)
        })?;
        for (pos, content) in messages {
            self.batch.to_device = pos;
            self.push_edu(Raw::from_json(json::raw(format!(
                "{{\"edu_type\":\"m.direct_to_device\",\"content\":{content}}}"
            ))?));
        }
        self.batch.more |= more;
        Ok(())
    }

    fn push_edu(&mut self, edu: Raw<Edu>) {
        let text = edu.json().get();
        self.edu_bytes += text.len();
        self.hash.update(text.as_bytes());
        self.batch.edus.push(edu);
    }

    fn edu(&mut self, edu: &Edu) -> Result<()> {
        self.push_edu(Raw::new(edu).map_err(Error::internal)?);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.batch.pdus.len() >= self.most.0
            || self.batch.edus.len() + self.receipts.0.len() >= self.most.1
            || self.edu_bytes > MAX_EDU_BYTES
    }

    /// The log from the cursor on, for as long as there is room.
    fn log(&mut self, wanted: &Wanted) -> Result<()> {
        for _ in 0..MAX_SCAN / READ {
            let (entries, end) = self.entries(wanted.limit)?;
            for (pos, entry) in entries {
                if self.is_full() || (self.most.0 == 1 && !self.batch.is_empty()) {
                    self.batch.more = true;
                    return Ok(());
                }
                self.take(pos, entry)?;
                self.batch.upto = pos;
            }
            match end {
                End::Piece => {}
                End::Wanted => break,
                End::Log => return Ok(()),
            }
        }
        self.batch.more = true;
        Ok(())
    }

    /// The next entries of the log, a piece at a time: most of a long log is beyond what one transaction takes.
    fn entries(&self, limit: Pos) -> Result<(Vec<(Pos, Outgoing)>, End)> {
        let (mut entries, mut end) = (Vec::with_capacity(READ), End::Log);
        outgoing::after(self.tx, self.batch.upto, |pos, entry| {
            if pos > limit {
                end = End::Wanted;
                return Ok(Flow::Stop);
            }
            entries.push((pos, entry));
            if entries.len() == READ {
                end = End::Piece;
                return Ok(Flow::Stop);
            }
            Ok(Flow::Next)
        })?;
        Ok((entries, end))
    }

    /// Takes an entry in, if it is for this server.
    fn take(&mut self, pos: Pos, entry: Outgoing) -> Result<()> {
        match entry {
            Outgoing::Event { room, aside }
                if aside.as_deref() == Some(self.server.as_str())
                    || self.stays(room)?.is_some_and(|row| row.was_there(pos)) =>
            {
                self.event(pos)
            }
            Outgoing::Receipt { room, user, thread } if self.stays(room)?.is_some_and(ServerRow::is_in) => {
                self.receipt(pos, (room, &user, &thread))
            }
            Outgoing::Device { user, device, prev } if self.is_company(&user)? => {
                self.device(pos, &user, &device, &[prev])
            }
            Outgoing::SigningKeys { user } if self.is_company(&user)? => self.signing_keys(&user),
            _ => Ok(()),
        }
    }

    fn stays(&mut self, room: RoomNum) -> Result<Option<&ServerRow>> {
        if !self.rooms.contains_key(&room) {
            let row = tables::ROOM_SERVERS.get(self.tx, (room, self.server.as_str()))?;
            self.rooms.insert(room, row);
        }
        Ok(self.rooms.get(&room).and_then(Option::as_ref))
    }

    fn is_company(&mut self, user: &str) -> Result<bool> {
        if let Some(known) = self.company.get(user) {
            return Ok(*known);
        }
        let parsed = <&UserId>::try_from(user).map_err(Error::internal)?;
        let shares = servers::shares_room(self.tx, self.server, parsed)?;
        self.company.insert(user.to_owned(), shares);
        Ok(shares)
    }

    fn event(&mut self, pos: Pos) -> Result<()> {
        #[derive(Deserialize)]
        struct Sent<'a> {
            #[serde(borrow)]
            sender: std::borrow::Cow<'a, str>,
        }
        // What was purged meanwhile is told to nobody any more.
        let Some(row) = tables::EVENTS.get(self.tx, pos)? else { return Ok(()) };
        let sent: Sent<'_> = serde_json::from_str(&row.pdu).map_err(Error::internal)?;
        // Whoever brought an event here to have it told has it.
        if <&UserId>::try_from(&*sent.sender).is_ok_and(|sender| sender.server_name() == self.server) {
            return Ok(());
        }
        self.hash.update(row.id.as_bytes());
        self.batch.pdus.push(json::raw(row.pdu)?);
        Ok(())
    }

    fn receipt(&mut self, pos: Pos, (room, user, thread): (RoomNum, &str, &str)) -> Result<()> {
        let Some(row) = receipts::public(self.tx, room, user, thread)? else { return Ok(()) };
        // A later one has an entry of its own.
        let (Ok(event), Ok(user), true) = (row.event_id.try_into(), user.try_into(), row.pos == pos) else {
            return Ok(());
        };
        let mut data = Receipt::new(MilliSecondsSinceUnixEpoch(UInt::new_saturating(row.ts)));
        data.thread = match thread {
            "" => ReceiptThread::Unthreaded,
            thread => ReceiptThread::try_from(Some(thread)).map_err(Error::internal)?,
        };
        let room = Room::at(self.tx, room)?;
        self.receipts.add(&room, user, ReceiptData::new(data, vec![event]));
        Ok(())
    }

    fn device(&mut self, pos: Pos, user: &str, device: &str, prev: &[Pos]) -> Result<()> {
        let user: OwnedUserId = user.try_into().map_err(Error::internal)?;
        let device: &DeviceId = device.into();
        let mut content = DeviceListUpdateContent::new(user.clone(), device.to_owned(), UInt::new_saturating(pos));
        content.prev_id = prev.iter().filter(|prev| **prev > 0).map(|prev| UInt::new_saturating(*prev)).collect();
        content.keys = device_keys::of_user(self.tx, None, &user, &[device.to_owned()])?.remove(device);
        content.deleted = content.keys.is_none().then_some(true);
        self.edu(&Edu::DeviceListUpdate(content))
    }

    fn signing_keys(&mut self, user: &str) -> Result<()> {
        let user: OwnedUserId = user.try_into().map_err(Error::internal)?;
        let keys = cross_signing::of_user(self.tx, None, &user)?;
        let mut content = SigningKeyUpdateContent::new(user);
        (content.master_key, content.self_signing_key) = (keys.master, keys.self_signing);
        self.edu(&Edu::SigningKeyUpdate(content))
    }

    /// For a server that was away for longer than the log goes back: the last event of each room, from
    /// which it finds the rest, and a sign for each person whose devices changed that it should ask anew.
    fn catch_up(&mut self, cursor: Pos, trimmed: Pos) -> Result<()> {
        let mut last = Vec::new();
        for room in servers::rooms_of(self.tx, self.server)? {
            last.push(Room::at(self.tx, room)?.row.told);
        }
        last.retain(|told| (cursor + 1..=trimmed).contains(told));
        last.sort_unstable();
        let mut upto = last.get(self.most.0).map_or(trimmed, |next| next - 1);
        for (pos, user) in device_lists::log(self.tx, cursor, upto)? {
            if self.batch.edus.len() >= self.most.1 {
                upto = pos - 1;
                break;
            }
            if self.me.owns(&user) && self.is_company(user.as_str())? {
                let device = device_keys::any_of(self.tx, &user)?.unwrap_or_else(|| NO_DEVICE.to_owned());
                // It knows no change with the number before this, and will ask for the whole list.
                self.device(device_lists::stream(self.tx, &user)?, user.as_str(), &device, &[pos - 1])?;
                self.signing_keys(user.as_str())?;
            }
        }
        for pos in last.into_iter().filter(|pos| *pos <= upto) {
            self.event(pos)?;
        }
        (self.batch.upto, self.batch.more) = (upto, true);
        Ok(())
    }

    fn finish(mut self, cursor: Pos) -> Result<Batch> {
        for receipts in std::mem::take(&mut self.receipts).0 {
            let rooms = receipts.into_iter().map(|(room, people)| (room, ReceiptMap::new(people)));
            self.edu(&Edu::Receipt(ReceiptContent::new(rooms.collect())))?;
        }
        let hash = self.hash.finish();
        let hash = URL_SAFE_NO_PAD.encode(&hash.as_ref()[..12]);
        self.batch.id = format!("{cursor}-{}-{hash}", self.batch.upto);
        Ok(self.batch)
    }
}
