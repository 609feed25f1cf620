//! Hearth, a Matrix homeserver.
