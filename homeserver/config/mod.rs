//! Every setting, its default and its check. The file is TOML; all its problems are said at once,
//! each with its line and what would be right. Knows no other part of Hearth but `base`.
//!
//! A new setting is a field of [`Config`], a line in `Default`, a line in `read`, and an entry in
//! `config.example.toml`, which a test holds against this file.

mod read;
mod values;

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use read::Reader;
use ruma::{OwnedServerName, OwnedUserId, ServerName, server_name};

use crate::base::address::Permitted;

/// The file that is read when the command line names none, if it is there.
pub const FILE: &str = "hearth.toml";
/// The documented file of all settings.
pub const EXAMPLE: &str = include_str!("../../config.example.toml");

const MIB: u64 = 1 << 20;
/// How long a TURN password is good unless told otherwise, milliseconds.
const TURN_LIFETIME: u64 = 24 * 60 * 60 * 1000;

/// Who may register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// Everybody.
    Open,
    /// Who has a registration token.
    Token,
    /// Nobody, but for the first administrator.
    Closed,
}

/// Listening with TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Where.
    pub listen: Vec<SocketAddr>,
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// How the server meets others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Federation {
    /// Whether it does.
    pub enabled: bool,
    /// Files of certificate authorities, PEM, that are trusted beside those of the web.
    pub trust: Vec<PathBuf>,
    /// What may be called beside the public Internet, here and wherever the server calls out.
    pub allow_private_addresses: Permitted,
    /// Servers that are asked for the keys of servers that don't answer.
    pub notaries: Vec<OwnedServerName>,
    /// Whether who is online is told to other servers, and what they tell of theirs is shown.
    pub presence: bool,
    /// Where other servers are told to call, if it doesn't follow from [`Config::base_url`].
    pub address: Option<OwnedServerName>,
}

impl Default for Federation {
    fn default() -> Self {
        Self {
            enabled: true,
            trust: Vec::new(),
            allow_private_addresses: Permitted::Public,
            notaries: vec![server_name!("matrix.org").to_owned()],
            presence: false,
            address: None,
        }
    }
}

/// Events that people have the server send later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delayed {
    /// How much later at most, milliseconds.
    pub max_delay: u64,
    /// How many of one person's wait at once at most.
    pub max_scheduled: usize,
}

impl Default for Delayed {
    fn default() -> Self {
        Self { max_delay: 7 * 24 * 60 * 60 * 1000, max_scheduled: 100 }
    }
}

/// What helps people's calls on their way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// The relay for calls between two.
    pub turn: Option<Turn>,
    /// The address of the service that lets people into a LiveKit server, for calls of many.
    pub livekit: Option<String>,
}

/// A TURN server that knows people by passwords that this server makes from a shared secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Where it is.
    pub uris: Vec<String>,
    /// What it shares with this server.
    pub secret: Secret,
    /// How long a password is good, milliseconds.
    pub lifetime: u64,
}

/// A store of files that speaks S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// What it is called there.
    pub name: String,
    /// Where the store is; without one, Amazon's for the region.
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: String,
    /// What the names of all files in it begin with.
    pub prefix: String,
    /// Who this server is there.
    pub access_key: String,
    /// How it shows that.
    pub secret_key: Kept,
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In the settings.
    Here(Secret),
    /// Alone in a file.
    File(PathBuf),
}

impl Kept {
    /// The secret.
    pub fn take(&self) -> Result<Secret, String> {
        let path = match self {
            Self::Here(secret) => return Ok(secret.clone()),
            Self::File(path) => path,
        };
        let text = std::fs::read_to_string(path);
        match text.as_deref().map(str::trim) {
            Ok("") => Err(format!("{} is empty: a secret is wanted in it", path.display())),
            Ok(secret) => Ok(Secret(secret.to_owned())),
            Err(error) => Err(format!("{} can't be read: {error}", path.display())),
        }
    }
}

/// Something that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("…")
    }
}

/// Whom people elsewhere turn to about this server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Support {
    /// A page that says so.
    pub page: Option<String>,
    /// The administrator's mail address.
    pub email: Option<String>,
    /// Their Matrix account.
    pub matrix_id: Option<OwnedUserId>,
}

