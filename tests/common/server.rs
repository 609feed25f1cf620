//! The process: started on a free port with a directory of its own, and ended with the test.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    federation::free_address,
    user::{Answer, User},
};

/// How long the server may take to start, or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server. Dropping it ends it; if the test has failed, its log is shown.
pub struct Server {
    /// Its address, such as `http://127.0.0.1:40123`. Stays the same over restarts.
    pub url: String,
    /// Its name, that user IDs end with.
    pub name: String,
    /// The directory of its configuration, its log and its data.
    pub dir: TempDir,
    child: Option<Child>,
    settings: String,
    /// The size of a disk for its data alone, as `mount` writes it.
    disk: Option<&'static str>,
    http: reqwest::Client,
}

impl Server {
    /// A server named `localhost` with open registration and without rate limits.
    pub async fn start() -> Self {
        Self::start_with("registration = \"open\"\nrate_limits = false\n").await
    }

    /// A server with these settings; where it listens and keeps its data is seen to.
    pub async fn start_with(settings: &str) -> Self {
        Self::start_on(None, settings).await
    }

    /// A server whose data is on a disk of this size, such as `16m`. The disk is memory that only this
    /// process sees, and is gone with it.
    pub async fn start_on_small_disk(size: &'static str, settings: &str) -> Self {
        Self::start_on(Some(size), settings).await
    }

    /// A server on a data directory that another one had, which is moved to where this one has its own.
    pub async fn start_from(data: &Path, settings: &str) -> Self {
        let mut server = Self::new(None, settings);
        fs::rename(data, server.dir.path().join("data")).expect("on the same disk");
        server.resume().await;
        server
    }

    async fn start_on(disk: Option<&'static str>, settings: &str) -> Self {
        let mut server = Self::new(disk, settings);
        server.resume().await;
        server
    }

    fn new(disk: Option<&'static str>, settings: &str) -> Self {
        Self {
            // Its own also while it does not run: a port from the system could be another server's by then.
            url: format!("http://{}", free_address()),
            name: "localhost".into(),
            dir: TempDir::with_prefix("hearth-").expect("a directory"),
            child: None,
            settings: settings.to_owned(),
            disk,
            http: client(),
        }
    }

    /// The binary, for tests of the command line.
    pub fn command() -> Command {
        Command::new(env!("CARGO_BIN_EXE_hearth"))
    }

