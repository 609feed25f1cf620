//! What a client may say over the WebSocket. Knows the two forms there are, and nothing of what they
//! lead to.

use serde::Deserialize;

use crate::base::token::SyncToken;

/// What a client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// It has everything up to here.
    Ack(SyncToken),
    /// It wants something done; what, the text says.
    Request,
}

/// Reads a text frame. None if it is no message.
pub fn read(text: &str) -> Option<Message> {
    #[derive(Deserialize)]
    #[serde(tag = "type", rename_all = "lowercase")]
    enum Form {
        Ack { since: String },
        Request {},
    }
    match serde_json::from_str(text).ok()? {
        Form::Ack { since } => since.parse().ok().map(Message::Ack),
        Form::Request {} => Some(Message::Request),
    }
}
