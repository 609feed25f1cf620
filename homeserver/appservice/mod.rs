//! Application services: bridges and bots that act as many people and are told what happens in their rooms.
//! Owns who they are, what they have a claim to, and telling and asking them; refuses to know what the
//! requests that they make in their people's names do. spec: application-service-api
//!
//! ```text
//!  commit → notify's follower → `heed` (who is concerned) → a loop for each service (`delivery`):
//!           position → what is new for it (`gather`, by `interest`) → PUT → position
//! ```

pub mod ask;
mod delivery;
mod gather;
mod interest;
pub mod registration;
mod yaml;

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ruma::{OwnedUserId, RoomAliasId, ServerName, UserId};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};

pub use delivery::Health;

use self::{
    ask::Calls,
    registration::{Namespace, Registration},
};
use crate::{
    accounts::{presence::Presence, sessions, users},
    base::{Pos, RoomNum, signing::Identity},
    error::{Error, Result},
    outside::Outside,
    rooms::typing::Typing,
    store::{Store, Wake, WriteTx},
};

/// Rooms and people that are noted for a service at most, until it has been told. Beyond that what is not
/// kept (who types, who is there) is left out, and what is kept is looked for everywhere.
const MAX_NOTED: usize = 10_000;

/// One application service.
pub struct Service {
    /// What its registration says.
    pub told: Registration,
    bell: Notify,
    news: Mutex<News>,
    health: Mutex<Health>,
}

/// What may concern a service since it was last told.
#[derive(Default)]
struct News {
    /// Rooms in which something happened.
    rooms: BTreeSet<RoomNum>,
    /// People of its own for whose devices something came.
    users: BTreeSet<OwnedUserId>,
    /// There may be more such people.
    all_users: bool,
    /// Somebody's presence changed.
    presence: bool,
    /// All that was committed up to here is in this: a snapshot may hold more.
    upto: Pos,
}

impl fmt::Debug for Service {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Service").field(&self.told.id).finish()
    }
}

impl Service {
    fn new(told: Registration) -> Self {
        let news = Mutex::new(News { all_users: true, ..News::default() });
        Self { told, bell: Notify::new(), news, health: Mutex::default() }
    }

    /// Whether it may act as somebody: its own account, or one of its namespace here.
    pub fn may_be(&self, user: &UserId) -> bool {
        *user == self.told.sender
            || (user.server_name() == self.told.sender.server_name() && any(&self.told.users, user.as_str()))
    }

    /// Whether an alias is in its namespace.
    pub fn has_alias(&self, alias: &str) -> bool {
        any(&self.told.aliases, alias)
    }

    fn has_room(&self, room: &str) -> bool {
        any(&self.told.rooms, room)
    }

