//! A server of one's own for each test: the real binary over real sockets, spoken to in the language
//! of its users.
//!
//! ```ignore
//! let server = Server::start().await;
//! let alice = server.register("alice").await;
//! let room = alice.create_room(json!({"name": "Kitchen"})).await;
//! ```

mod bridge;
mod crowd;
mod federation;
mod line;
mod s3;
mod server;
mod synapse;
mod user;

pub use bridge::Bridge;
pub use crowd::Crowd;
pub use federation::{Asked, Peer, Says, ask_as, certificates, federate, federated, federated_at, free_address, until};
pub use line::{Line, federate_by_lines};
pub use s3::{S3, SECRET as S3_SECRET};
pub use server::{Server, repository};
pub use synapse::Synapse;
pub use user::{Answer, User, encode, in_room, transaction};