/// The server's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The name that user and room IDs end with.
    pub server_name: OwnedServerName,
    /// Where clients reach the server in plain HTTP. Once it runs, the addresses it really has.
    pub listen: Vec<SocketAddr>,
    /// Where they reach it by TLS.
    pub tls: Option<Tls>,
    /// What clients elsewhere are told to call; see [`Config::base_url`].
    pub public_url: Option<String>,
    /// Where the database, media and keys are.
    pub data_dir: PathBuf,
    /// A folder to serve the web client from, instead of the one in the binary.
    pub web_root: Option<PathBuf>,
    /// Who may register.
    pub registration: Registration,
    /// Whether people may look around as guests, without an account of their own.
    pub guests: bool,
    /// How long guests may stay away before they are forgotten, milliseconds.
    pub guest_lifetime: u64,
    /// Whether applications may sign people in by OAuth; see [`Config::speaks_oauth`].
    pub oauth: Option<bool>,
    /// Whether rate limits are on.
    pub rate_limits: bool,
    /// Bytes of an upload at most.
    pub max_upload: u64,
    /// Bytes that one person may upload in all.
    pub media_quota: u64,
    /// Bytes of other servers' files that are kept at most.
    pub remote_media_cache: u64,
    /// Where uploads are kept, if not in the data directory.
    pub bucket: Option<Bucket>,
    /// Whether pages on the web are looked at for previews.
    pub url_previews: bool,
    /// Connections at once at most.
    pub max_connections: usize,
    /// Whether a proxy stands in front, whose `X-Forwarded-For` is believed.
    pub behind_proxy: bool,
    /// Bytes for all caches together.
    pub memory: u64,
    /// Free bytes on the disk below which writes are refused.
    pub min_free_disk: u64,
    /// What is logged, as `tracing` filters are written.
    pub log: String,
    /// The registrations of application services.
    pub app_services: Vec<PathBuf>,
    /// Other servers.
    pub federation: Federation,
    /// Events for later.
    pub delayed: Delayed,
    /// Calls.
    pub calls: Calls,
    /// Whom to turn to.
    pub support: Support,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server_name: server_name!("localhost").to_owned(),
            listen: vec![([127, 0, 0, 1], 8008).into()],
            tls: None,
            public_url: None,
            data_dir: "hearth-data".into(),
            web_root: None,
            registration: Registration::Open,
            guests: false,
            guest_lifetime: 30 * 24 * 60 * 60 * 1000,
            oauth: None,
            rate_limits: true,
            max_upload: 50 * MIB,
            media_quota: 1000 << 30,
            remote_media_cache: 2048 * MIB,
            bucket: None,
            url_previews: false,
            max_connections: 20_000,
            behind_proxy: false,
            memory: 128 * MIB,
            min_free_disk: 64 * MIB,
            log: "info".into(),
            app_services: Vec::new(),
            federation: Federation::default(),
            delayed: Delayed::default(),
            calls: Calls::default(),
            support: Support::default(),
        }
    }
}

/// Where TLS listens unless told otherwise: the port where other servers look.
fn tls_listen() -> Vec<SocketAddr> {
    vec![([0, 0, 0, 0], 8448).into()]
}

