//! One socket's conversation: what is sent when, what is expected back, and why it ends.
//!
//! There is no queue of frames. The next sync frame is built when the last one has been taken by the
//! connection and few are unacknowledged, and it holds all that has happened by then.

use std::{
    collections::VecDeque,
    future::{Future, pending},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, Interval, interval_at};

use super::{
    messages::{self, Message},
    requests,
};
use crate::{
    app::App,
    base::token::SyncToken,
    error::{Error, Result},
    http::{
        Peer, Session, admit,
        websocket::{Received, Socket},
    },
    notify::Taken,
    sync::{self, Ask},
};

/// Sync frames that a client may leave unacknowledged.
const MAX_UNACKNOWLEDGED: usize = 4;
/// Requests that may wait for their answers.
const MAX_UNANSWERED: usize = 32;
/// How often a client is asked for a sign of life.
const PING_EVERY: Duration = Duration::from_secs(30);
/// Pings that may stay unanswered.
const MAX_SILENT: u32 = 2;

/// Why a conversation ends: a close code and a reason. See spec/websocket.md.
type End = (u16, &'static str);
const GONE: End = (1000, "");
const STOPPING: End = (1001, "the server is stopping");
const TOO_LARGE: End = (1009, "this message is too large");
const FAILED: End = (1011, "internal error");
const MALFORMED: End = (4400, "malformed message");
const SESSION_ENDED: End = (4401, "the session has ended");
const TOO_MANY: End = (4429, "too many unanswered requests");

/// A request that is being carried out; its outcome is the reply's text.
type Running = Pin<Box<dyn Future<Output = String> + Send>>;

pub struct Conversation {
    app: Arc<App>,
    session: Session,
    /// What proves the session, to be proved again now and then; and from where.
    proof: (String, Peer),
    ask: Arc<Ask>,
    /// What the last frame said of the device's keys, as a hash.
    keys: Option<u64>,
    /// The tokens of frames that are not acknowledged, the oldest first.
    unacknowledged: VecDeque<SyncToken>,
    /// Requests that wait for their turn: they are carried out one after the other, as they came.
    waiting: VecDeque<String>,
    running: Option<Running>,
    silent: u32,
}

/// What happened.
enum Happened {
    Received(Received),
    Rung,
    Answered(String),
    PingDue,
    Stopping,
}

impl Conversation {
    pub fn new(app: Arc<App>, session: Session, proof: (String, Peer), ask: Ask) -> Self {
        Self {
            app,
            session,
            proof,
            ask: Arc::new(ask),
            keys: None,
            unacknowledged: VecDeque::new(),
            waiting: VecDeque::new(),
            running: None,
            silent: 0,
        }
    }

    /// Talks until there is a reason not to.
    pub async fn hold(mut self, mut socket: Socket) -> (u16, &'static str, Socket) {
        let (code, reason) = match self.talk(&mut socket).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        (code, reason, socket)
    }

    async fn talk(&mut self, socket: &mut Socket) -> Result<std::convert::Infallible, End> {
        Box::pin(sync::acknowledge(&self.app.hub, &self.ask.user, &self.ask.device, self.ask.since)).await;
        let seat = self.app.hub.notifier.sit(&self.app.store, &self.ask.user).map_err(|_| FAILED)?;
        let seat = Arc::new(seat);
        let mut pings = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
        let (mut rung, mut sessions) = (seat.rung(), seat.sessions());
        let mut due = true;
        loop {
            let ready = due && self.unacknowledged.len() < MAX_UNACKNOWLEDGED;
            if ready {
                // Before the sessions are looked at: one that ends after that rings.
                rung = seat.rung();
            }
            if seat.sessions() != sessions {
                sessions = seat.sessions();
                self.check_session().await?;
            }
            if ready {
                due = self.send_sync(socket, &seat).await?;
                continue;
            }
            match self.happens(socket, &seat, (due, rung), &mut pings).await {
                Happened::Rung => due = true,
                Happened::Received(received) => self.take(received).await?,
                Happened::Answered(text) => {
                    self.running = None;
                    socket.send(text).await.ok_or(GONE)?;
                }
                Happened::PingDue => {
                    self.check_session().await?;
                    self.silent += 1;
                    if self.silent > MAX_SILENT {
                        return Err(GONE);
                    }
                    socket.ping().await.ok_or(GONE)?;
                }
                Happened::Stopping => return Err(STOPPING),
            }
            self.start_next();
        }
    }

    /// Waits for the next thing to happen.
    async fn happens(
        &mut self,
        socket: &mut Socket,
        seat: &Taken,
        (due, rung): (bool, u64),
        pings: &mut Interval,
    ) -> Happened {
        let mut stop = self.app.stop.clone();
        let running = self.running.as_mut();
        let answered = async {
            match running {
                Some(running) => running.await,
                None => pending().await,
            }
        };
        tokio::select! {
            received = socket.receive() => Happened::Received(received),
            () = seat.ring_after(rung), if !due => Happened::Rung,
            text = answered => Happened::Answered(text),
            _ = pings.tick() => Happened::PingDue,
            // An error says that nobody is left to ask for it, which means the same.
            _ = stop.wait_for(|stop| *stop) => Happened::Stopping,
        }
    }

    /// Sends a frame if there is something to tell; the first one in any case. True if there is more.
    async fn send_sync(&mut self, socket: &mut Socket, seat: &Arc<Taken>) -> Result<bool, End> {
        let body = sync::turn(&self.app.hub, seat, &self.ask).await.map_err(|error| failed(&error))?;
        let same_keys = self.keys == Some(body.keys.hash());
        let (next, more) = (body.next_batch, body.more);
        if same_keys && body.is_empty() && !self.ask.full_state {
            // Nothing was sent, so nothing waits to be acknowledged either.
            self.ask = Arc::new(self.ask.after(next));
            return Ok(more);
        }
        let json = body.to_bytes().map_err(|error| failed(&error))?;
        let mut frame = String::with_capacity(json.len() + 32);
        frame.push_str(r#"{"type":"sync","sync":"#);
        frame.push_str(std::str::from_utf8(&json).map_err(|_| FAILED)?);
        frame.push('}');
        drop(json);
        self.keys = Some(body.keys.hash());
        socket.send(frame).await.ok_or(GONE)?;
        self.unacknowledged.push_back(next);
        self.ask = Arc::new(self.ask.after(next));
        Ok(more)
    }

    async fn take(&mut self, received: Received) -> Result<(), End> {
        self.silent = 0;
        match received {
            Received::Alive => Ok(()),
            Received::Text(text) => self.take_text(&text).await,
            Received::TooLarge => Err(TOO_LARGE),
            Received::Malformed => Err(MALFORMED),
            Received::Closed => Err(GONE),
        }
    }

    async fn take_text(&mut self, text: &str) -> Result<(), End> {
        match messages::read(text).ok_or(MALFORMED)? {
            Message::Ack(token) => self.acknowledge(token).await,
            Message::Request => {
                self.waiting.push_back(text.to_owned());
                let unanswered = self.waiting.len() + usize::from(self.running.is_some());
                if unanswered > MAX_UNANSWERED {
                    return Err(TOO_MANY);
                }
            }
        }
        Ok(())
    }

    /// Takes everything up to a token for delivered. A token that was not sent here, or not lately, says
    /// nothing.
    async fn acknowledge(&mut self, token: SyncToken) {
        let Some(at) = self.unacknowledged.iter().position(|sent| *sent == token) else { return };
        self.unacknowledged.drain(..=at);
        Box::pin(sync::acknowledge(&self.app.hub, &self.ask.user, &self.ask.device, Some(token))).await;
    }

    fn start_next(&mut self) {
        if self.running.is_some() {
            return;
        }
        if let Some(text) = self.waiting.pop_front() {
            self.running = Some(Box::pin(requests::answer(self.app.clone(), self.session.clone(), text)));
        }
    }

    async fn check_session(&mut self) -> Result<(), End> {
        let (token, peer) = &self.proof;
        match admit::session(&self.app, token, *peer).await {
            Ok(_) => Ok(()),
            Err(error) if error.status().is_client_error() => Err(SESSION_ENDED),
            Err(error) => Err(failed(&error)),
        }
    }
}

fn failed(error: &Error) -> End {
    tracing::error!(%error, "a WebSocket ends because its sync can't be built");
    FAILED
}
