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
use hearth::dev_cert;

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
        fs::write(dir.join("log.yaml"), LOGGING).expect("written");
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

const LOGGING: &str = "version: 1
formatters: {plain: {format: '%(asctime)s %(levelname)s %(name)s %(request)s %(message)s'}}
filters: {context: {(): synapse.logging.context.LoggingContextFilter, request: ''}}
handlers: {console: {class: logging.StreamHandler, formatter: plain, filters: [context]}}
loggers: {synapse.storage.SQL: {level: WARNING}}
root: {level: INFO, handlers: [console]}
";

fn settings(name: &str, dir: &std::path::Path, public: u16, clients: u16) -> String {
    let (dir, certificates) = (dir.display(), certificates().display());
    let authority = dev_cert::AUTHORITY;
    let limits: String = [
        "rc_message",
        "rc_registration",
        "rc_joins_per_room",
        "rc_admin_redaction",
        "rc_key_requests",
        "rc_room_creation",
    ]
    .map(|key| format!("{key}: {{per_second: 10000, burst_count: 10000}}\n"))
    .concat();
    format!(
        "server_name: {name:?}
pid_file: {dir}/pid
listeners:
  - {{port: {public}, bind_addresses: ['127.0.0.1'], type: http, tls: true, resources: [{{names: [client, federation]}}]}}
  - {{port: {clients}, bind_addresses: ['127.0.0.1'], type: http, resources: [{{names: [client]}}]}}
tls_certificate_path: {certificates}/localhost.pem
tls_private_key_path: {certificates}/localhost-key.pem
federation_custom_ca_list: ['{certificates}/{authority}']
ip_range_blacklist: []
federation_ip_range_blacklist: []
trusted_key_servers: []
suppress_key_server_warning: true
report_stats: false
database: {{name: sqlite3, args: {{database: {dir}/homeserver.db}}}}
media_store_path: {dir}/media
signing_key_path: {dir}/signing.key
log_config: {dir}/log.yaml
enable_registration: true
enable_registration_without_verification: true
registration_shared_secret: tests
macaroon_secret_key: tests
form_secret: tests
bcrypt_rounds: 4
allow_public_rooms_over_federation: true
allow_public_rooms_without_auth: true
room_list_publication_rules: [{{action: allow}}]
federation: {{destination_min_retry_interval: 1s, destination_max_retry_interval: 1s}}
federation_rr_transactions_per_room_per_second: 1000
rc_federation: {{window_size: 1000, sleep_limit: 100000, reject_limit: 100000, concurrent: 100}}
{limits}\
rc_presence: {{per_user: {{per_second: 10000, burst_count: 10000}}}}
rc_login: {{address: &free {{per_second: 10000, burst_count: 10000}}, account: *free, failed_attempts: *free}}
rc_joins: {{local: *free, remote: *free}}
rc_invites: {{per_room: *free, per_user: *free, per_issuer: *free}}
"
    )
}
