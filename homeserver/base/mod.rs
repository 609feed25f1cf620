//! What everything else stands on and what knows nothing of Hearth: time, randomness, addresses, canonical
//! JSON and signatures on it, sync tokens, and the server's own signing key.

pub mod address;
pub mod clock;
pub mod disk;
pub mod ed25519;
pub mod json;
pub mod random;
pub mod signed_json;
pub mod signing;
pub mod token;

/// The server's single order. Every committed thing that somebody might wait for takes the next
/// position: it is the sync token, the pagination anchor and the number of rows in the store.
pub type Pos = u64;

/// A room's number in this store: the position at which the room became known here.
pub type RoomNum = u64;
