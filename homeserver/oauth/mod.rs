//! Signing in by OAuth 2.0: which applications may ask, what they are given, and what people allowed them.
//! Owns the applications' registrations and the grants under way; knows no page and no request.
//! spec: client-server-api#oauth-20-api

pub mod clients;
mod expiring;
pub mod grants;
pub mod handing;
pub mod scope;

pub use grants::Grants;
pub use handing::Handing;
