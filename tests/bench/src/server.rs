//! The server under measurement: where it listens, which processes it is, and its start and stop if they are ours.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Method;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::http::{Authority, Call, Client};
use crate::options::Options;
use crate::person::Person;
use crate::{Result, hearth, http, process, synapse};

/// How long is waited for a server to start, to stop or to come to rest.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a server is started.
pub struct Launch {
    pub program: OsString,
    pub arguments: Vec<OsString>,
    pub data: Option<PathBuf>,
}

/// How a server speaks with others.
pub struct Federation {
    /// What they call it.
    pub name: String,
    /// Where it listens for them, with TLS.
    pub address: SocketAddr,
    /// `ca.pem`, `localhost.pem` and `localhost-key.pem`.
    pub certificates: PathBuf,
}

/// What can be started here.
#[derive(Clone)]
enum Kind {
    /// The built server.
    Hearth(PathBuf),
    /// The Python that Synapse is installed for.
    Synapse(PathBuf),
    /// Any other, by its address.
    Other(String),
}

/// One homeserver, ours or not.
pub struct Server {
    pub authority: Authority,
    /// What other servers call it, if they can.
    pub name: String,
    kind: Kind,
    binary: Option<PathBuf>,
    launch: Option<Launch>,
    child: Option<Child>,
    /// Processes that somebody else started.
    pids: Vec<i32>,
    data: Option<PathBuf>,
    /// Holds the log of a server that we start, and all of a Hearth's files.
    home: TempDir,
}

impl Server {
    /// The server that the command line names, not started yet if starting it is up to us.
    pub fn prepare(options: &Options) -> Result<Server> {
        let kind = match (&options.against, &options.synapse) {
            (Some(url), _) => Kind::Other(url.clone()),
            (None, Some(python)) => Kind::Synapse(python.clone()),
            (None, None) => Kind::Hearth(options.binary.clone().map_or_else(hearth::build, Ok)?),
        };
        let home = home()?;
        let (authority, launch) = match &kind {
            Kind::Other(url) => {
                let launch = options.start.as_ref().map(|command| Launch {
                    program: "sh".into(),
                    arguments: vec!["-c".into(), format!("exec {command}").into()],
                    data: None,
                });
                (http::authority(url)?, launch)
            }
            kind => {
                let authority: Authority = free_address()?.to_string().into();
                let launch = kind.launch(home.path(), &authority, None)?;
                (authority, Some(launch))
            }
        };
        let data = launch.as_ref().and_then(|launch| launch.data.clone()).or(options.data_dir.clone());
        let (name, pids, binary) = ("localhost".into(), options.pid.clone(), options.binary.clone());
        Ok(Server { authority, name, kind, binary, launch, child: None, pids, data, home })
    }

    /// A further server of the same kind, which federates.
    pub fn another(&self, certificates: &Path) -> Result<Server> {
        let address = free_address()?;
        let name = format!("localhost:{}", address.port());
        let federation = Federation { name: name.clone(), address, certificates: certificates.to_owned() };
        let authority: Authority = free_address()?.to_string().into();
        let home = home()?;
        let launch = self.kind.launch(home.path(), &authority, Some(&federation))?;
        let (data, kind, binary) = (launch.data.clone(), self.kind.clone(), self.binary.clone());
        Ok(Server { authority, name, kind, binary, launch: Some(launch), child: None, pids: Vec::new(), data, home })
    }

    /// What it is, as the table says it.
    pub fn kind(&self) -> String {
        match &self.kind {
            Kind::Hearth(_) => "Hearth".into(),
            Kind::Synapse(_) => "Synapse".into(),
            Kind::Other(url) => url.clone(),
        }
    }

    /// A built Hearth, whose commands help with other servers too.
    pub fn hearth(&self) -> Result<PathBuf> {
        match (&self.kind, &self.binary) {
            (Kind::Hearth(binary), _) => Ok(binary.clone()),
            (_, Some(binary)) => Ok(binary.clone()),
            _ => hearth::build(),
        }
    }

    /// Whether starting and stopping it is up to us.
    pub fn can_restart(&self) -> bool {
        self.launch.is_some()
    }

    /// Starts the server, and says how long it took until it answered. With a person, that is an answer which only an
    /// open store can give. A server that isn't ours to start is only asked whether it is there.
    pub async fn start(&mut self, person: Option<&Person>) -> Result<Duration> {
        let began = Instant::now();
        if let Some(launch) = &self.launch {
            let log = File::options().create(true).append(true).open(self.log())?;
            let child = Command::new(&launch.program)
                .args(&launch.arguments)
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .spawn()
                .map_err(|error| format!("{}: {error}", launch.program.display()))?;
            self.child = Some(child);
        }
        self.answer(person, began + PATIENCE).await?;
        Ok(began.elapsed())
    }

