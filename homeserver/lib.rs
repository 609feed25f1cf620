//! Hearth, a Matrix homeserver that one person can run, understand and trust.

pub mod accounts;
pub mod app;
pub mod base;
pub mod client_api;
pub mod config;
pub mod e2ee;
pub mod error;
pub mod http;
pub mod media;
pub mod rooms;
pub mod store;

use std::{sync::Arc, time::Duration};

use accounts::{registration, sessions};
use tokio::{net::TcpListener, sync::watch};

/// How often sessions that called are written down and full buckets forgotten.
const UPKEEP: Duration = Duration::from_secs(60);
/// Sessions written down in one job at most.
const SEEN_BATCH: usize = 1000;

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
    let bounds = media::Bounds { max_upload: config.max_upload, min_free: config.min_free_disk };
    let media = media::Media::open(&config.data_dir.join("media"), store.clone(), config.server_name.clone(), bounds)
        .map_err(|error| format!("can't open the folder of media: {error}"))?;
    let listen = config.listen;
    let app = Arc::new(app::App {
        limits: http::Limits::new(config.rate_limits),
        last_seen: Default::default(),
        hasher: Default::default(),
        uia: Default::default(),
        presence: Default::default(),
        me: Arc::new(base::signing::Identity { name: config.server_name.clone(), key }),
        store,
        media,
        config,
    });
    let listener = TcpListener::bind(listen).await.map_err(|error| format!("can't listen on {listen}: {error}"))?;
    println!("Hearth is at http://{listen}");
    greet_first_admin(&app).await?;
    let upkeep = tokio::spawn(upkeep(app.clone()));
    let service = http::server::Service {
        max_connections: app.config.max_connections,
        behind_proxy: app.config.behind_proxy,
        app,
        router: client_api::routes(),
        tls: None,
    };
    let last = service.app.clone();
    http::server::serve(listener, Arc::new(service), stop).await;
    upkeep.abort();
    write_seen(&last).await;
    Ok(())
}

/// Says, on a server that nobody administers yet, how the first administrator registers.
async fn greet_first_admin(app: &app::App) -> Result<(), String> {
    let policy = registration::policy(&app.config);
    let token = app.store.write(move |tx| registration::ensure_first_admin_token(tx, policy)).await;
    if let Some(token) = token.map_err(|error| error.to_string())? {
        println!("Nobody administers this server yet. Who registers with this token will, once: {token}");
    }
    Ok(())
}

/// What has to be done now and then, for as long as the server runs.
async fn upkeep(app: Arc<app::App>) {
    let mut quarters = tokio::time::interval(UPKEEP / 4);
    quarters.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for turn in 0u64.. {
        quarters.tick().await;
        app.presence.pass_time();
        if turn % 4 == 3 {
            app.limits.sweep();
            write_seen(&app).await;
        }
    }
}

/// Writes down when sessions were last seen, in jobs that don't hold the writer for long.
async fn write_seen(app: &app::App) {
    for batch in app.last_seen.take().chunks(SEEN_BATCH) {
        let batch = batch.to_vec();
        if let Err(error) = app.store.write(move |tx| sessions::write_seen(tx, &batch)).await {
            // Nobody is told a wrong time for it but an old one, and the disk's trouble is logged elsewhere.
            tracing::debug!(%error, "can't write down when sessions were last seen");
        }
    }
}
