//! Rows of what administrators look after.

use serde::{Deserialize, Serialize};

use super::JsonRow;

/// What somebody finds that the server's people should look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportRow {
    /// Who says so.
    pub reporter: String,
    /// Why.
    pub reason: String,
    /// When, milliseconds.
    pub at: u64,
    /// The room that it is about or that the event is in.
    pub room: Option<String>,
    /// The event.
    pub event: Option<String>,
    /// The person that it is about or that sent the event.
    pub user: Option<String>,
}
impl JsonRow for ReportRow {}

/// A room that is being or was taken down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovalRow {
    /// The room's ID.
    pub room: String,
    /// When it began, milliseconds.
    pub began: u64,
    /// `active`, `complete` or `failed`.
    pub status: String,
    /// Why it failed.
    pub error: Option<String>,
    /// Whether what was said there goes too.
    pub purge: bool,
    /// Who makes a room for those who were in it, and what it is called and says.
    pub instead: Option<Instead>,
    /// Who was put out.
    pub kicked: Vec<String>,
    /// Who could not be.
    pub failed: Vec<String>,
    /// The aliases that it had.
    pub aliases: Vec<String>,
    /// The room that was made in its place.
    pub new_room: Option<String>,
}
impl JsonRow for RemovalRow {}

/// A room in another's place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instead {
    /// Whose it is.
    pub owner: String,
    /// Its name.
    pub name: String,
    /// What is said in it.
    pub message: String,
}
