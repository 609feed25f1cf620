//! The state of a room as a server in it hands it over: read as it comes, each event held once.

use std::collections::BTreeSet;

use ruma::{OwnedEventId, OwnedServerName, ServerName};
use serde_json::{Value, value::RawValue};

use super::{
    remote::Incoming,
    split::{Piece, Splitter},
};
use crate::error::{Error, Result};

/// Events that a server may hand over at most.
const MAX_EVENTS: usize = 300_000;
/// Servers in a room that are taken in at most.
const MAX_SERVERS: usize = 50_000;

/// What a server answers to a join, or says of a state, with nothing of it checked.
#[derive(Default)]
pub struct Answer {
    /// The state before the join.
    pub state: Vec<Box<RawValue>>,
    /// What allows it.
    pub auth_chain: Vec<Box<RawValue>>,
    /// The join, signed by who vouches for it.
    pub event: Option<Box<RawValue>>,
    /// Whether memberships are left out of the state.
    pub members_omitted: bool,
    /// The servers in the room.
    pub servers: BTreeSet<OwnedServerName>,
}

/// The lists in an answer to a join, and in one that tells of a state.
pub const OF_JOIN: &[&str] = &["state", "auth_chain"];
pub const OF_STATE: &[&str] = &["pdus", "auth_chain"];

/// Reads an answer as it comes. 502 for one that makes no sense or is too long.
pub async fn receive(mut incoming: Incoming, lists: &'static [&'static str]) -> Result<Answer> {
    let mut answer = Answer::default();
    let mut splitter = Splitter::new(lists);
    while let Some(chunk) = incoming.chunk().await? {
        splitter.push(&chunk, |piece| answer.take(piece)).map_err(as_theirs)?;
    }
    splitter.finish().map_err(as_theirs)?;
    Ok(answer)
}

/// The lists in an answer that names the events of a state.
const OF_STATE_IDS: &[&str] = &["pdu_ids", "auth_chain_ids"];

/// Reads the IDs of a state's events, and of those that allow them, as they come. 502 as before.
pub async fn receive_ids(mut incoming: Incoming) -> Result<(Vec<OwnedEventId>, Vec<OwnedEventId>)> {
    let (mut state, mut chain) = (Vec::new(), Vec::new());
    let mut splitter = Splitter::new(OF_STATE_IDS);
    let mut take = |piece| match piece {
        Piece::Item(..) if state.len() + chain.len() >= MAX_EVENTS => {
            Err(Error::bad_gateway("the other server tells of too large a state"))
        }
        Piece::Item(list, id) => {
            let id = serde_json::from_str(id.get()).map_err(|error| Error::bad_gateway(error.to_string()))?;
            if list == 0 {
                state.push(id)
            } else {
                chain.push(id)
            }
            Ok(())
        }
        Piece::Member(..) => Ok(()),
    };
    while let Some(chunk) = incoming.chunk().await? {
        splitter.push(&chunk, &mut take).map_err(as_theirs)?;
    }
    splitter.finish().map_err(as_theirs)?;
    Ok((state, chain))
}

fn as_theirs(error: Error) -> Error {
    Error::bad_gateway(error.message().to_owned())
}

impl Answer {
    fn take(&mut self, piece: Piece) -> Result<()> {
        match piece {
            Piece::Item(list, event) => {
                if self.state.len() + self.auth_chain.len() >= MAX_EVENTS {
                    return Err(Error::bad_gateway("the other server handed over too many events"));
                }
                if list == 0 { self.state.push(event) } else { self.auth_chain.push(event) }
            }
            Piece::Member(name, value) => match &*name {
                "event" => self.event = Some(value).filter(|value| value.get().starts_with('{')),
                "members_omitted" => self.members_omitted = value.get() == "true",
                "servers_in_room" => {
                    let names: Vec<Value> = serde_json::from_str(value.get()).unwrap_or_default();
                    let names = names.iter().filter_map(Value::as_str).filter_map(|name| ServerName::parse(name).ok());
                    self.servers.extend(names.take(MAX_SERVERS));
                }
                _ => {}
            },
        }
        Ok(())
    }
}
