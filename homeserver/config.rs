//! Every setting, its default and its check.

use std::{net::SocketAddr, path::PathBuf};

use ruma::{OwnedServerName, server_name};

/// Who may register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// Everybody.
    Open,
    /// Who has a registration token.
    Token,
    /// Nobody.
    Closed,
}

/// The server's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name that user and room IDs end with.
    pub server_name: OwnedServerName,
    /// Where clients reach the server.
    pub listen: SocketAddr,
    /// Where the database, media and keys are.
    pub data_dir: PathBuf,
    /// Who may register.
    pub registration: Registration,
    /// Whether rate limits are on.
    pub rate_limits: bool,
    /// Bytes for all caches together.
    pub memory: u64,
    /// Bytes of an upload at most.
    pub max_upload: u64,
    /// Connections at once at most.
    pub max_connections: usize,
    /// Whether a proxy stands in front, whose `X-Forwarded-For` is believed.
    pub behind_proxy: bool,
    /// Free bytes on the disk below which writes are refused.
    pub min_free_disk: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server_name: server_name!("localhost").to_owned(),
            listen: ([127, 0, 0, 1], 8008).into(),
            data_dir: "hearth-data".into(),
            registration: Registration::Open,
            rate_limits: true,
            memory: 128 << 20,
            max_upload: 50 << 20,
            max_connections: 20_000,
            behind_proxy: false,
            min_free_disk: 64 << 20,
        }
    }
}
