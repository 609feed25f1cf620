//! HTTP in and out: connections, routes, who is calling, and how answers look. Owns everything that
//! says hyper; knows no Matrix rule beyond authentication and the shape of errors.

pub mod admit;
mod arriving;
pub mod body;
pub mod connection;
pub mod files;
pub mod form;
mod guests;
pub mod multipart;
mod parking;
pub mod passwords;
pub mod ranges;
pub mod reply;
pub mod router;
pub mod server;
pub mod shape;
pub mod stream;
pub mod tls;
pub mod uia;
pub mod untyped;
pub mod websocket;
mod x_matrix;

pub use admit::{Applicant, Caller, Origin, Peer, Session};
pub use arriving::Arriving;
pub use files::Files;
pub use form::Form;
pub use reply::{Body, Reply};
pub use router::{Call, Router};
pub use shape::{Guarded, Loose, Queried};
pub use untyped::Asked;

pub use crate::limits::{Bucket, Limits};
