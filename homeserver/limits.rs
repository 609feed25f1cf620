//! Rate limits: token buckets (GCRA) per kind of action and per who does it.
//!
//! The rates follow what the field has found bearable, with enough burst for a call starting in a
//! room. Memory is bounded: buckets that are full again are forgotten once a minute.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    state::keyed::HashMapStateStore,
};

use tokio::sync::Semaphore;

use crate::error::{Error, Result};

/// An address as a bucket counts it: whoever has one IPv6 address has the other 2^64 of its network.
pub fn address(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).to_string(),
    }
}

/// What is limited. Each kind has its own rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bucket {
    /// Sending events, per person.
    Message,
    /// Registering, per address.
    Registration,
    /// Becoming a guest, per address.
    BecomingGuest,
    /// Whatever a guest does but reading, per guest, beside what limits others too.
    Guest,
    /// Asking whether a registration token or a name is good, per address.
    Validity,
    /// Signing in, per address.
    LoginAddress,
    /// Signing in, per account and address.
    LoginAccount,
    /// Failing to sign in, per account and address: nobody keeps the owner out by guessing from elsewhere.
    LoginFailure,
    /// Failing to sign in, per account from anywhere: many addresses don't make many guesses.
    AccountFailure,
    /// Failing to prove oneself in a session, per person.
    ProofFailure,
    /// Joining rooms, per person.
    Join,
    /// Creating rooms, per person.
    CreateRoom,
    /// Inviting, per person.
    Invite,
    /// Invites that another server brings, per server.
    InviteFrom,
    /// Making media, per person.
    Media,
    /// Downloading media, per person: a list of people has many faces.
    Download,
    /// Setting presence and typing, per person.
    Presence,
    /// Reporting, per person.
    Report,
    /// Searching people, per person.
    UserSearch,
    /// Messages from device to device, per person, by what [`Limits::take_many`] is told they weigh: the
    /// burst takes the largest request there may be, and a room's key for thousands of devices.
    ToDevice,
    /// Reading what takes work to put together, and publishing keys, per person: clients do it in
    /// bursts when they start and when somebody scrolls.
    Costly,
    /// Calling as a server whose key is not known yet, or asking for keys of one, per address: each is a call
    /// to that server.
    NewServer,
    /// Everything else that the spec says is limited, per person or address.
    Other,
}

const KINDS: [(Bucket, f64, u32); 23] = [
    (Bucket::Message, 5.0, 60),
    (Bucket::Registration, 0.17, 5),
    (Bucket::BecomingGuest, 0.05, 5),
    (Bucket::Guest, 1.0, 30),
    (Bucket::Validity, 0.5, 20),
    (Bucket::LoginAddress, 0.2, 15),
    (Bucket::LoginAccount, 0.1, 10),
    (Bucket::LoginFailure, 0.05, 5),
    (Bucket::AccountFailure, 0.2, 100),
    (Bucket::ProofFailure, 0.05, 5),
    (Bucket::Join, 0.5, 20),
    (Bucket::CreateRoom, 0.1, 15),
    (Bucket::Invite, 0.5, 30),
    (Bucket::InviteFrom, 2.0, 100),
    (Bucket::Media, 5.0, 50),
    (Bucket::Download, 50.0, 1000),
    (Bucket::Presence, 5.0, 30),
    (Bucket::Report, 1.0, 5),
    (Bucket::UserSearch, 1.0, 50),
    (Bucket::ToDevice, 200.0, 20_000),
    (Bucket::Costly, 20.0, 500),
    (Bucket::NewServer, 5.0, 300),
    (Bucket::Other, 20.0, 200),
];

/// Failures remembered at most; beyond it the oldest are forgiven, which an attacker pays for with as
/// many attempts that the other buckets limit.
const MAX_BLOCKED: usize = 100_000;

/// The memory for request bodies that are being read or answered, in bytes. Strangers have their own, so
/// that they take nothing from those who have an account.
pub struct Bodies {
    /// For requests without a session.
    pub strangers: Arc<Semaphore>,
    /// For requests with one.
    pub accounts: Arc<Semaphore>,
    /// For requests of other servers.
    pub servers: Arc<Semaphore>,
}

impl Default for Bodies {
    fn default() -> Self {
        let mib = |count: usize| Arc::new(Semaphore::new(count * 1024 * 1024));
        Self { strangers: mib(32), accounts: mib(96), servers: mib(96) }
    }
}

type Keyed = RateLimiter<String, HashMapStateStore<String>, DefaultClock>;

/// All buckets of the server.
pub struct Limits {
    kinds: Vec<Keyed>,
    enabled: bool,
    /// Who failed too often, until when.
    blocked: Mutex<HashMap<(Bucket, String), Instant>>,
    /// Who is not limited.
    exempt: OnceLock<Exempt>,
}

/// Says whether somebody is not limited.
type Exempt = Box<dyn Fn(&str) -> bool + Send + Sync>;

impl Limits {
    /// Limits that are on, or for tests and benchmarks off.
    pub fn new(enabled: bool) -> Self {
        let kinds = KINDS.iter().map(|(_, per_second, burst)| {
            let burst = NonZeroU32::new(*burst).expect("bursts are positive");
            let quota = Quota::with_period(Duration::from_secs_f64(1.0 / per_second)).expect("rates are positive");
            RateLimiter::hashmap(quota.allow_burst(burst))
        });
        Self { kinds: kinds.collect(), enabled, blocked: Mutex::default(), exempt: OnceLock::new() }
    }

