//! How a Synapse is configured and started: open, without limits, with SQLite, so that it does the same work.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Result;
use crate::http::Authority;
use crate::server::{Federation, Launch};

/// Writes a configuration into `home`, and says how to start the server on it.
pub fn launch(python: &Path, home: &Path, authority: &Authority, federation: Option<&Federation>) -> Result<Launch> {
    let config = home.join("homeserver.yaml");
    let data = home.join("data");
    fs::create_dir_all(&data)?;
    fs::write(&config, settings(home, authority, federation))?;
    fs::write(home.join("log.yaml"), LOGGING)?;
    let made = Command::new(python)
        .args(["-m", "synapse.app.homeserver", "--generate-keys", "-c"])
        .arg(&config)
        .current_dir(home)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", python.display()))?;
    if !made.status.success() {
        return Err(format!("Synapse makes no keys: {}", String::from_utf8_lossy(&made.stderr)).into());
    }
    let arguments = vec!["-m".into(), "synapse.app.homeserver".into(), "-c".into(), config.into()];
    Ok(Launch { program: python.into(), arguments, data: Some(data) })
}

const LOGGING: &str = "version: 1
formatters: {plain: {format: '%(asctime)s %(levelname)s %(name)s %(message)s'}}
handlers: {console: {class: logging.StreamHandler, formatter: plain}}
root: {level: WARNING, handlers: [console]}
";

fn settings(home: &Path, authority: &Authority, federation: Option<&Federation>) -> String {
    let port = authority.rsplit_once(':').map_or("8008", |(_, port)| port);
    let home = home.display();
    let limits: String = [
        "rc_message",
        "rc_registration",
        "rc_joins_per_room",
        "rc_admin_redaction",
        "rc_key_requests",
        "rc_room_creation",
        "rc_media_create",
    ]
    .map(|key| format!("{key}: {{per_second: 100000, burst_count: 100000}}\n"))
    .concat();
    let (name, elsewhere) = match federation {
        None => ("localhost", String::new()),
        Some(Federation { name, address, certificates }) => {
            let (port, certificates) = (address.port(), certificates.display());
            let listener = format!(
                "  - {{port: {port}, bind_addresses: ['127.0.0.1'], type: http, tls: true, resources: [{{names: [federation]}}]}}
tls_certificate_path: {certificates}/localhost.pem
tls_private_key_path: {certificates}/localhost-key.pem
federation_custom_ca_list: ['{certificates}/ca.pem']
"
            );
            (name.as_str(), listener)
        }
    };
    format!(
        "server_name: {name:?}
pid_file: {home}/pid
listeners:
  - {{port: {port}, bind_addresses: ['127.0.0.1'], type: http, resources: [{{names: [client, federation]}}]}}
{elsewhere}ip_range_blacklist: []
federation_ip_range_blacklist: []
trusted_key_servers: []
suppress_key_server_warning: true
report_stats: false
database: {{name: sqlite3, args: {{database: {home}/data/homeserver.db}}}}
media_store_path: {home}/data/media
max_upload_size: 50M
signing_key_path: {home}/signing.key
log_config: {home}/log.yaml
enable_registration: true
enable_registration_without_verification: true
macaroon_secret_key: benchmark
form_secret: benchmark
bcrypt_rounds: 4
presence: {{enabled: false}}
federation: {{destination_min_retry_interval: 1s, destination_max_retry_interval: 1s}}
federation_rr_transactions_per_room_per_second: 1000
rc_federation: {{window_size: 1000, sleep_limit: 100000, reject_limit: 100000, concurrent: 100}}
{limits}\
rc_login: {{address: &free {{per_second: 100000, burst_count: 100000}}, account: *free, failed_attempts: *free}}
rc_joins: {{local: *free, remote: *free}}
rc_invites: {{per_room: *free, per_user: *free, per_issuer: *free}}
"
    )
}
