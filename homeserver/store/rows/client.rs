//! Rows of what clients keep here for themselves: key backups, dehydrated devices.

use serde::{Deserialize, Serialize};

use super::JsonRow;

/// A backup of room keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BackupRow {
    /// How its keys are encrypted.
    pub algorithm: String,
    /// What that takes, as JSON.
    pub auth_data: String,
    /// How many keys are in it.
    pub count: u64,
    /// A number that is another one whenever its keys have changed.
    pub etag: u64,
    /// It was deleted, and its keys go piece by piece.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}
impl JsonRow for BackupRow {}

/// An event that somebody has the server send later.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DelayedRow {
    /// Whose: a user ID.
    pub user: String,
    /// In which room: its ID.
    pub room: String,
    /// The event's type.
    pub kind: String,
    /// Its state key, for state events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_key: Option<String>,
    /// Its content as JSON.
    pub content: String,
    /// How long it waits, milliseconds.
    pub delay: u64,
    /// Since when, milliseconds.
    pub since: u64,
    /// What came of it, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}
impl JsonRow for DelayedRow {}

/// What came of an event that was to be sent later.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// When, milliseconds.
    pub at: u64,
    /// The event that was sent, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The errcode and message of what kept it from being sent, if something did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<(String, String)>,
}

/// A device without a session, which takes messages for its owner while none of theirs is there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DehydratedRow {
    /// The device.
    pub device: String,
    /// What its owner can wake it from, as JSON that only they can read.
    pub data: String,
}
impl JsonRow for DehydratedRow {}