    /// How it stands with it.
    pub fn health(&self) -> Health {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It has called: what could not be told it may be tried at once.
    pub fn heard(&self) {
        if self.health().failing_since.is_some() {
            self.health.lock().unwrap_or_else(PoisonError::into_inner).heard = true;
            self.bell.notify_one();
        }
    }

    /// Whether it wants to know of more than events.
    fn listens(&self) -> bool {
        self.told.ephemeral || self.told.encryption
    }

    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn any(namespaces: &[Namespace], text: &str) -> bool {
    namespaces.iter().any(|namespace| namespace.has(text))
}

fn exclusive(namespaces: &[Namespace], text: &str) -> bool {
    namespaces.iter().any(|namespace| namespace.exclusive && namespace.has(text))
}

/// What telling them draws from.
#[derive(Clone)]
pub struct Sources {
    /// Who we are.
    pub me: Arc<Identity>,
    /// The database.
    pub store: Store,
    /// Who types.
    pub typing: Arc<Typing>,
    /// Who is there.
    pub presence: Arc<Presence>,
}

/// All application services of the settings.
pub struct Services {
    all: Vec<Arc<Service>>,
    /// By the hashes of their tokens, so that how long a look takes says nothing about tokens.
    by_token: HashMap<String, Arc<Service>>,
    calls: Calls,
}

impl Services {
    /// Those of these files.
    pub fn load(files: &[PathBuf], server: &ServerName, outside: &Outside) -> Result<Self, String> {
        let all: Vec<_> =
            registration::load(files, server)?.into_iter().map(|told| Arc::new(Service::new(told))).collect();
        let by_token = all.iter().map(|service| (sessions::hash(&service.told.as_token), service.clone())).collect();
        Ok(Self { all, by_token, calls: Calls::new(outside.client_of_settings()?) })
    }

    /// Each of them.
    pub fn all(&self) -> &[Arc<Service>] {
        &self.all
    }

    /// The one whose token this is.
    pub fn by_token(&self, token: &str) -> Option<&Arc<Service>> {
        if self.all.is_empty() { None } else { self.by_token.get(&sessions::hash(token)) }
    }

    /// Refuses a name that is kept for others. 400 `M_EXCLUSIVE`.
    pub fn check_user(&self, by: Option<&Arc<Service>>, user: &UserId) -> Result<()> {
        let others = |service: &&Arc<Service>| by.is_none_or(|by| !Arc::ptr_eq(by, service));
        let claims =
            |service: &Arc<Service>| service.told.sender == *user || exclusive(&service.told.users, user.as_str());
        if by.is_some_and(|by| !by.may_be(user)) || self.all.iter().filter(others).any(claims) {
            return Err(Error::bad_request("M_EXCLUSIVE", "this name is kept for an application service"));
        }
        Ok(())
    }

    /// Refuses an alias that is kept for others, and to a service one beyond its namespace. 400 `M_EXCLUSIVE`.
    pub fn check_alias(&self, by: Option<&Arc<Service>>, alias: &RoomAliasId) -> Result<()> {
        let others = |service: &&Arc<Service>| by.is_none_or(|by| !Arc::ptr_eq(by, service));
        let claims = |service: &Arc<Service>| exclusive(&service.told.aliases, alias.as_str());
        if by.is_some_and(|by| !by.has_alias(alias.as_str())) || self.all.iter().filter(others).any(claims) {
            return Err(Error::bad_request("M_EXCLUSIVE", "this alias is kept for an application service"));
        }
        Ok(())
    }

    /// Whether somebody is an application service's and not to be limited in what they do.
    pub fn is_unlimited(&self, who: &str) -> bool {
        let Ok(user) = <&UserId>::try_from(who) else { return false };
        let unlimited = |service: &Arc<Service>| {
            service.told.sender == *user || (!service.told.rate_limited && service.may_be(user))
        };
        self.all.iter().any(unlimited)
    }

    /// Notes what a commit concerns, and wakes whoever tells the services.
    pub fn heed(&self, wake: &Wake, upto: Pos) {
        for service in self.all.iter().filter(|service| service.told.url.is_some()) {
            if service.listens() {
                let mut news = service.news();
                news.upto = news.upto.max(upto);
                let rooms = wake.rooms.iter().chain(&wake.touched).filter(|_| service.told.ephemeral);
                news.rooms.extend(rooms.copied().take(MAX_NOTED));
                while news.rooms.len() > MAX_NOTED {
                    news.rooms.pop_first();
                }
                news.users.extend(wake.users.iter().filter(|user| service.may_be(user)).cloned());
                if news.users.len() > MAX_NOTED || wake.anew {
                    news.users.clear();
                    news.all_users = true;
                }
                news.presence |= service.told.ephemeral && !wake.devices.is_empty();
            }
            service.bell.notify_one();
        }
    }

    /// Tells them what happens, until the server is to stop.
    pub async fn run(&self, sources: Sources, stop: watch::Receiver<bool>) {
        let mut loops = JoinSet::new();
        for service in &self.all {
            let (service, calls) = (service.clone(), self.calls.clone());
            loops.spawn(delivery::run(service, calls, sources.clone(), stop.clone()));
        }
        while loops.join_next().await.is_some() {}
    }
}

/// Makes the account that a service acts as unless it says otherwise, if there is none.
pub fn make_sender(tx: &WriteTx, service: &Service) -> Result<()> {
    match users::lookup(tx, &service.told.sender)? {
        Some(_) => Ok(()),
        None => users::create_for_service(tx, &service.told.sender, &service.told.id),
    }
}

/// By what the rooms are asked for that a service lists as those of a network.
pub fn instance_id(service: &str, network: &str) -> String {
    format!("{service}|{network}")
}
