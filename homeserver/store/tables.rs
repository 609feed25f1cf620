//! Every table: its name, its key, its row, one line of meaning. Keys are ordered so that what is read
//! together lies together. Only the module that owns a concept uses its tables.

use super::{
    rows::client,
    rows::{
        AliasRow, ApplicationRow, ArrivedRow, CameRow, ChildRow, Dated, DestinationRow, DeviceRow, EarlyReceiptRow,
        EventRow, FallbackKeyRow, GapRow, Layer, MediaRow, MemberRow, Outgoing, PartialRow, Place, PushedRow,
        PusherRow, PusherStateRow, ReceiptRow, RegistrationTokenRow, RemoteListRow, RemoteMediaRow, RemovalRow,
        ReportRow, RoomRow, ServerKeyRow, ServerRow, ServiceRow, ThreadRow, TokenRow, UnreadRow, UserRow,
    },
    table::Table,
};
use crate::base::{Pos, RoomNum};

/// Declares the tables and the function that makes them all.
macro_rules! tables {
    ($($(#[$meaning:meta])+ $name:ident: $key:ty => $row:ty;)+) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "the tables' own names, to number them")]
        enum Number { $($name),+ }

        $($(#[$meaning])+ pub static $name: Table<$key, $row> = Table::new(stringify!($name), Number::$name as usize);)+

        /// Their names.
        const NAMES: &[&str] = &[$(stringify!($name)),+];

        /// Makes every table, so that readers never meet a missing one.
        pub(super) fn create_all(tx: &redb::WriteTransaction) -> Result<(), redb::TableError> {
            $(tx.open_table($name.declared.definition)?;)+
            Ok(())
        }

        /// Does a change of one of them once more. A table that is not there any more needs none.
        pub(super) fn redo(
            tx: &redb::WriteTransaction,
            change: &super::record::Change<'_>,
        ) -> crate::error::Result<()> {
            match change.table {
                $(stringify!($name) => super::record::redo_in(&$name.declared, tx, change),)+
                _ => Ok(()),
            }
        }

        /// Copies every table.
        pub(super) fn copy_all(
            from: &redb::ReadTransaction,
            to: &redb::Database,
            go_on: &dyn Fn() -> bool,
        ) -> crate::error::Result<()> {
            $(super::copy::table(&$name.declared, (from, to), go_on)?;)+
            Ok(())
        }
    };
}

/// How many there are.
pub(super) const COUNT: usize = NAMES.len();

/// Whether a table of these is not among some others.
pub(super) fn lacks_one(mut has: impl FnMut(&str) -> bool) -> bool {
    NAMES.iter().any(|name| !has(name))
}

type Str = &'static str;

tables! {
    /// What this file is: `lineage`, whose it is, and which account and room are the server's own.
    IDENTITY: Str => String;
    /// `schema`; `pos`, the newest position; `indexed`, up to where what was said can be searched;
    /// `outgoing_seen`, up to where the log of what others are to be
    /// told was gone through; `outgoing_trimmed`, up to where it was taken away; `push_seen`, up to where
    /// pushers have been thought of; `users_by_services`, how many accounts application services have made;
    /// `journal`, the epoch of the journal, if what was written last may be there alone.
    COUNTERS: Str => u64;

    /// Local accounts: localpart.
    USERS: Str => UserRow;
    /// People who wanted to be forgotten: user ID to when.
    ERASED: Str => Pos;
    /// Accounts of guests: user ID.
    GUESTS: Str => ();
    /// Rooms that guests are in: (room, user ID).
    GUEST_ROOMS: (RoomNum, Str) => ();
    /// Rooms that their guests have to leave.
    GUESTS_LEAVING: RoomNum => ();
    /// Sessions: (user ID, device ID).
    DEVICES: (Str, Str) => DeviceRow;
    /// Access and refresh tokens: hash.
    TOKENS: Str => TokenRow;
    /// Applications that people sign in with by OAuth: ID.
    APPLICATIONS: Str => ApplicationRow;
    /// Tokens that allow one to register.
    REGISTRATION_TOKENS: Str => RegistrationTokenRow;
    /// Profile fields as JSON: (user ID, key).
    PROFILES: (Str, Str) => String;
    /// Account data: (user ID, room ID or "", type).
    ACCOUNT_DATA: (Str, Str, Str) => Dated;
    /// When account data changed: (user ID, position) to room ID, a line feed, and type.
    ACCOUNT_DATA_LOG: (Str, Pos) => String;
    /// What an account's data weighs: user ID.
    ACCOUNT_DATA_SIZES: Str => u64;
    /// Filters as JSON: (user ID, filter ID).
    FILTERS: (Str, Str) => String;
    /// Pushers: (user ID, pusher's ID).
    PUSHERS: (Str, Str) => PusherRow;
    /// Who has a pusher: (pusher's ID, user ID).
    PUSHER_OWNERS: (Str, Str) => ();
    /// How it stands with a pusher, if there is anything to say: (user ID, pusher's ID).
    PUSHER_STATES: (Str, Str) => PusherStateRow;
    /// What a pusher was told of late: (user ID, pusher's ID, number).
    PUSHED: (Str, Str, u64) => PushedRow;
    /// What a device's transaction ID led to: (day, user ID, device ID, scope and transaction ID). The
    /// day comes first, so that what is old lies together.
    TRANSACTIONS: (u64, Str, Str, Str) => String;

    /// Room numbers: room ID.
    ROOM_NUMS: Str => RoomNum;
    /// Rooms as they are now.
    ROOMS: RoomNum => RoomRow;
    /// Events, in the order in which this server learned of them.
    EVENTS: Pos => EventRow;
    /// Where an event is: event ID.
    EVENT_IDS: Str => Pos;
    /// Events that came into their room after they were known: the order they then got to their position.
    LATE_EVENTS: Pos => Pos;
    /// Rooms' timelines: (room, order). Order is the position, or less than zero for older history
    /// that was fetched later.
    TIMELINE: (RoomNum, i64) => Place;
    /// Layers of room state.
    STATES: u64 => Layer;
    /// Numbers of state keys: (event type, state key).
    STATE_KEYS: (Str, Str) => u64;
    /// State keys by number: event type, a line feed, state key.
    STATE_KEY_NAMES: u64 => String;
    /// Memberships as they are now: (room, user ID).
    MEMBERS: (RoomNum, Str) => MemberRow;
    /// The same, by person: (user ID, room).
    USER_ROOMS: (Str, RoomNum) => MemberRow;
    /// The servers in a room: (room, server name).
    ROOM_SERVERS: (RoomNum, Str) => ServerRow;
    /// The same, by server: (server name, room).
    SERVER_ROOMS: (Str, RoomNum) => ();
    /// What other servers are to be told: position.
    OUTGOING: Pos => Outgoing;
    /// Messages for devices of other servers, as the contents of EDUs: (server name, position).
    OUTGOING_TO_DEVICE: (Str, Pos) => String;
    /// How far other servers have been told: server name.
    DESTINATIONS: Str => DestinationRow;
    /// The state at which the index of a room's members stands while the room is entered.
    STAGED: RoomNum => u64;
    /// Rooms that were entered before all of their members were known.
    PARTIAL: RoomNum => PartialRow;
    /// Events that came into such rooms, in the order of their coming, as they are to be judged once more.
    CAME: (RoomNum, Pos) => CameRow;
    /// What was redacted in such rooms meanwhile, as it was: (room, position).
    REDACTED_MEANWHILE: (RoomNum, Pos) => String;
    /// Stripped state of rooms that somebody is invited to or has knocked on: (user ID, room).
    STRIPPED: (Str, RoomNum) => String;
    /// Events that relate to another: (room, parent's event ID, relation type, child's order).
    RELATED: (RoomNum, Str, Str, i64) => ChildRow;
    /// Events that relate to another, directly or by way of others: (room, ancestor's event ID, order).
    DESCENDANTS: (RoomNum, Str, i64) => ChildRow;
    /// Threads: (room, first event's ID).
    THREADS: (RoomNum, Str) => ThreadRow;
    /// The same, by the order of the newest event of each: (room, order) to the first event's ID.
    THREADS_BY_LATEST: (RoomNum, i64) => String;
    /// How much somebody has said in a thread: (room, first event's ID, user ID).
    THREAD_SENDERS: (RoomNum, Str, Str) => u64;
    /// Where events are that have a term, in pieces: (room, term, first place of the piece).
    POSTINGS: (RoomNum, Str, i64) => Vec<u8>;
    /// Events that came into their room after the index had passed them: position.
    TO_INDEX: Pos => ();
    /// Redactions of events that have not come yet: (event ID, the redaction's position).
    REDACTIONS_WAITING: (Str, Pos) => ();
    /// Events of other servers that were taken in and are still to be judged, in the order of their coming.
    ARRIVED: Pos => ArrivedRow;
    /// Where a room's timeline has a gap: (room, order of the place after it).
    GAPS: (RoomNum, i64) => GapRow;
    /// Read receipts: (room, user ID, receipt type, thread or "").
    RECEIPTS: (RoomNum, Str, Str, Str) => ReceiptRow;
    /// When receipts changed: (room, position) to user ID, receipt type and thread, with line feeds.
    RECEIPT_LOG: (RoomNum, Pos) => String;
    /// Receipts of other servers' people for events that have not come: (room, event ID, user ID, thread or "").
    EARLY_RECEIPTS: (RoomNum, Str, Str, Str) => EarlyReceiptRow;
    /// How far unread counts have been worked out: (user ID, room).
    UNREAD: (Str, RoomNum) => UnreadRow;
    /// Room aliases of this server.
    ALIASES: Str => AliasRow;
    /// The same, by room: (room, alias).
    ROOM_ALIASES: (RoomNum, Str) => ();
    /// Rooms that the directory lists.
    PUBLIC_ROOMS: RoomNum => ();
    /// Rooms that an application service lists in a directory of its own: (room, service's ID, `|` and network).
    NETWORK_ROOMS: (RoomNum, Str) => ();
    /// How far application services have been told: ID.
    APP_SERVICES: Str => ServiceRow;
    /// Rooms that nobody may come into, known here or not: room ID to who wants it so.
    BLOCKED_ROOMS: Str => String;
    /// Rooms that are being or were taken down: ID of the removal.
    REMOVALS: Str => RemovalRow;
    /// What people have reported.
    REPORTS: Pos => ReportRow;
    /// Rooms in which the server tells somebody something: localpart to room ID.
    NOTICE_ROOMS: Str => String;

    /// Device keys as JSON: (user ID, device ID).
    DEVICE_KEYS: (Str, Str) => String;
    /// Cross-signing keys as JSON: (user ID, usage).
    CROSS_SIGNING_KEYS: (Str, Str) => String;
    /// Signatures on keys: (signed user, signed key or device ID, signer's user ID, signer's key ID).
    KEY_SIGNATURES: (Str, Str, Str, Str) => String;
    /// One-time keys as JSON: (user ID, device ID, algorithm, position of the upload, key ID with its
    /// algorithm), so that the oldest comes first.
    ONE_TIME_KEYS: (Str, Str, Str, Pos, Str) => String;
    /// How many one-time keys there are: (user ID, device ID, algorithm).
    ONE_TIME_KEY_COUNTS: (Str, Str, Str) => u64;
    /// One-time keys as JSON that were handed out lately: (user ID, device ID, position, key ID).
    CLAIMED_KEYS: (Str, Str, Pos, Str) => String;
    /// Fallback keys: (user ID, device ID, algorithm).
    FALLBACK_KEYS: (Str, Str, Str) => FallbackKeyRow;
    /// Messages for a device: (user ID, device ID, position).
    TO_DEVICE: (Str, Str, Pos) => String;
    /// Whose devices changed, each person once, at the last time.
    DEVICE_LOG: Pos => String;
    /// Where in that log a person is.
    DEVICE_LOG_POS: Str => Pos;
    /// The last change of a local person's devices that other servers are told of: user ID.
    DEVICE_STREAMS: Str => Pos;
    /// What is kept of the devices of people of other servers: user ID.
    REMOTE_DEVICE_LISTS: Str => RemoteListRow;
    /// Messages for devices that came from other servers: (server name, message ID) to when they came.
    RECEIVED_TO_DEVICE: (Str, Str) => Pos;
    /// The same, by when they came: (server name, position) to the message ID.
    RECEIVED_TO_DEVICE_LOG: (Str, Pos) => String;
    /// Whose keys somebody has signed, which only the signer sees: (signer's user ID, position).
    SIGNING_LOG: (Str, Pos) => String;

    /// Signing keys of other servers: (server name, key ID).
    SERVER_KEYS: (Str, Str) => ServerKeyRow;
    /// What other servers say of their keys, with their signatures, and until when that is good.
    SERVER_KEYS_SAID: Str => Dated;

    /// Backups of room keys: (user ID, version), a version being the position at which it was made.
    BACKUPS: (Str, Pos) => client::BackupRow;
    /// Keys in them as JSON: (user ID, version, room ID, session ID).
    BACKUP_KEYS: (Str, Pos, Str, Str) => String;
    /// Events that the server is to send later, and what came of them: ID.
    DELAYED: Str => client::DelayedRow;
    /// Those that wait, by when they are due: (milliseconds, ID).
    DELAYED_DUE: (u64, Str) => ();
    /// The same, by whose they are: (user ID, milliseconds, ID).
    DELAYED_OF: (Str, u64, Str) => ();
    /// Those that do not wait any more: (user ID, since when, ID).
    DELAYED_DONE: (Str, u64, Str) => ();
    /// Devices that sleep on the server: user ID.
    DEHYDRATED: Str => client::DehydratedRow;

    /// Media: (server name, media ID).
    MEDIA: (Str, Str) => MediaRow;
    /// What somebody has uploaded: (user ID, when in milliseconds, media ID).
    MEDIA_BY_UPLOADER: (Str, u64, Str) => ();
    /// People all of whose uploads are to be forgotten: user ID to up to when, milliseconds.
    UPLOADERS_LEAVING: Str => u64;
    /// Media that are announced and not uploaded: (user ID, media ID) to when, milliseconds.
    PENDING_MEDIA: (Str, Str) => u64;
    /// Pictures of pages on the web: position to media ID.
    PREVIEW_PICTURES: Pos => String;
    /// Bytes that somebody has uploaded: user ID.
    MEDIA_USAGE: Str => u64;
    /// Files of other servers that are kept: (server name, media ID).
    REMOTE_MEDIA: (Str, Str) => RemoteMediaRow;
    /// The same, by when somebody asked last: (milliseconds, server name, media ID) to bytes.
    REMOTE_MEDIA_BY_USE: (u64, Str, Str) => u64;
    /// How many media refer to a file: hash.
    MEDIA_FILES: Str => u64;
    /// Files that are coming, or that nothing refers to any more and that are to be removed: hash.
    UNUSED_FILES: Str => ();
    /// Files that are being sent to the bucket in parts: hash to what the store calls that.
    FILES_IN_PARTS: Str => String;
}
