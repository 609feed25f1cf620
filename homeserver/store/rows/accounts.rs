//! Rows of accounts: users, their sessions and tokens, and what may open new ones.

use serde::{Deserialize, Serialize};

use super::JsonRow;

/// A local account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UserRow {
    /// The password as a PHC string; none for accounts that can't sign in by password.
    pub password: Option<String>,
    /// May administer the server.
    #[serde(default)]
    pub admin: bool,
    /// Closed for good.
    #[serde(default)]
    pub deactivated: bool,
    /// Closed, and its owner wanted to be forgotten.
    #[serde(default)]
    pub erased: bool,
    /// Can't be used until that is lifted.
    #[serde(default)]
    pub locked: bool,
    /// Can be used to read alone until that is lifted.
    #[serde(default)]
    pub suspended: bool,
    /// A guest account.
    #[serde(default)]
    pub guest: bool,
    /// The application service that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// When it was made, milliseconds.
    pub created: u64,
}
impl JsonRow for UserRow {}

/// A session of a local account.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DeviceRow {
    /// What its owner calls it.
    pub display_name: Option<String>,
    /// When it last called, milliseconds.
    pub last_seen: u64,
    /// From where.
    pub last_ip: String,
    /// The hashes of its tokens (unpadded base64), so that they die with it.
    #[serde(default)]
    pub tokens: Vec<String>,
    /// The hashes of tokens that replace those as soon as one of them is used.
    #[serde(default)]
    pub next: Vec<String>,
    /// The application that it signed in with by OAuth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<String>,
}
impl JsonRow for DeviceRow {}

/// An application that people sign in with by OAuth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationRow {
    /// What it calls itself.
    pub name: Option<String>,
    /// Its page.
    pub home: String,
    /// Its picture.
    pub logo: Option<String>,
    /// Its terms of service.
    pub terms: Option<String>,
    /// Its privacy policy.
    pub privacy: Option<String>,
    /// Where it may be sent back to.
    pub redirects: Vec<String>,
    /// Whether it runs outside of a browser.
    pub native: bool,
    /// Whether it may sign in by a code that people type elsewhere.
    pub device_grant: bool,
    /// When it was last registered, milliseconds.
    pub seen: u64,
}
impl JsonRow for ApplicationRow {}

/// What a token stands for. Tokens are keyed by their SHA-256 hash and never stored themselves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenRow {
    /// The account's full ID.
    pub user: String,
    /// The session.
    pub device: String,
    /// A refresh token, not an access token.
    #[serde(default)]
    pub refresh: bool,
    /// Not used yet: its first use retires the session's tokens from before.
    #[serde(default)]
    pub next: bool,
    /// When it stops working, milliseconds.
    pub expires: Option<u64>,
}
impl JsonRow for TokenRow {}

/// A registration token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RegistrationTokenRow {
    /// How often it may still be used; none for without end.
    pub uses_left: Option<u64>,
    /// How often it was used.
    #[serde(default)]
    pub used: u64,
    /// When it stops working, milliseconds.
    pub expires: Option<u64>,
    /// The account made with it becomes an administrator.
    #[serde(default)]
    pub admin: bool,
}
impl JsonRow for RegistrationTokenRow {}
