//! Rows of push: who wants to be told where, how far they have been, and what came of it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::JsonRow;
use crate::base::Pos;

/// A pusher: where somebody wants to be told what happens while none of their clients looks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PusherRow {
    /// The application, as its maker calls it.
    pub app_id: String,
    /// How the gateway finds the device. A secret.
    pub pushkey: String,
    /// The application, for people.
    pub app_name: String,
    /// The device, for people.
    pub device_name: String,
    /// A name for a set of rules, which nothing here depends on.
    pub profile_tag: Option<String>,
    /// The language that its owner reads.
    pub lang: String,
    /// The gateway.
    pub url: String,
    /// What the gateway is told besides, as the client wants it.
    pub data: Map<String, Value>,
    /// The session that set it, with which it ends.
    pub device: String,
    /// Turned off, but not gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// It is told of what came after this.
    pub since: Pos,
    /// When it was last set, milliseconds.
    pub set: u64,
}
impl JsonRow for PusherRow {}

/// How it stands with a pusher.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PusherStateRow {
    /// Up to where it has been told, while something more waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Pos>,
    /// The count of what is unread that it was told last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub badge: Option<u64>,
    /// That count may be another one by now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub badge_due: bool,
    /// Attempts that failed since one succeeded.
    #[serde(default)]
    pub failures: u32,
    /// When the first of them was, milliseconds.
    #[serde(default)]
    pub failing_since: u64,
    /// When the next attempt is, milliseconds.
    #[serde(default)]
    pub retry_at: u64,
}
impl JsonRow for PusherStateRow {}

/// What came of telling a gateway something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushedRow {
    /// When, milliseconds.
    pub at: u64,
    /// How long it took, milliseconds.
    pub took: u64,
    /// What came of it, in a word.
    pub outcome: Outcome,
    /// The HTTP status, if there was an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The event that it was about; none for a mere count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
}
impl JsonRow for PushedRow {}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The gateway has taken it.
    Delivered,
    /// It will be tried again.
    Failed,
    /// The gateway refused it again and again, and it was left out.
    Dropped,
    /// The gateway knows no such device any more.
    Rejected,
}
