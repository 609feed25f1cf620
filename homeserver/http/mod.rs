//! HTTP in and out: connections, routes, who is calling, and how answers look. Owns everything that
//! says hyper; knows no Matrix rule beyond authentication and the shape of errors.

pub mod admit;
pub mod files;
pub mod limits;
pub mod passwords;
pub mod reply;
pub mod router;
pub mod server;
pub mod shape;
pub mod stream;
pub mod uia;

pub use admit::{Caller, Session};
pub use limits::{Bucket, Limits};
pub use reply::{Body, Reply};
pub use router::Router;
pub use shape::{Guarded, Loose};