    /// Says, once, who is not limited. It is asked of those alone whose bucket is empty.
    pub fn exempt(&self, who: impl Fn(&str) -> bool + Send + Sync + 'static) {
        // A second time changes nothing.
        let _ = self.exempt.set(Box::new(who));
    }

    /// Takes one from a bucket. 429 `M_LIMIT_EXCEEDED` if it is empty.
    pub fn take(&self, bucket: Bucket, who: impl ToString) -> Result<()> {
        self.take_many(bucket, who, 1)
    }

    /// Takes as many as something weighs, and no more than the bucket holds, from a bucket. 429
    /// `M_LIMIT_EXCEEDED` if there are fewer in it.
    pub fn take_many(&self, bucket: Bucket, who: impl ToString, weight: u32) -> Result<()> {
        let Some(weight) = NonZeroU32::new(weight).filter(|_| self.enabled) else { return Ok(()) };
        let kind = KINDS.iter().position(|(kind, ..)| *kind == bucket).expect("every bucket has a rate");
        let burst = NonZeroU32::new(KINDS[kind].2).expect("bursts are positive");
        let who = who.to_string();
        let taken = self.kinds[kind].check_key_n(&who, weight.min(burst)).expect("it is no more than the burst");
        match taken {
            Err(_) if self.exempt.get().is_some_and(|exempt| exempt(&who)) => Ok(()),
            taken => taken.map_err(|until| Error::limited(until.wait_time_from(DefaultClock::default().now()))),
        }
    }

    /// Refuses who has failed too often and should wait. Takes nothing. 429 `M_LIMIT_EXCEEDED`.
    pub fn check_failures(&self, bucket: Bucket, who: &str) -> Result<()> {
        let until = self.blocked().get(&(bucket, who.to_owned())).copied();
        match until.and_then(|until| until.checked_duration_since(Instant::now())) {
            Some(wait) => Err(Error::limited(wait)),
            None => Ok(()),
        }
    }

    /// Notes a failure. Once the bucket is empty, [`Self::check_failures`] refuses for a while.
    pub fn failed(&self, bucket: Bucket, who: &str) {
        let Err(error) = self.take(bucket, who) else { return };
        let (mut blocked, now) = (self.blocked(), Instant::now());
        if blocked.len() >= MAX_BLOCKED {
            blocked.retain(|_, until| *until > now + Duration::from_secs(10));
        }
        if blocked.len() < MAX_BLOCKED {
            blocked.insert((bucket, who.to_owned()), now + error.retry_after().unwrap_or_default());
        }
    }

    fn blocked(&self) -> MutexGuard<'_, HashMap<(Bucket, String), Instant>> {
        self.blocked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the buckets that are full again.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.blocked().retain(|_, until| *until > now);
        for kind in &self.kinds {
            kind.retain_recent();
            kind.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_says_when_to_try_again() {
        let limits = Limits::new(true);
        for _ in 0..5 {
            limits.take(Bucket::LoginFailure, "@a:b").expect("within the burst");
        }
        let error = limits.take(Bucket::LoginFailure, "@a:b").expect_err("beyond the burst");
        assert_eq!(error.errcode(), "M_LIMIT_EXCEEDED");
        assert!(error.retry_after().is_some_and(|after| after <= Duration::from_secs(20)));
        limits.take(Bucket::LoginFailure, "@c:b").expect("somebody else");
    }

    #[test]
    fn room_keys_for_a_thousand_devices_pass_and_a_flood_does_not() {
        let limits = Limits::new(true);
        for _ in 0..10 {
            limits.take_many(Bucket::ToDevice, "@a:b", 1000).expect("a room's keys");
        }
        let more = (0..20).find_map(|_| limits.take_many(Bucket::ToDevice, "@a:b", 1000).err());
        assert_eq!(more.expect("a flood").errcode(), "M_LIMIT_EXCEEDED");
        limits.take_many(Bucket::ToDevice, "@c:b", u32::MAX).expect("what weighs more than all takes all");
        limits.take(Bucket::ToDevice, "@c:b").expect_err("nothing is left");
    }

    #[test]
    fn who_fails_too_often_waits_even_with_the_right_password() {
        let limits = Limits::new(true);
        for _ in 0..5 {
            limits.failed(Bucket::LoginFailure, "alice");
            limits.check_failures(Bucket::LoginFailure, "alice").expect("a few are forgiven");
        }
        limits.failed(Bucket::LoginFailure, "alice");
        let error = limits.check_failures(Bucket::LoginFailure, "alice").expect_err("too many");
        assert_eq!(error.errcode(), "M_LIMIT_EXCEEDED");
        limits.check_failures(Bucket::LoginFailure, "bob").expect("somebody else");
        let off = Limits::new(false);
        (0..9).for_each(|_| off.failed(Bucket::LoginFailure, "alice"));
        off.check_failures(Bucket::LoginFailure, "alice").expect("limits are off");
    }

    #[test]
    fn neighbours_in_an_ipv6_network_are_one() {
        let of = |text: &str| address(text.parse().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("::ffff:192.0.2.1"), "192.0.2.1");
    }
}
