//! The event graph: what a room is, who may do what in it, what its state is. Pure rules and their
//! tables; nothing here can call the network, push, or wake anybody: it can only write, and say whom
//! to wake. Never async.
//!
//! In the order in which an event meets them: `draft` (wanted → signed) → `auth` → `append` (the only
//! function that writes an event) → `state` → `timeline`, `members`, `relations`, `redact`.

pub mod accept;
pub mod acl;
pub mod admins;
pub mod aggregations;
pub mod aliases;
pub mod append;
pub mod auth;
pub mod blocked;
pub mod create;
pub mod delayed;
pub mod directory;
pub mod doorstep;
pub mod draft;
pub mod event;
pub mod filter;
pub mod finding;
pub mod friends;
pub mod gaps;
pub mod given;
pub mod guests;
pub mod handshake;
pub mod hearsay;
pub mod hierarchy;
pub mod history;
pub mod inviting;
pub mod joining;
pub mod members;
pub mod moments;
pub mod notifications;
pub mod outgoing;
pub mod outliers;
pub mod partial;
pub mod pdu;
pub mod people;
pub mod policy;
pub mod power;
pub mod purge;
pub mod receipts;
pub mod redact;
pub mod relations;
pub mod reports;
pub mod resolve;
pub mod restricted;
pub mod room;
pub mod search;
pub mod second_look;
pub mod served;
pub mod servers;
pub mod state;
pub mod stripped;
pub mod successor;
pub mod threads;
pub mod timeline;
pub mod typing;
pub mod unread;
pub mod upgrade;
pub mod visibility;
pub mod words;

pub use event::Pdu;
pub use room::Room;

#[cfg(test)]
mod tests;