impl Config {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        let text = std::fs::read_to_string(path).map_err(|error| Problems {
            file: path.to_owned(),
            list: vec![Problem { place: None, text: format!("can't be read: {error}") }],
        })?;
        Self::parse(&text, path)
    }

    /// Reads the text of a file. Paths in it are seen from the folder that the file is in.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Problems> {
        let (document, errors) = toml::de::DeTable::parse_recoverable(text);
        let mut reader = Reader::new(document.get_ref(), path.parent().unwrap_or(Path::new("")));
        for error in &errors {
            reader.problem(error.span().map(|span| span.start), error.message());
        }
        let config = read(&mut reader);
        let list = reader.finish(text);
        if list.is_empty() { Ok(config) } else { Err(Problems { file: path.to_owned(), list }) }
    }

    /// The text of a file for a server of this name, ready to be looked over.
    pub fn written_for(name: &str) -> String {
        let changes = [
            ("server_name", format!("server_name = {name:?}")),
            ("public_url", format!("public_url = \"https://{name}\"")),
            ("registration", "registration = \"closed\"".to_owned()),
            ("behind_proxy", "behind_proxy = true".to_owned()),
        ];
        let mut out = String::new();
        for line in EXAMPLE.lines() {
            let setting = line.strip_prefix("# ").unwrap_or(line);
            let change = changes.iter().find(|(key, _)| setting.starts_with(&format!("{key} = ")));
            out.push_str(change.map_or(line, |(_, changed)| changed));
            out.push('\n');
        }
        out
    }

    /// The address to tell people on this machine.
    pub fn local_url(&self) -> String {
        let tls = self.tls.iter().flat_map(|tls| &tls.listen).map(|address| ("https", *address));
        let plain = self.listen.iter().map(|address| ("http", *address));
        let Some((scheme, mut address)) = plain.chain(tls).next() else { return String::new() };
        if address.ip().is_unspecified() {
            let loopback: [SocketAddr; 2] = [([127, 0, 0, 1], 0).into(), ([0, 0, 0, 0, 0, 0, 0, 1], 0).into()];
            address.set_ip(loopback[usize::from(address.is_ipv6())].ip());
        }
        format!("{scheme}://{address}")
    }

    /// The address that clients are told to call: `public_url`, or else what follows from the rest.
    /// A server without a name of its own is only reached where it listens.
    pub fn base_url(&self) -> String {
        if let Some(url) = &self.public_url {
            return url.clone();
        }
        let host = self.server_name.host();
        if host == "localhost" || self.server_name.is_ip_literal() {
            return self.local_url();
        }
        let port = self.tls.iter().flat_map(|tls| &tls.listen).map(SocketAddr::port).next();
        match port.filter(|port| *port != 443) {
            Some(port) => format!("https://{host}:{port}"),
            None => format!("https://{host}"),
        }
    }

    /// The address that other servers are told to call, if they have to be told: a name that says its port
    /// is called there, and a server without a name of its own can't be found by asking for it.
    pub fn delegated(&self) -> Option<OwnedServerName> {
        if self.federation.address.is_some() {
            return self.federation.address.clone();
        }
        if self.server_name.port().is_some() || self.server_name.is_ip_literal() {
            return None;
        }
        let url = self.base_url();
        let authority = url.strip_prefix("https://")?;
        let has_port = ServerName::parse(authority).ok()?.port().is_some();
        let address = if has_port { authority.to_owned() } else { format!("{authority}:443") };
        ServerName::parse(address).ok()
    }

    /// Whether applications may sign people in by OAuth. It wants TLS on the way to the server, so without
    /// it only whoever asks for it has it.
    pub fn speaks_oauth(&self) -> bool {
        self.oauth.unwrap_or_else(|| self.base_url().starts_with("https://"))
    }

    /// Whether nobody outside of this machine can reach the server, as far as the settings tell.
    pub fn is_private(&self) -> bool {
        let tls = self.tls.iter().flat_map(|tls| &tls.listen);
        let loopback = self.listen.iter().chain(tls).all(|address| address.ip().is_loopback());
        loopback && !self.behind_proxy && self.public_url.is_none()
    }

    /// Every key that a file may have, with its section: `tls.key`.
    pub fn keys() -> Vec<&'static str> {
        let document = toml::de::DeTable::new();
        let mut reader = Reader::new(&document, Path::new(""));
        read(&mut reader);
        reader.known().to_vec()
    }
}

/// Asks the reader for every setting there is.
fn read(file: &mut Reader) -> Config {
    let default = Config::default();
    let mut config = Config {
        server_name: file.value("server_name", values::server_name).unwrap_or(default.server_name),
        listen: file.value("listen", values::addresses).unwrap_or(default.listen),
        public_url: file.value("public_url", values::url),
        data_dir: file.path("data_dir").unwrap_or(default.data_dir),
        web_root: file.path("web_root"),
        registration: default.registration,
        guests: file.value("guests", values::boolean).unwrap_or(default.guests),
        guest_lifetime: file.value("guest_lifetime", values::duration).unwrap_or(default.guest_lifetime),
        oauth: file.value("oauth", values::boolean),
        rate_limits: file.value("rate_limits", values::boolean).unwrap_or(default.rate_limits),
        remote_media_cache: file.value("remote_media_cache", values::size(0)).unwrap_or(default.remote_media_cache),
        bucket: bucket(file),
        max_upload: file.value("max_upload", values::size(1024)).unwrap_or(default.max_upload),
        media_quota: file.value("media_quota", values::size(1024)).unwrap_or(default.media_quota),
        url_previews: file.value("url_previews", values::boolean).unwrap_or(default.url_previews),
        max_connections: file.value("max_connections", values::count(16)).unwrap_or(default.max_connections),
        behind_proxy: file.value("behind_proxy", values::boolean).unwrap_or(default.behind_proxy),
        memory: file.value("memory", values::size(8 * MIB)).unwrap_or(default.memory),
        min_free_disk: file.value("min_free_disk", values::size(0)).unwrap_or(default.min_free_disk),
        log: file.value("log", values::log_filter).unwrap_or(default.log),
        app_services: file.paths("app_services").unwrap_or(default.app_services),
        federation: federation(file),
        delayed: delayed(file),
        calls: Calls { turn: turn(file), livekit: file.value("calls.livekit", values::url) },
        support: support(file),
        tls: tls(file),
    };
    let registration = file.value("registration", values::registration);
    let safe = if config.is_private() { Registration::Open } else { Registration::Closed };
    config.registration = registration.unwrap_or(safe);
    if config.listen.is_empty() && config.tls.as_ref().is_none_or(|tls| tls.listen.is_empty()) {
        file.problem_at("listen", "at least one address is wanted, here or in [tls]: \"127.0.0.1:8008\"");
    }
    config
}

