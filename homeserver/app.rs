//! The resources that a handler may use. Nothing but fields.

use std::sync::Arc;

use crate::{
    accounts::{presence::Presence, sessions::LastSeen, uia},
    base::signing::Identity,
    config::Config,
    http::{Limits, passwords::Hasher},
    media::Media,
    store::Store,
};

/// What there is one of in a server.
pub struct App {
    /// The settings.
    pub config: Config,
    /// The database.
    pub store: Store,
    /// Files that people upload.
    pub media: Media,
    /// Who we are.
    pub me: Arc<Identity>,
    /// Rate limits.
    pub limits: Limits,
    /// When sessions were last seen, until that is written down.
    pub last_seen: LastSeen,
    /// Where passwords are hashed.
    pub hasher: Hasher,
    /// User-interactive authentication under way.
    pub uia: uia::Sessions,
    /// Who is online.
    pub presence: Arc<Presence>,
}