    async fn answer(&mut self, person: Option<&Person>, deadline: Instant) -> Result<()> {
        loop {
            if TcpStream::connect(&*self.authority).await.is_ok() {
                break;
            }
            if let Some(status) = self.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
                self.child = None;
                return Err(format!("the server ended with {status}").into());
            }
            if self.launch.is_none() || Instant::now() > deadline {
                return Err(format!("nothing answers at {}", self.authority).into());
            }
            // Short beside what is measured, long enough to leave the core to the server.
            sleep(Duration::from_micros(500)).await;
        }
        let mut client = Client::new(&self.authority);
        match person {
            Some(person) => person.whoami(&mut client).await,
            None => self.versions().await.map(drop),
        }
    }

    /// What the server says that it speaks.
    pub async fn versions(&self) -> Result<Bytes> {
        let path = "/_matrix/client/versions";
        let call = Call { method: Method::GET, path, authorization: None, body: Bytes::new() };
        Client::new(&self.authority).ok(call).await
    }

    /// Stops the server as an administrator would, if it is ours.
    pub async fn stop(&mut self) -> Result<()> {
        self.end(Signal::TERM).await
    }

    /// Ends the server with no chance to tidy up, if it is ours.
    pub async fn kill(&mut self) -> Result<()> {
        self.end(Signal::KILL).await
    }

    async fn end(&mut self, signal: Signal) -> Result<()> {
        let Some(child) = &mut self.child else {
            return Ok(());
        };
        kill_process(Pid::from_child(child), signal)?;
        let deadline = Instant::now() + PATIENCE;
        while child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                return Err("the server doesn't stop".into());
            }
            sleep(Duration::from_millis(5)).await;
        }
        self.child = None;
        Ok(())
    }

    /// A server with nothing in memory but what it starts with, and everything it writes at its end on disk. One that
    /// isn't ours to restart stays as it is.
    pub async fn restart(&mut self) -> Result<()> {
        if self.can_restart() {
            self.stop().await?;
            self.start(None).await?;
        }
        Ok(())
    }

    /// Processor time used so far, if we know which process to ask.
    pub fn cpu(&self) -> Result<Option<Duration>> {
        process::cpu(&self.processes())
    }

    /// Resident memory after the server has come to rest.
    pub async fn memory_at_rest(&self) -> Result<Option<u64>> {
        let deadline = Instant::now() + PATIENCE;
        let mut before = self.cpu()?;
        loop {
            sleep(Duration::from_secs(1)).await;
            let now = self.cpu()?;
            let worked = now.zip(before).map_or(Duration::ZERO, |(now, before)| now.saturating_sub(before));
            if worked < Duration::from_millis(20) || Instant::now() > deadline {
                return process::memory(&self.processes());
            }
            before = now;
        }
    }

    /// The most memory that was resident since [`Self::forget_peak`].
    pub fn peak(&self) -> Result<Option<u64>> {
        process::peak(&self.processes())
    }

    /// Begins the count of the most memory anew.
    pub fn forget_peak(&self) -> Result<()> {
        process::forget_peak(&self.processes())
    }

    /// Bytes on disk, if we know where to look.
    pub fn disk(&self) -> Result<Option<u64>> {
        self.data.as_deref().map(process::disk).transpose()
    }

    fn processes(&self) -> Vec<i32> {
        let child = self.child.as_ref().map(|child| Pid::from_child(child).as_raw_nonzero().get());
        child.map_or_else(|| self.pids.clone(), |child| vec![child])
    }

    /// The end of what a server of ours has logged.
    pub fn last_words(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let end = &log[log.len().saturating_sub(4096)..];
        String::from_utf8_lossy(end).into_owned()
    }

    fn log(&self) -> PathBuf {
        self.home.path().join("server.log")
    }
}

impl Drop for Server {
    /// A run that ends early leaves no server behind.
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only if it has ended already, which is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Kind {
    fn launch(&self, home: &Path, authority: &Authority, federation: Option<&Federation>) -> Result<Launch> {
        match self {
            Kind::Hearth(binary) => hearth::launch(binary, home, authority, federation),
            Kind::Synapse(python) => synapse::launch(python, home, authority, federation),
            Kind::Other(url) => Err(format!("only a Hearth or a Synapse can be started here, and not {url}").into()),
        }
    }
}

/// A directory of a server's own.
fn home() -> Result<TempDir> {
    // Beside our own binary, and not in a temporary directory that may be memory: the disk is part of what is measured.
    let beside = std::env::current_exe()?;
    Ok(tempfile::Builder::new().prefix("bench-").tempdir_in(beside.parent().unwrap_or(Path::new(".")))?)
}

fn free_address() -> Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
