//! Transaction IDs: the same one from the same device leads to the same event, however often it is
//! sent and whether or not the server was restarted in between. Each is remembered for at least a day,
//! which is longer than clients retry, and for two at most.
//! spec: client-server-api#transaction-identifiers

use crate::{
    base::clock,
    error::{Error, Result},
    store::{Flow, LAST, Read, WriteTx, tables},
};

const DAY: u64 = 24 * 60 * 60 * 1000;
/// Bytes of a transaction ID at most: it is kept.
const MAX_ID: usize = 255;

/// Who sends what under which transaction ID.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// The user's ID.
    pub user: String,
    /// The device.
    pub device: String,
    /// The endpoint, with all of its path but the transaction ID.
    pub endpoint: String,
    /// The transaction ID.
    pub id: String,
}

impl Transaction {
    fn scope(&self) -> String {
        format!("{}\n{}", self.endpoint, self.id)
    }

    /// What it led to, if it was sent before. To be asked before anything is done: 400
    /// `M_INVALID_PARAM` for an ID that is too long.
    pub fn outcome(&self, tx: &impl Read) -> Result<Option<String>> {
        if self.id.len() > MAX_ID {
            return Err(Error::invalid_param(format!("a transaction ID has at most {MAX_ID} bytes")));
        }
        self.outcome_on(tx, today())
    }

    /// Remembers what it led to.
    pub fn done(&self, tx: &WriteTx, outcome: &str) -> Result<()> {
        self.done_on(tx, today(), outcome)
    }

    fn outcome_on(&self, tx: &impl Read, day: u64) -> Result<Option<String>> {
        let scope = self.scope();
        for day in [day, day.saturating_sub(1)] {
            let outcome = tables::TRANSACTIONS.get(tx, (day, &*self.user, &*self.device, &*scope))?;
            if outcome.is_some() {
                return Ok(outcome);
            }
        }
        Ok(None)
    }

    fn done_on(&self, tx: &WriteTx, day: u64, outcome: &str) -> Result<()> {
        let key = (day, &*self.user, &*self.device, &*self.scope());
        tables::TRANSACTIONS.put(tx, key, &outcome.to_owned())
    }
}

/// The day that it is. It never goes back while the server runs, even if the clock does: what was just
/// remembered is always looked for.
fn today() -> u64 {
    clock::tick() / DAY
}

/// Forgets what a device sent: it has gone.
pub fn forget(tx: &WriteTx, user: &str, device: &str) -> Result<()> {
    let today = today();
    for day in [today, today.saturating_sub(1)] {
        tables::TRANSACTIONS.remove_range(tx, (day, user, device, "")..=(day, user, device, LAST))?;
    }
    Ok(())
}

/// Whether there is something for [`sweep`] to do.
pub fn has_old(tx: &impl Read) -> Result<bool> {
    Ok(last_old(tx, today(), 1)?.is_some())
}

/// Forgets what was sent before yesterday, `most` transactions at most.
pub fn sweep(tx: &WriteTx, most: usize) -> Result<()> {
    sweep_on(tx, today(), most)
}

fn sweep_on(tx: &WriteTx, day: u64, most: usize) -> Result<()> {
    let Some((day, user, device, scope)) = last_old(tx, day, most)? else { return Ok(()) };
    tables::TRANSACTIONS.remove_range(tx, (0, "", "", "")..=(day, &*user, &*device, &*scope))
}

/// The key of the last of the first `most` rows from before yesterday.
fn last_old(tx: &impl Read, today: u64, most: usize) -> Result<Option<(u64, String, String, String)>> {
    let (mut last, mut seen) = (None, 0);
    let yesterday = today.saturating_sub(1);
    tables::TRANSACTIONS.scan(tx, (0, "", "", "")..(yesterday, "", "", ""), |(day, user, device, scope), _| {
        seen += 1;
        last = Some((day, user.to_owned(), device.to_owned(), scope.to_owned()));
        Ok(if seen < most { Flow::Next } else { Flow::Stop })
    })?;
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        accounts::testing,
        store::{Options, Store},
    };

    fn sent(device: &str, id: impl ToString) -> Transaction {
        let endpoint = "send/!r:b.c/m.room.message".to_owned();
        Transaction { user: "@a:b.c".into(), device: device.into(), endpoint, id: id.to_string() }
    }

    #[tokio::test]
    async fn the_same_transaction_has_the_same_outcome_for_a_day_and_across_restarts() {
        let (dir, store) = testing::store();
        store.write(|tx| sent("D", 1).done(tx, "$now")).await.expect("writes");
        store.write(|tx| sent("D", 2).done_on(tx, 10, "$then")).await.expect("writes");
        store.close().await;
        let options = Options { page_cache: 1 << 20, state_cache: 1 << 20, min_free: 0 };
        let store = Store::open(&dir.path().join("hearth.redb"), options, Box::new(|_, _| {})).expect("opens");
        let on = |day: u64, id: u64| store.read(|tx| sent("D", id).outcome_on(tx, day)).expect("reads");
        assert_eq!(store.read(|tx| sent("D", 1).outcome(tx)).expect("reads").as_deref(), Some("$now"));
        assert_eq!(on(10, 2).as_deref(), Some("$then"));
        assert_eq!(on(11, 2).as_deref(), Some("$then"));
        assert_eq!(on(11, 3), None);
        for other in [sent("E", 2), Transaction { endpoint: "redact".into(), ..sent("D", 2) }] {
            assert_eq!(store.read(|tx| other.outcome_on(tx, 11)).expect("reads"), None);
        }
    }

    #[tokio::test]
    async fn what_is_old_is_forgotten_piece_by_piece_and_what_is_young_stays() {
        let (_dir, store) = testing::store();
        let fill = |tx: &WriteTx| {
            for n in 0..25u64 {
                sent(["D", "E"][usize::from(n % 2 == 0)], n).done_on(tx, 8 + n % 5, "$x")?;
            }
            Ok(())
        };
        store.write(fill).await.expect("writes");
        let left = || store.read(|tx| tables::TRANSACTIONS.len(tx)).expect("reads");
        let mut lengths = Vec::new();
        for _ in 0..4 {
            store.write(|tx| sweep_on(tx, 12, 7)).await.expect("sweeps");
            lengths.push(left());
        }
        assert_eq!(lengths, [18, 11, 10, 10], "of five days three are old");
        let kept = store.read(|tx| tables::TRANSACTIONS.collect(tx, (0, "", "", "").., |key, _| key.0));
        assert!(kept.expect("reads").iter().all(|day| [11, 12].contains(day)));
        assert!(store.read(has_old).expect("reads"), "that was long ago");
        store.write(|tx| sweep(tx, 500)).await.expect("sweeps");
        assert_eq!((left(), store.read(has_old).expect("reads")), (0, false));
    }

    #[tokio::test]
    async fn who_signs_out_is_forgotten_and_nobody_else() {
        let (_dir, store) = testing::store();
        let work = |tx: &WriteTx| {
            for device in ["D", "DE", "C"] {
                sent(device, 1).done(tx, "$x")?;
                sent(device, 2).done_on(tx, today() - 1, "$x")?;
            }
            forget(tx, "@a:b.c", "D")?;
            for (device, known) in [("D", false), ("DE", true), ("C", true)] {
                for id in [1, 2] {
                    assert_eq!(sent(device, id).outcome(tx)?.is_some(), known, "{device} {id}");
                }
            }
            Ok(())
        };
        store.write(work).await.expect("writes");
    }
}
