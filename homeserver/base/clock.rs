//! The wall clock, in the unit that Matrix uses; and numbers for what happens in memory only.

use std::{
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::{SystemTime, UNIX_EPOCH},
};

use ruma::MilliSecondsSinceUnixEpoch;

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Now, as events say it.
pub fn now() -> MilliSecondsSinceUnixEpoch {
    MilliSecondsSinceUnixEpoch::now()
}

/// The last tick.
static LAST: AtomicU64 = AtomicU64::new(0);

/// The next number in the order of what happens in memory only (typing, presence): greater than all
/// before it, and never less than the clock's milliseconds, so that none comes again after a restart.
/// Taken while the lock is held on what it numbers.
pub fn tick() -> u64 {
    let now = now_ms();
    let before = LAST.fetch_update(SeqCst, SeqCst, |last| Some(now.max(last + 1))).unwrap_or_default();
    now.max(before + 1)
}

/// The newest number that was taken.
pub fn last_tick() -> u64 {
    LAST.load(SeqCst)
}