fn federation(file: &mut Reader) -> Federation {
    let default = Federation::default();
    Federation {
        enabled: file.value("federation.enabled", values::boolean).unwrap_or(default.enabled),
        trust: file.paths("federation.trust").unwrap_or(default.trust),
        allow_private_addresses: file
            .value("federation.allow_private_addresses", values::permitted)
            .unwrap_or(default.allow_private_addresses),
        notaries: file.value("federation.notaries", values::server_names).unwrap_or(default.notaries),
        presence: file.value("federation.presence", values::boolean).unwrap_or(default.presence),
        address: file.value("federation.address", values::server_name),
    }
}

fn delayed(file: &mut Reader) -> Delayed {
    let default = Delayed::default();
    Delayed {
        max_delay: file.value("delayed_events.max_delay", values::duration).unwrap_or(default.max_delay),
        max_scheduled: file.value("delayed_events.max_scheduled", values::count(0)).unwrap_or(default.max_scheduled),
    }
}

fn bucket(file: &mut Reader) -> Option<Bucket> {
    let name = file.value("s3.bucket", values::bucket);
    let endpoint = file.value("s3.endpoint", values::url);
    let region = file.value("s3.region", values::word).unwrap_or_else(|| "us-east-1".into());
    let prefix = file.value("s3.prefix", values::prefix).unwrap_or_default();
    let access_key = file.value("s3.access_key", values::word);
    let written = file.value("s3.secret_key", values::secret);
    let path = file.path("s3.secret_key_file");
    file.require("s3", &["s3.bucket", "s3.access_key"]);
    file.require_one("s3", ["s3.secret_key", "s3.secret_key_file"]);
    let secret_key = path.map(Kept::File).or_else(|| written.map(Kept::Here));
    Some(Bucket { name: name?, endpoint, region, prefix, access_key: access_key?, secret_key: secret_key? })
}

fn turn(file: &mut Reader) -> Option<Turn> {
    let uris = file.value("turn.uris", values::turn_uris);
    let secret = file.value("turn.secret", values::secret);
    let lifetime = file.value("turn.lifetime", values::duration).unwrap_or(TURN_LIFETIME);
    file.require("turn", &["turn.uris", "turn.secret"]);
    Some(Turn { uris: uris?, secret: secret?, lifetime })
}

fn support(file: &mut Reader) -> Support {
    Support {
        page: file.value("support.page", values::page),
        email: file.value("support.email", values::email),
        matrix_id: file.value("support.matrix_id", values::user),
    }
}

fn tls(file: &mut Reader) -> Option<Tls> {
    let listen = file.value("tls.listen", values::addresses).unwrap_or_else(tls_listen);
    let certificate = file.path("tls.certificate");
    let key = file.path("tls.key");
    file.require("tls", &["tls.certificate", "tls.key"]);
    Some(Tls { listen, certificate: certificate?, key: key? })
}

/// What is wrong at one place of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line and column, from 1, if it is at one place.
    pub place: Option<(usize, usize)>,
    /// What it is, and what would be right.
    pub text: String,
}

/// All that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The file.
    pub file: PathBuf,
    /// From its top to its end.
    pub list: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, Problem { place, text }) in self.list.iter().enumerate() {
            let separator = if number == 0 { "" } else { "\n" };
            write!(out, "{separator}{}:", self.file.display())?;
            if let Some((line, column)) = place {
                write!(out, "{line}:{column}:")?;
            }
            write!(out, " {text}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
