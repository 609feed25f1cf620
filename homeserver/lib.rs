//! Hearth, a Matrix homeserver that one person can run, understand and trust.
//!
//! # The map
//!
//! Folders are layers, file names are features: `ls homeserver/*/receipts.rs` shows all of receipts, and
//! `rooms/` holds all rules about rooms. A module uses only layers above its own line
//! (`tests/architecture.rs` holds it to that):
//!
//! | layer | owns | refuses to know |
//! |---|---|---|
//! | `error`, `base`, `config`, `limits` | errors, time, keys, JSON, settings, rate limits | everything of Hearth |
//! | `outside` | calling other machines: names, permitted addresses, trust | what is said to them |
//! | `store` | the database: one writer, snapshots, every table | what rows mean |
//! | `accounts`, `hasher` | users, sessions, profiles, account data, push rules, presence | rooms |
//! | `oauth` | applications that people sign in with, and what they allow | pages, requests |
//! | `rooms` | the event graph: rules, state, history, receipts, unread counts | network, waiting |
//! | `indexer` | keeping the index of what was said in step | what is sought |
//! | `e2ee` | keys, device lists, to-device messages | what they encrypt |
//! | `notify` | who waits, and up to which position | what happened |
//! | `federation` | other servers: finding, asking and knowing them | who uses what it gathers |
//! | `media` | uploaded files and thumbnails | HTTP |
//! | `push` | telling people what happens while their clients sleep | what notifies them |
//! | `sync` | the answer between two positions, a file for each section | deciding |
//! | `appservice` | bridges and bots: who they are, telling and asking them | what they do |
//! | `app` | the resources that a handler may use | everything else |
//! | `backup` | copies of everything, made while the server runs | what is in them |
//! | `http` | connections, routes, who is calling | Matrix beyond authentication |
//! | `client_api`, `federation_api` | one file per chapter of the spec | rules |
//!
//! The one idea: **gather → decide → commit → wake.** Deciding is plain functions over a transaction;
//! everything that follows from an event is in the commit that holds the event; waiters are told only
//! *that* something happened and *up to where*, after it is on disk.
//!
//! # A message, from its sender to its readers
//!
//! 1. `http/server.rs` takes the connection, `http/router.rs` finds the handler, `http/admit.rs` turns
//!    the token into a `Session`.
//! 2. `client_api/messages.rs` makes a `Draft` and hands a job to `store.write`.
//! 3. In the writer (`store/writer.rs`): the transaction ID is looked up, `rooms/draft.rs` signs on top
//!    of the room's present, `rooms/auth.rs` judges, `rooms/append.rs` writes all that follows.
//! 4. One fsync of the journal later `notify.rs` rings whoever waits at the room, and the sender is answered.
//! 5. Each reader's `sync/` takes a snapshot, finds the rooms that changed, and builds its own answer.

pub mod accounts;
pub mod app;
pub mod appservice;
pub mod backup;
pub mod base;
pub mod client_api;
pub mod config;
pub mod dev_cert;
pub mod e2ee;
pub mod error;
pub mod federation;
pub mod federation_api;
pub mod hasher;
pub mod http;
pub mod indexer;
pub mod limits;
pub mod media;
pub mod notify;
pub mod oauth;
pub mod outside;
pub mod push;
pub mod rooms;
pub mod start;
pub mod store;
pub mod sync;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};

use crate::{
    accounts::{presence::Presence, sessions, transactions},
    app::App,
    appservice::{Services, Sources},
    base::signing::Identity,
    config::Config,
    federation::Federation,
    http::{Files, Router, server},
    indexer::Indexer,
    notify::Notifier,
    push::Push,
    store::Read,
    sync::Hub,
};

/// How often sessions that called are written down and full buckets forgotten.
const UPKEEP: Duration = Duration::from_secs(60);
/// Under which name it is written down where somebody typed when the server stopped.
const TYPING: &str = "typing";
/// How long WebSockets may take to close once the server is stopping.
const CLOSING: Duration = Duration::from_secs(5);
/// Sessions written down in one job at most.
const SEEN_BATCH: usize = 1000;
/// Old transactions forgotten in one job at most, and jobs that do so in one turn of the upkeep. It is
/// more than a day's sending brings in the same time.
const OLD_BATCH: usize = 500;
const OLD_BATCHES: usize = 400;

