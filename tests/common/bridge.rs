//! An application service of the test's own: it has a registration, is told what happens, answers what it is
//! told to, and can be down.
//!
//! ```ignore
//! let mut bridge = Bridge::start("b", "receive_ephemeral: true\n").await;
//! let server = Server::start_with(&bridge.settings("rate_limits = false\n")).await;
//! let anna = bridge.make(&server, "_b_anna").await;
//! ```

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    Asked, Says, Server, User, encode,
    federation::{Answers, listen, serve},
    free_address,
};

/// Where a server says what happened.
const TRANSACTIONS: &str = "/_matrix/app/v1/transactions/";

/// A service, of which the users `@_ID_…` and the aliases `#_ID_…` are.
pub struct Bridge {
    /// What it is called.
    pub id: String,
    /// How it proves who it is.
    pub as_token: String,
    /// How the server proves who it is.
    pub hs_token: String,
    /// Its registration.
    pub file: PathBuf,
    address: SocketAddr,
    answers: Answers,
    asked: Arc<Mutex<Vec<Asked>>>,
    listening: Option<tokio::task::JoinHandle<()>>,
    _dir: TempDir,
}

impl Drop for Bridge {
    fn drop(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
        }
    }
}

impl Bridge {
    /// One that takes whatever it is told, with these further lines in its registration.
    pub async fn start(id: &str, more: &str) -> Self {
        let dir = TempDir::with_prefix("bridge-").expect("a directory");
        let (file, address) = (dir.path().join("registration.yaml"), free_address());
        let (as_token, hs_token) = (format!("as_secret_of_{id}"), format!("hs_secret_of_{id}"));
        let text = format!(
            "id: {id}\nurl: http://{address}\nas_token: {as_token}\nhs_token: {hs_token}\n\
             sender_localpart: {id}bot\nnamespaces:\n  users:\n  - exclusive: true\n    regex: '@_{id}_.*:.*'\n  \
             aliases:\n  - exclusive: true\n    regex: '#_{id}_.*'\n{more}"
        );
        fs::write(&file, text).expect("written");
        let (answers, asked) = Default::default();
        let id = id.to_owned();
        let mut bridge = Self { id, as_token, hs_token, file, address, answers, asked, listening: None, _dir: dir };
        bridge.says(TRANSACTIONS, Says::Json(200, json!({})));
        bridge.resume().await;
        bridge
    }

    /// These settings, and that the server knows this service.
    pub fn settings(&self, settings: &str) -> String {
        format!("app_services = [{:?}]\nregistration = \"open\"\n{settings}", self.file)
    }

    /// Hangs up, and is not there any more.
    pub async fn stop(&mut self) {
        let listening = self.listening.take().expect("it is there");
        listening.abort();
        _ = listening.await;
    }

    /// Is there again.
    pub async fn resume(&mut self) {
        let (answers, asked) = (self.answers.clone(), self.asked.clone());
        self.listening = Some(listen(self.address, move |stream| serve(stream, answers.clone(), asked.clone())).await);
    }

    /// From now on it answers so where the path begins so; what was said last counts.
    pub fn says(&self, path: &str, answer: Says) {
        self.answers.lock().expect("a lock").insert(0, (path.to_owned(), answer));
    }

    /// What it answers when it is told what happened.
    pub fn takes(&self, answer: Says) {
        self.says(TRANSACTIONS, answer);
    }

    /// What it was asked where the path begins so.
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        let asked = self.asked.lock().expect("a lock");
        asked.iter().filter(|asked| asked.uri.starts_with(path)).cloned().collect()
    }

    /// What it was told, by transaction, in the order in which it was.
    pub fn transactions(&self) -> Vec<(String, Value)> {
        let told = self.asked(TRANSACTIONS).into_iter();
        told.map(|asked| (asked.uri[TRANSACTIONS.len()..].to_owned(), asked.body)).collect()
    }

    /// The events that it was told, each transaction once.
    pub fn events(&self) -> Vec<Value> {
        let mut seen = std::collections::HashSet::new();
        let told = self.transactions().into_iter().filter(|(id, _)| seen.insert(id.clone()));
        told.flat_map(|(_, body)| body["events"].as_array().cloned().unwrap_or_default()).collect()
    }

    /// The texts among them.
    pub fn texts(&self) -> Vec<String> {
        let events = self.events().into_iter();
        events.filter_map(|event| event["content"]["body"].as_str().map(str::to_owned)).collect()
    }

    /// What passes and was told, of a type.
    pub fn passing(&self, kind: &str) -> Vec<Value> {
        let told = self.transactions().into_iter();
        let told = told.flat_map(|(_, body)| body["ephemeral"].as_array().cloned().unwrap_or_default());
        told.filter(|event| event["type"] == kind).collect()
    }

    /// Itself, by its own account.
    pub fn bot(&self, server: &Server) -> User {
        let mut bot = server.guest();
        (bot.id, bot.token) = (format!("@{}bot:{}", self.id, server.name), Some(self.as_token.clone()));
        bot
    }

    /// Itself as one of its people, whether they are there or not.
    pub fn act_as(&self, server: &Server, name: &str) -> User {
        let mut user = self.bot(server);
        user.id = format!("@{name}:{}", server.name);
        user.acting = Some(format!("user_id={}", encode(&user.id)));
        user
    }

    /// Makes one of its people.
    pub async fn make(&self, server: &Server, name: &str) -> User {
        let body = json!({"type": "m.login.application_service", "username": name, "inhibit_login": true});
        let made = self.bot(server).post("/_matrix/client/v3/register", body).await.ok();
        let user = self.act_as(server, name);
        assert_eq!(made["user_id"], user.id.as_str());
        assert!(made["access_token"].is_null(), "none was wanted");
        user
    }
}
