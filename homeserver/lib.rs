//! Hearth, a Matrix homeserver that one person can run, understand and trust.

pub mod accounts;
pub mod app;
pub mod base;
pub mod client_api;
pub mod config;
pub mod error;
pub mod http;
pub mod rooms;
pub mod store;

use std::sync::Arc;

use tokio::{net::TcpListener, sync::watch};

/// Opens everything and serves until `stop` says true.
pub async fn run(config: config::Config, stop: watch::Receiver<bool>) -> Result<(), String> {
    std::fs::create_dir_all(&config.data_dir).map_err(|error| format!("can't make the data directory: {error}"))?;
    let options = store::Options {
        page_cache: usize::try_from(config.memory / 2).unwrap_or(usize::MAX),
        state_cache: config.memory / 4,
        min_free: config.min_free_disk,
    };
    let store = store::Store::open(&config.data_dir.join("hearth.redb"), options, Box::new(|_, _| {}))?;
    let key = base::signing::SigningKey::load_or_create(&config.data_dir.join("signing.key"))?;
    let listen = config.listen;
    let app = Arc::new(app::App {
        limits: http::Limits::new(config.rate_limits),
        last_seen: Default::default(),
        hasher: Default::default(),
        uia: Default::default(),
        presence: Default::default(),
        me: Arc::new(base::signing::Identity { name: config.server_name.clone(), key }),
        store,
        config,
    });
    let listener = TcpListener::bind(listen).await.map_err(|error| format!("can't listen on {listen}: {error}"))?;
    println!("Hearth is at http://{listen}");
    let service = http::server::Service {
        max_connections: app.config.max_connections,
        behind_proxy: app.config.behind_proxy,
        app,
        router: client_api::routes(),
        tls: None,
    };
    http::server::serve(listener, Arc::new(service), stop).await;
    Ok(())
}