    /// The configuration file that the server runs with.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("hearth.toml")
    }

    /// Has it run with other settings from its next start on.
    pub fn configure(&mut self, settings: &str) {
        self.settings = settings.to_owned();
    }

    /// Where its database and keys are.
    pub fn data(&self) -> PathBuf {
        let data = self.dir.path().join("data");
        match (&self.child, self.disk) {
            // The process has mounts of its own.
            (Some(child), Some(_)) => {
                Path::new(&format!("/proc/{}/root", child.id())).join(data.strip_prefix("/").unwrap_or(&data))
            }
            _ => data,
        }
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// The resident memory of the process, in bytes.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most that it has been since [`Self::forget_peak`].
    pub fn peak(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// Begins anew with that.
    pub fn forget_peak(&self) {
        let id = self.child.as_ref().expect("it runs").id();
        fs::write(format!("/proc/{id}/clear_refs"), "5").expect("Linux lets us");
    }

    /// What of that is its own and not its code, which is larger in a build for tests.
    pub fn own_memory(&self) -> u64 {
        self.status("RssAnon:")
    }

    /// The processor's time that the process has taken.
    pub fn processor_time(&self) -> Duration {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.process())).expect("it runs");
        // The name of the program, which may have spaces in it, ends with a bracket; Linux counts in hundredths.
        let after = text.rsplit(") ").next().unwrap_or_default();
        let ticks = after.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number"));
        Duration::from_millis(10 * ticks.sum::<u64>())
    }

    fn status(&self, name: &str) -> u64 {
        let id = self.process();
        let status = fs::read_to_string(format!("/proc/{id}/status")).expect("it runs");
        let line = status.lines().find(|line| line.starts_with(name)).expect("Linux says so");
        line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number") * 1024
    }

    /// `host:port`, to open sockets to.
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Starts the server again after [`Self::stop`] or [`Self::kill9`], on the same data and port.
    /// Answers how long it took to be ready.
    pub async fn resume(&mut self) -> Duration {
        assert!(self.child.is_none(), "it runs already");
        let text = format!("listen = [{:?}]\ndata_dir = \"data\"\n{}", self.address(), self.settings);
        fs::write(self.config(), text).expect("written");
        let log = File::options().create(true).append(true).open(self.dir.path().join("log")).expect("a log");
        let mut command = match self.disk {
            Some(size) => self.command_on_disk(size),
            None => Self::command(),
        };
        command.arg("--config").arg(self.config()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let began = Instant::now();
        let mut child = command.spawn().expect("the binary starts");
        let mut output = BufReader::new(child.stdout.take().expect("it has an output"));
        self.child = Some(child);
        let reading = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            output.read_line(&mut line).expect("text");
            // The rest is read as it comes, so that the server never waits for us.
            std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
            line
        });
        let line = tokio::time::timeout(PATIENCE, reading).await.expect("ready in time").expect("read");
        let Some(url) = line.trim().strip_prefix("Hearth is at ") else {
            panic!("the server did not start: it said {line:?}");
        };
        self.url = url.to_owned();
        began.elapsed()
    }

    /// The binary with a disk of its own, in a namespace where anybody may mount one.
    fn command_on_disk(&self, size: &str) -> Command {
        let data = self.dir.path().join("data");
        fs::create_dir_all(&data).expect("made");
        let script = format!("mount -t tmpfs -o size={size} tmpfs \"$1\" && shift && exec \"$@\"");
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"]);
        command.arg(data).arg(env!("CARGO_BIN_EXE_hearth"));
        command
    }

    /// Asks the server to stop, as Ctrl-C or a service manager does, and waits until it has.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.ended().await
    }

    /// The process's ID.
    pub fn process(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Sends the process a signal by its name.
    pub fn signal(&self, name: &str) {
        let id = self.process().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().expect("kill is there");
        assert!(sent.success(), "no process {id}");
    }

    /// Waits until the process has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let began = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("our child") {
                return status;
            }
            if began.elapsed() > PATIENCE {
                child.kill().expect("our child");
                panic!("the server did not stop");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends the process at once, as a crash or a power cut does.
    pub async fn kill9(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("our child");
        child.wait().expect("our child");
    }

    /// A clean stop and a new start.
    pub async fn restart(&mut self) {
        assert!(self.stop().await.success(), "a clean stop");
        self.resume().await;
    }

    /// Somebody without an account.
    pub fn guest(&self) -> User {
        User::new(self.url.clone(), self.http.clone())
    }

    /// A new account, signed in. Its password is [`password`](Self::password)`(name)`.
    pub async fn register(&self, name: &str) -> User {
        let body = json!({"username": name, "password": Self::password(name), "auth": {"type": "m.login.dummy"}});
        self.signed_in("/_matrix/client/v3/register", body).await
    }

    /// A further session of an account.
    pub async fn login(&self, name: &str) -> User {
        let identifier = json!({"type": "m.id.user", "user": name});
        let body = json!({"type": "m.login.password", "identifier": identifier, "password": Self::password(name)});
        self.signed_in("/_matrix/client/v3/login", body).await
    }

    /// The password of an account that a test has made.
    pub fn password(name: &str) -> String {
        format!("the pass phrase of {name}")
    }

    async fn signed_in(&self, path: &str, body: Value) -> User {
        let mut user = self.guest();
        let Answer { status, body, .. } = user.post(path, body).await;
        assert_eq!(status, 200, "{path}: {body}");
        let text = |name: &str| body[name].as_str().unwrap_or_else(|| panic!("no {name}: {body}")).to_owned();
        (user.id, user.device, user.token) = (text("user_id"), text("device_id"), Some(text("access_token")));
        user
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the server's log:\n{}---", self.log());
        }
    }
}

/// A client for plain requests. Its TLS wants to know which cryptography this process uses, once.
pub(super) fn client() -> reqwest::Client {
    // Another test may have said it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // A server that refuses a body before it has come closes the connection: it is not for the next request.
    reqwest::Client::builder().pool_max_idle_per_host(0).build().expect("a client")
}

/// A file of this repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
