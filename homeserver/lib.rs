//! Hearth, a Matrix homeserver.

pub mod base;
pub mod error;
pub mod store;
