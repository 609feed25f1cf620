//! The resources that a handler may use. Nothing but fields.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{
    accounts::{presence::Presence, sessions::LastSeen, uia},
    appservice::Services,
    base::signing::Identity,
    config::Config,
    federation::Federation,
    hasher::Hasher,
    indexer::Indexer,
    limits::{Bodies, Limits},
    media::Media,
    oauth::{Grants, Handing},
    push::Push,
    store::Store,
    sync::Hub,
};

/// What there is one of in a server.
pub struct App {
    /// The settings.
    pub config: Config,
    /// When the server started.
    pub started: std::time::Instant,
    /// The database.
    pub store: Store,
    /// Who keeps the index of what was said.
    pub indexer: Arc<Indexer>,
    /// Who we are.
    pub me: Arc<Identity>,
    /// Other servers.
    pub federation: Arc<Federation>,
    /// Who is told what happens while their clients sleep.
    pub push: Push,
    /// Application services.
    pub services: Arc<Services>,
    /// Uploaded files.
    pub media: Media,
    /// Rate limits.
    pub limits: Limits,
    /// Memory for request bodies.
    pub bodies: Bodies,
    /// When sessions were last seen, until that is written down.
    pub last_seen: LastSeen,
    /// Where passwords are hashed.
    pub hasher: Hasher,
    /// User-interactive authentication under way.
    pub uia: uia::Sessions,
    /// Signing in by OAuth under way.
    pub grants: Grants,
    /// What devices hand each other to sign in.
    pub handing: Handing,
    /// Who is online.
    pub presence: Arc<Presence>,
    /// Who waits, who types, and what a sync draws from.
    pub hub: Arc<Hub>,
    /// Rung when an event was kept that is to be sent later.
    pub alarm: tokio::sync::Notify,
    /// Says true once the server is to stop: parked requests and open sockets then end.
    pub stop: watch::Receiver<bool>,
}
