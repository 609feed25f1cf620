//! Somebody with Element X's library: signed in, syncing by simplified sliding sync, with open rooms.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use matrix_sdk::{
    Client, Room, RoomState, ThreadingSupport,
    encryption::{BackupDownloadStrategy, EncryptionSettings},
    ruma::{
        RoomId,
        api::client::{
            account::register,
            room::create_room,
            uiaa::{AuthData, Dummy},
        },
        events::room::message::RoomMessageEventContent,
    },
};
use matrix_sdk_ui::{
    Timeline,
    sync_service::{State, SyncService},
    timeline::{EventTimelineItem, RoomExt},
};

/// How long anything may take. Nothing does, on a machine with time.
const PATIENCE: Duration = Duration::from_secs(60);
const PASSWORD: &str = "correct horse battery staple";

/// Waits until something is there.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "it never came: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A name that nobody has, also not from an earlier run on the same server.
fn fresh(name: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    format!("{name}-{}-{}", now.as_micros(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Somebody with a running client.
pub struct Person {
    pub client: Client,
    pub sync: Arc<SyncService>,
    name: String,
}

impl Person {
    /// Registers an account and signs in.
    pub async fn new(name: &str) -> Self {
        let name = fresh(name);
        let mut request = register::v3::Request::new();
        request.username = Some(name.clone());
        request.password = Some(PASSWORD.to_owned());
        request.auth = Some(AuthData::Dummy(Dummy::new()));
        request.inhibit_login = true;
        client().await.matrix_auth().register(request).await.expect("registered");
        Self::sign_in(name).await
    }

    /// The same person on another device.
    pub async fn another_device(&self) -> Self {
        Self::sign_in(self.name.clone()).await
    }

    async fn sign_in(name: String) -> Self {
        let client = client().await;
        client.matrix_auth().login_username(&name, PASSWORD).send().await.expect("signed in");
        client.encryption().wait_for_e2ee_initialization_tasks().await;
        client.event_cache().subscribe().expect("the cache of events");
        let sync = Arc::new(SyncService::builder(client.clone()).build().await.expect("sliding sync is offered"));
        sync.start().await;
        Self { client, sync, name }
    }

    /// Makes a room with these people, who are invited and come.
    pub async fn room_with(&self, others: &[&Person], change: impl FnOnce(&mut create_room::v3::Request)) -> Room {
        let mut request = create_room::v3::Request::new();
        request.invite = others.iter().map(|other| other.client.user_id().expect("signed in").to_owned()).collect();
        change(&mut request);
        let made = self.client.create_room(request).await.expect("made");
        for other in others {
            other.room(made.room_id(), RoomState::Invited).await.join().await.expect("joined");
            other.room(made.room_id(), RoomState::Joined).await;
        }
        self.room(made.room_id(), RoomState::Joined).await
    }

    /// Waits until the room list has a room in this state.
    pub async fn room(&self, id: &RoomId, state: RoomState) -> Room {
        let look = async || self.client.get_room(id).filter(|room| room.state() == state);
        until(&format!("{} has the room as {state:?}", self.name), look).await
    }

    /// Opens a room.
    pub async fn open(&self, id: &RoomId) -> Timeline {
        let room = self.room(id, RoomState::Joined).await;
        self.sync.room_list_service().subscribe_to_rooms(&[id]).await;
        room.timeline().await.expect("a timeline")
    }

    /// Starts to sync anew when it has ended, as an app does that is opened again.
    pub async fn keep_syncing(&self) {
        if !matches!(self.sync.state().get(), State::Running) {
            self.sync.start().await;
        }
    }
}

async fn client() -> Client {
    let url = env::var("HEARTH_URL").expect("HEARTH_URL says where the server is: run tests/run sdk");
    let encryption = EncryptionSettings {
        auto_enable_cross_signing: true,
        backup_download_strategy: BackupDownloadStrategy::AfterDecryptionFailure,
        auto_enable_backups: false,
    };
    let threads = ThreadingSupport::Enabled { with_subscriptions: false };
    let builder = Client::builder().homeserver_url(url).with_encryption_settings(encryption);
    builder.with_threading_support(threads).build().await.expect("a client")
}

/// What people do in an open room.
pub trait Talk {
    async fn say(&self, text: &str);
    /// Waits until a message is shown as something.
    async fn sees<T>(&self, what: &str, is: impl Fn(&EventTimelineItem) -> Option<T>) -> T;
    /// Waits for a text, from the server and not only written here.
    async fn hears(&self, text: &str) -> EventTimelineItem;
    /// All texts that are shown, in order.
    async fn texts(&self) -> Vec<String>;
}

/// What a message says.
pub fn text(item: &EventTimelineItem) -> Option<String> {
    Some(item.content().as_message()?.body().to_owned())
}

impl Talk for Timeline {
    async fn say(&self, text: &str) {
        self.send(RoomMessageEventContent::text_plain(text).into()).await.expect("queued");
    }

    async fn sees<T>(&self, what: &str, is: impl Fn(&EventTimelineItem) -> Option<T>) -> T {
        let look = async || {
            let found = self.items().await.iter().rev().filter_map(|item| item.as_event()).find_map(&is);
            if found.is_none() {
                // After a gap the library begins its timeline anew: what is older is found by scrolling up.
                self.paginate_backwards(10).await.ok()?;
            }
            found
        };
        until(what, look).await
    }

    async fn hears(&self, said: &str) -> EventTimelineItem {
        let is = |item: &EventTimelineItem| {
            let there = !item.is_local_echo() && text(item).as_deref() == Some(said);
            there.then(|| item.clone())
        };
        self.sees(said, is).await
    }

    async fn texts(&self) -> Vec<String> {
        self.items().await.iter().filter_map(|item| text(item.as_event()?)).collect()
    }
}
