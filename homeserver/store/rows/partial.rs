//! The rows of rooms that were entered before all of their members were known.

use serde::{Deserialize, Serialize};

use super::JsonRow;
use crate::base::Pos;

/// A room that was entered before all of its members were known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartialRow {
    /// The ID of the join by which it was entered.
    pub join: String,
    /// The server by which it was.
    pub by: String,
    /// When that was, milliseconds.
    pub began: u64,
    /// The layer of state that stands for its members.
    pub open: u64,
    /// The members before the join, as far as they are laid down.
    #[serde(default)]
    pub members: u64,
    /// How often in a row nobody could tell the members.
    #[serde(default)]
    pub failures: u32,
    /// When it is tried again, milliseconds.
    #[serde(default)]
    pub retry_at: u64,
    /// The position at which all members were known, or 0. What came before is looked at once more then.
    #[serde(default)]
    pub whole: Pos,
    /// How far what came before has been looked at; none before that has begun.
    #[serde(default)]
    pub look: Option<LookRow>,
}
impl JsonRow for PartialRow {}

/// How far what came into a partial room has been looked at once more: what its present would be if nothing else
/// had come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookRow {
    /// Up to where in the order of their coming.
    pub after: Pos,
    /// The forward extremities there.
    pub ends: Vec<(Pos, String)>,
    /// The state there.
    pub state: u64,
    /// Whether anything is other than it was taken for.
    pub changed: bool,
}

/// An event that came into a partial room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CameRow {
    /// Where it is.
    pub event: Pos,
    /// As what it came.
    pub how: How,
}
impl JsonRow for CameRow {}

/// As what an event came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// As the newest.
    Live,
    /// As something that was missing before others.
    Late,
    /// As part of a state or of an auth chain.
    Kept,
}
