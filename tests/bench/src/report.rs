//! What was measured: rows of figures, kept as JSON so that two runs can be laid side by side.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Result;

/// One run.
#[derive(Serialize, Deserialize)]
pub struct Report {
    /// Which server, on which machine, when.
    pub what: String,
    pub machine: String,
    pub scale: String,
    /// Seconds since 1970.
    pub when: u64,
    pub rows: Vec<Row>,
}

/// One line of the table. What doesn't apply to it, or couldn't be measured on this server, is absent.
#[derive(Serialize, Deserialize, Clone, Default)]
pub struct Row {
    pub name: String,
    /// How many times a second it was done.
    pub rate: Option<f64>,
    /// Milliseconds that half of them took at most.
    pub p50: Option<f64>,
    /// Milliseconds that 99 in 100 of them took at most.
    pub p99: Option<f64>,
    /// Milliseconds of the server's processor time for each.
    pub cpu: Option<f64>,
    /// Bytes of answer, memory or disk, as the name says.
    pub bytes: Option<f64>,
}

impl Report {
    pub fn new(what: &str, machine: &str, scale: &str, when: u64) -> Report {
        Report { what: what.into(), machine: machine.into(), scale: scale.into(), when, rows: Vec::new() }
    }

    /// Adds a row, and tells the person who waits.
    pub fn add(&mut self, row: Row) {
        eprintln!("bench:   {}", crate::table::line(&row));
        self.rows.push(row);
    }

    /// What an earlier run wrote.
    pub fn read(path: &Path) -> Result<Report> {
        let text = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?)
    }

    /// Keeps it for a comparison.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(())
    }
}

impl Row {
    pub fn new(name: impl Into<String>) -> Row {
        Row { name: name.into(), ..Row::default() }
    }

    /// So many in this time.
    pub fn rate(mut self, count: usize, time: Duration) -> Row {
        self.rate = Some(count as f64 / time.as_secs_f64());
        self
    }

    /// What each of them took.
    pub fn times(mut self, times: &mut [Duration]) -> Row {
        times.sort_unstable();
        self.p50 = at(times, 0.50);
        self.p99 = at(times, 0.99);
        self
    }

    pub fn cpu(mut self, milliseconds: Option<f64>) -> Row {
        self.cpu = milliseconds;
        self
    }

    pub fn bytes(mut self, bytes: Option<f64>) -> Row {
        self.bytes = bytes;
        self
    }
}

/// The nearest rank: the smallest time that at least this share of all is no longer than.
fn at(sorted: &[Duration], share: f64) -> Option<f64> {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).map(|time| time.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let mut times: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        let row = Row::new("x").times(&mut times);
        assert_eq!((row.p50, row.p99), (Some(100.0), Some(198.0)));
        let row = Row::new("x").times(&mut [Duration::from_millis(7)]);
        assert_eq!((row.p50, row.p99), (Some(7.0), Some(7.0)));
        assert_eq!(Row::new("x").times(&mut []).p50, None);
    }
}
