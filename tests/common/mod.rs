//! A server of one's own for each test: the real binary over real sockets, spoken to in the language
//! of its users.
//!
//! ```ignore
//! let server = Server::start().await;
//! let alice = server.register("alice").await;
//! let room = alice.create_room(json!({"name": "Kitchen"})).await;
//! ```

mod server;
mod user;

pub use server::{Server, repository};
pub use user::{Answer, User, encode, in_room, transaction};
