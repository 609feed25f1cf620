//! The wall clock, in the unit that Matrix uses.

use std::time::{SystemTime, UNIX_EPOCH};

use ruma::MilliSecondsSinceUnixEpoch;

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Now, as events say it.
pub fn now() -> MilliSecondsSinceUnixEpoch {
    MilliSecondsSinceUnixEpoch::now()
}
