//! Users without rooms: accounts, sessions, profiles, account data, filters, push rules, presence.
//! Pure rules over transactions; knows nothing of rooms, the network or HTTP. Never async.

pub mod profile;
pub mod sessions;
pub mod transactions;
pub mod users;
