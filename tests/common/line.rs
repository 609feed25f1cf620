//! A line to a server, which can be cut, go dead without a word, or be slow, while the servers at its ends run on.

use std::{
    fs, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, tcp},
    sync::watch,
    task::JoinHandle,
};

use super::{
    Server,
    federation::{federated_at, free_address, listen},
};

/// Bytes that a slow line carries at once, and how often.
const PIECE: usize = 256;
const PAUSE: Duration = Duration::from_millis(20);

/// How a line is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Everybody is hung up on; who is one of these processes does not get through.
    Cut(Vec<u32>),
    /// What is spoken comes to nobody, and nobody hangs up. Connections from this time stay so.
    Dead,
    /// Little is carried at a time.
    Slow,
}

/// The one way to a server.
pub struct Line {
    state: watch::Sender<State>,
    carried: Arc<AtomicU64>,
    listening: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Line {
    /// A line from one address to another.
    async fn lay(from: SocketAddr, to: SocketAddr) -> Self {
        let (state, watching) = watch::channel(State::Open);
        let carried = Arc::<AtomicU64>::default();
        let count = carried.clone();
        let serve = move |stream: tokio::io::BufReader<TcpStream>| {
            carry(stream.into_inner(), from.port(), to, watching.clone(), count.clone())
        };
        Self { state, carried, listening: listen(from, serve).await }
    }

    /// Nobody is heard any more, and these servers don't get through.
    pub fn cut(&self, from: &[&Server]) {
        let servers = from.iter().map(|server| server.process()).collect();
        self.state.send_replace(State::Cut(servers));
    }

    /// It goes dead, and nobody is told.
    pub fn dies(&self) {
        self.state.send_replace(State::Dead);
    }

    /// It becomes slow. Who spoke over it has to call again.
    pub fn slows(&self) {
        self.state.send_replace(State::Slow);
    }

    /// It is as it should be, for whoever calls now. What was dead stays dead, and who was slow has to call again.
    pub fn mend(&self) {
        self.state.send_replace(State::Open);
    }

    /// Bytes that it has carried to its server.
    pub fn carried(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }
}

/// Servers that federate, with the line to each.
pub async fn federate_by_lines<const N: usize>() -> [(Server, Line); N] {
    let mut servers = Vec::new();
    for _ in 0..N {
        let (public, own) = (free_address(), free_address());
        let server = federated_at((public, own), "", "").await;
        servers.push((server, Line::lay(public, own).await));
    }
    servers.try_into().unwrap_or_else(|_| panic!("{N} servers"))
}

async fn carry(
    caller: TcpStream,
    port: u16,
    to: SocketAddr,
    mut state: watch::Receiver<State>,
    carried: Arc<AtomicU64>,
) -> io::Result<()> {
    let (now, calling) = (state.borrow_and_update().clone(), caller.peer_addr()?.port());
    match &now {
        State::Cut(servers) if is_one_of(servers, calling, port) => return Ok(()),
        State::Dead => std::future::pending().await,
        _ => {}
    }
    caller.set_nodelay(true)?;
    let server = TcpStream::connect(to).await?;
    server.set_nodelay(true)?;
    let is_slow = now == State::Slow;
    let ((heard, say), (answers, tell)) = (caller.into_split(), server.into_split());
    let nobody = Arc::<AtomicU64>::default();
    let carrying = async { tokio::join!(pass(heard, tell, is_slow, carried), pass(answers, say, is_slow, nobody)) };
    tokio::pin!(carrying);
    loop {
        tokio::select! {
            _ = &mut carrying => return Ok(()),
            changed = state.changed() => {
                let now = state.borrow_and_update().clone();
                match now {
                    State::Dead => std::future::pending().await,
                    State::Cut(_) => return Ok(()),
                    _ if changed.is_err() || is_slow != (now == State::Slow) => return Ok(()),
                    _ => {}
                }
            }
        }
    }
}

/// Passes on what one side says, until it has ended.
async fn pass(mut from: tcp::OwnedReadHalf, mut to: tcp::OwnedWriteHalf, is_slow: bool, count: Arc<AtomicU64>) {
    let mut piece = vec![0; if is_slow { PIECE } else { 64 * 1024 }];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        if to.write_all(&piece[..length]).await.is_err() {
            break;
        }
        count.fetch_add(length as u64, Ordering::Relaxed);
        if is_slow {
            tokio::time::sleep(PAUSE).await;
        }
    }
    // The other side may have gone already.
    _ = to.shutdown().await;
}

/// Whether a connection from one port of this machine to another is one of these processes' own.
fn is_one_of(servers: &[u32], from: u16, to: u16) -> bool {
    let Ok(table) = fs::read_to_string("/proc/net/tcp") else { return false };
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
    let line = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|columns| columns.len() > 9 && port(columns[1]) == Some(from) && port(columns[2]) == Some(to));
    let Some(wanted) = line.map(|columns| format!("socket:[{}]", columns[9])) else { return false };
    servers.iter().any(|server| {
        let mut files = fs::read_dir(format!("/proc/{server}/fd")).into_iter().flatten().flatten();
        files.any(|file| fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str()))
    })
}
