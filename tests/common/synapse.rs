//! Synapse as a peer: the other homeserver, run as a process beside ours, from the packages that
//! `tests/synapse/requirements.txt` pins. One for all tests, as it takes its time to start.

use std::{
    env,
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use super::{Server, User, certificates, free_address, repository, server::client};

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running Synapse.
pub struct Synapse {
    /// Its name.
    pub name: String,
    /// Where clients reach it.
    pub url: String,
    dir: PathBuf,
    /// Ends when this process does: it listens at a pipe that we hold.
    child: Child,
}

impl Synapse {
    /// The one that all tests share.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Synapse> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    async fn start() -> Self {
        let python = repository("tests/synapse/.venv/bin/python");
        let python = env::var_os("HEARTH_SYNAPSE_PYTHON").map_or(python, PathBuf::from);
        let dir = TempDir::with_prefix("synapse-").expect("a directory").keep();
        let (public, clients) = (free_address(), free_address());
        let name = format!("localhost:{}", public.port());
        let config = dir.join("homeserver.yaml");
        fs::write(&config, settings(&name, &dir, public.port(), clients.port())).expect("written");
        fs::write(dir.join("log.yaml"), include_str!("../synapse/log.yaml")).expect("written");
        let log = File::create(dir.join("log")).expect("a log");
        let made = Command::new(&python)
            .args(["-m", "synapse.app.homeserver", "--generate-keys", "-c"])
            .arg(&config)
            .current_dir(&dir)
            .output()
            .expect("Synapse is installed: run tests/run synapse");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        // Whatever ends us closes the pipe, and that ends it.
        let script =
            r#"dir=$1; shift; exec 3<&0; "$@" & pid=$!; (cat <&3; kill $pid; sleep 1; rm -rf "$dir") & wait $pid"#;
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(&dir).arg(&python).args(["-m", "synapse.app.homeserver", "-c"]);
        command.arg(&config).current_dir(&dir).stdin(Stdio::piped());
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        let child = command.spawn().expect("sh is there");
        let mut synapse = Self { name, url: format!("http://{clients}"), dir, child };
        let (began, http) = (Instant::now(), client());
        while http.get(format!("{}/_matrix/client/versions", synapse.url)).send().await.is_err() {
            let ended = synapse.child.try_wait().expect("our child").is_some();
            let patient = began.elapsed() < PATIENCE;
            assert!(patient && !ended, "Synapse did not start. It said:\n{}", synapse.log());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        synapse
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// A new account, signed in.
    pub async fn register(&self, name: &str) -> User {
        let mut user = User::new(self.url.clone(), client());
        let auth = json!({"type": "m.login.dummy"});
        let body = json!({"username": name, "password": Server::password(name), "auth": auth});
        let made: Value = user.post("/_matrix/client/v3/register", body).await.ok();
        let text = |name: &str| made[name].as_str().unwrap_or_else(|| panic!("no {name}: {made}")).to_owned();
        (user.id, user.device, user.token) = (text("user_id"), text("device_id"), Some(text("access_token")));
        user
    }
}

/// The settings, with what is this one's own filled in.
fn settings(name: &str, dir: &std::path::Path, public: u16, clients: u16) -> String {
    let own = [
        ("@NAME@", name.to_owned()),
        ("@HOME@", dir.display().to_string()),
        ("@CERTIFICATES@", certificates().display().to_string()),
        ("@SERVERS@", public.to_string()),
        ("@CLIENTS@", clients.to_string()),
    ];
    own.iter().fold(include_str!("../synapse/homeserver.yaml").to_owned(), |text, (what, is)| text.replace(what, is))
}