/// Opens everything and serves until `stop` says true; then ends what is under way and closes.
pub async fn run(mut config: Config, stop: watch::Receiver<bool>) -> Result<(), String> {
    start::raise_open_files();
    let files = Files::new(config.web_root.as_deref())?;
    let (listening, certificate) = start::listen(&mut config).await?;
    let app = open(config, stop.clone()).await?;
    let mut router = routes(&app.config);
    router.serve_files(files);
    let service = Arc::new(server::Service {
        places: Arc::new(Semaphore::new(app.config.max_connections)),
        addresses: Default::default(),
        behind_proxy: app.config.behind_proxy,
        app: app.clone(),
        router,
    });

    catch_up(&app).await.map_err(|error| error.to_string())?;
    let mut listeners = JoinSet::new();
    for (listener, tls) in listening {
        listeners.spawn(server::serve(listener, tls, service.clone(), stop.clone()));
    }
    let mut helpers = JoinSet::new();
    help(&app, &mut helpers);
    let (federation, stopping) = (app.federation.clone(), stop.clone());
    let telling = tokio::spawn(async move { federation.run(stopping).await });
    if let Some(certificate) = certificate {
        helpers.spawn(async move { certificate.follow().await });
    }
    start::greet(&app.config, &app.store).await;
    while listeners.join_next().await.is_some() {}
    app.hub.sockets.closed(CLOSING).await;
    // It ends by itself, once others have answered to what they are just being told.
    if let Err(error) = telling.await {
        tracing::error!(%error, "telling other servers has broken off");
    }
    helpers.shutdown().await;
    write_seen(&app).await;
    write_pushed(&app).await;
    write_typing(&app).await;
    write_told(&app).await;
    app.store.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// Opens what there is one of in a server.
async fn open(config: Config, stop: watch::Receiver<bool>) -> Result<Arc<App>, String> {
    let notifier = Notifier::default();
    let store = start::open_store(&config, notifier.on_commit()).await?;
    notifier.start(store.read(|tx| tx.pos()).map_err(|error| error.to_string())?);
    let presence = Arc::<Presence>::default();
    let me = Arc::new(Identity { name: config.server_name.clone(), key: start::signing_key(&config)? });
    let outside = start::outside(&config)?;
    let hub = Arc::new(Hub::new(store.clone(), notifier.clone(), presence.clone(), config.memory / 8));
    let live = federation::Live { notifier: notifier.clone(), typing: hub.typing.clone(), presence: presence.clone() };
    let services = Arc::new(Services::load(&config.app_services, &config.server_name, &outside)?);
    if !services.all().is_empty() {
        let heeding = services.clone();
        notifier.tap(move |wake, upto| heeding.heed(wake, upto));
    }
    let federation = Arc::new(Federation::new(me.clone(), store.clone(), &outside, &config.federation, live)?);
    let others = (federation.remote.clone(), outside.client_that_follows()?);
    let mut media = start::media(&config, &store, &outside, others)?;
    if config.url_previews {
        let client = outside.client_that_follows()?;
        media.preview_by(client).map_err(|error| format!("can't open the folder of previews: {error}"))?;
    }
    let gateways = outside.client()?;
    let push = Push::new(store.clone(), hub.notifier.clone(), hub.unread.clone(), gateways, config.memory / 16);
    let limits = limits::Limits::new(config.rate_limits);
    let unlimited = services.clone();
    limits.exempt(move |who| unlimited.is_unlimited(who));
    Ok(Arc::new(App {
        push,
        limits,
        services,
        bodies: Default::default(),
        last_seen: Default::default(),
        hasher: Default::default(),
        uia: Default::default(),
        grants: Default::default(),
        handing: Default::default(),
        alarm: Default::default(),
        presence,
        hub,
        me,
        federation,
        indexer: Arc::new(Indexer::new(store.clone())),
        store,
        started: std::time::Instant::now(),
        media,
        stop,
        config,
    }))
}

/// Does what was left undone when the server last stopped, or was changed since then.
async fn catch_up(app: &Arc<App>) -> error::Result<()> {
    let me = app.me.clone();
    app.store.write(move |tx| rooms::admins::reconcile(tx, &me)).await?;
    let typing = app.store.read(|tx| store::tables::IDENTITY.get(tx, TYPING))?;
    let rooms = typing.and_then(|rooms| serde_json::from_str::<Vec<base::RoomNum>>(&rooms).ok());
    app.hub.typing.ended(&rooms.unwrap_or_default());
    app.federation.resume_partial()?;
    let arrivals = app.federation.arrivals.clone();
    tokio::spawn(async move {
        if let Err(error) = arrivals.resume().await {
            tracing::error!(%error, "what other servers have told can't be gone on with");
        }
    });
    client_api::admin::resume(app)
}

/// Writes down what pushers were told, so that they are not told it again after the next start.
async fn write_pushed(app: &App) {
    if let Err(error) = app.push.write_down().await {
        tracing::debug!(%error, "can't write down what pushers were told");
    }
}

/// Writes down where somebody typed, so that their clients hear after the next start that nobody does.
async fn write_typing(app: &App) {
    let rooms = serde_json::to_string(&app.hub.typing.busy()).unwrap_or_default();
    if let Err(error) = app.store.write(move |tx| store::tables::IDENTITY.put(tx, TYPING, &rooms)).await {
        tracing::debug!(%error, "can't write down where somebody typed");
    }
}

/// Writes down how far other servers have been told, so that none is told anything again after the next start.
async fn write_told(app: &App) {
    if let Err(error) = app.federation.outbox.write_down().await {
        tracing::debug!(%error, "can't write down how far other servers have been told");
    }
}

/// Everything that is spoken under these settings.
pub fn routes(config: &Config) -> Router {
    let mut router = client_api::routes();
    if config.federation.enabled {
        federation_api::routes(&mut router);
    }
    router
}

/// Begins what goes on beside requests, until the server stops.
fn help(app: &Arc<App>, helpers: &mut JoinSet<()>) {
    helpers.spawn(upkeep(app.clone()));
    helpers.spawn(backup::serve(app.clone(), app.stop.clone()));
    let files = app.clone();
    helpers.spawn(async move { files.media.tidy(UPKEEP).await });
    let (pulse, stopping) = (app.hub.clone(), app.stop.clone());
    helpers.spawn(async move { pulse.run(stopping).await });
    let (indexer, stopping) = (app.indexer.clone(), app.stop.clone());
    helpers.spawn(async move { indexer.run(stopping).await });
    let (push, stopping) = (app.push.clone(), app.stop.clone());
    helpers.spawn(async move { push.run(stopping).await });
    let (services, stopping) = (app.services.clone(), app.stop.clone());
    let sources = Sources {
        me: app.me.clone(),
        store: app.store.clone(),
        typing: app.hub.typing.clone(),
        presence: app.presence.clone(),
    };
    helpers.spawn(async move { services.run(sources, stopping).await });
    helpers.spawn(client_api::guests::run(app.clone()));
    helpers.spawn(client_api::delayed::run(app.clone(), app.stop.clone()));
}

/// What has to be done now and then, for as long as the server runs.
async fn upkeep(app: Arc<App>) {
    let mut quarters = tokio::time::interval(UPKEEP / 4);
    quarters.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for turn in 0u64.. {
        quarters.tick().await;
        app.presence.pass_time();
        if turn % 4 == 3 {
            app.limits.sweep();
            write_seen(&app).await;
            forget_transactions(&app).await;
        }
    }
}

/// Forgets transactions that nobody will retry any more, in jobs that don't hold the writer for long.
async fn forget_transactions(app: &App) {
    for _ in 0..OLD_BATCHES {
        let forgotten = match app.store.read(transactions::has_old) {
            Ok(false) => return,
            Ok(true) => app.store.write(|tx| transactions::sweep(tx, OLD_BATCH)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = forgotten {
            // They are still there in a minute.
            tracing::debug!(%error, "can't forget old transactions");
            return;
        }
    }
}

/// Writes down when sessions were last seen, in jobs that don't hold the writer for long.
async fn write_seen(app: &App) {
    for batch in app.last_seen.take().chunks(SEEN_BATCH) {
        let batch = batch.to_vec();
        if let Err(error) = app.store.write(move |tx| sessions::write_seen(tx, &batch)).await {
            // Nobody is told a wrong time for it but an old one, and the disk's trouble is logged elsewhere.
            tracing::debug!(%error, "can't write down when sessions were last seen");
        }
    }
}
