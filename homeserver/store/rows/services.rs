//! Rows of application services.

use serde::{Deserialize, Serialize};

use super::JsonRow;
use crate::base::Pos;

/// How far an application service has been told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRow {
    /// Up to where it has been told of events.
    pub events: Pos,
    /// Up to where it has been given messages for devices.
    pub messages: Pos,
    /// The number of the last transaction that it has taken.
    pub number: u64,
    /// The transaction that it is being told now: a retry has to be the same.
    #[serde(default)]
    pub trying: Option<TryingRow>,
}
impl JsonRow for ServiceRow {}

/// What a transaction holds: all that there is up to these positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TryingRow {
    /// Of events.
    pub events: Pos,
    /// Of messages for devices.
    pub messages: Pos,
}
