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

/// A device without a session, which takes messages for its owner while none of theirs is there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DehydratedRow {
    /// The device.
    pub device: String,
    /// What its owner can wake it from, as JSON that only they can read.
    pub data: String,
}
impl JsonRow for DehydratedRow {}
