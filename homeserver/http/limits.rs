//! Rate limits: token buckets (GCRA) per kind of action and per who does it.
//!
//! The rates follow what the field has found bearable, with enough burst for a call starting in a
//! room. Memory is bounded: buckets that are full again are forgotten once a minute.

use std::{num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    state::keyed::HashMapStateStore,
};

use crate::error::{Error, Result};

/// What is limited. Each kind has its own rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bucket {
    /// Sending events, per person.
    Message,
    /// Registering, per address.
    Registration,
    /// Asking whether a registration token or a name is good, per address.
    Validity,
    /// Signing in, per address.
    LoginAddress,
    /// Signing in, per account.
    LoginAccount,
    /// Failing to sign in, per account.
    LoginFailure,
    /// Joining rooms, per person.
    Join,
    /// Creating rooms, per person.
    CreateRoom,
    /// Inviting, per person.
    Invite,
    /// Making media, per person.
    Media,
    /// Setting presence and typing, per person.
    Presence,
    /// Searching people, per person.
    UserSearch,
    /// Everything else that the spec says is limited, per person or address.
    Other,
}

const KINDS: [(Bucket, f64, u32); 13] = [
    (Bucket::Message, 5.0, 60),
    (Bucket::Registration, 0.17, 5),
    (Bucket::Validity, 0.5, 20),
    (Bucket::LoginAddress, 0.2, 15),
    (Bucket::LoginAccount, 0.1, 10),
    (Bucket::LoginFailure, 0.05, 5),
    (Bucket::Join, 0.5, 20),
    (Bucket::CreateRoom, 0.1, 15),
    (Bucket::Invite, 0.5, 30),
    (Bucket::Media, 5.0, 50),
    (Bucket::Presence, 5.0, 30),
    (Bucket::UserSearch, 1.0, 50),
    (Bucket::Other, 20.0, 200),
];

type Keyed = RateLimiter<String, HashMapStateStore<String>, DefaultClock>;

/// All buckets of the server.
pub struct Limits {
    kinds: Vec<Keyed>,
    enabled: bool,
}

impl Limits {
    /// Limits that are on, or for tests and benchmarks off.
    pub fn new(enabled: bool) -> Self {
        let kinds = KINDS.iter().map(|(_, per_second, burst)| {
            let burst = NonZeroU32::new(*burst).expect("bursts are positive");
            let quota = Quota::with_period(Duration::from_secs_f64(1.0 / per_second)).expect("rates are positive");
            RateLimiter::hashmap(quota.allow_burst(burst))
        });
        Self { kinds: kinds.collect(), enabled }
    }

    /// Takes one from a bucket. 429 `M_LIMIT_EXCEEDED` if it is empty.
    pub fn take(&self, bucket: Bucket, who: impl ToString) -> Result<()> {
        if !self.enabled {
            return Ok(());
        }
        let kind = KINDS.iter().position(|(kind, ..)| *kind == bucket).expect("every bucket has a rate");
        self.kinds[kind]
            .check_key(&who.to_string())
            .map_err(|not_until| Error::limited(not_until.wait_time_from(DefaultClock::default().now())))
    }

    /// Forgets the buckets that are full again.
    pub fn sweep(&self) {
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
}
