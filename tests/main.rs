//! The integration tests: one binary, one file for each thing that is tested.

// Each file uses the part of it that it needs, and features bring their tests one by one.
#[allow(dead_code, unused_imports)]
mod common;

mod accounts;
mod admin;
mod again;
mod appservice;
mod appservice_asking;
mod architecture;
mod cli;
mod doors;
mod encryption;
mod federation_answers;
mod federation_asking;
mod federation_edus;
mod federation_forks;
mod federation_history;
mod federation_hostile;
mod federation_joins;
mod federation_moderation;
mod federation_outbox;
mod federation_partial;
mod federation_policy;
mod federation_spaces;
mod federation_talk;
mod federation_wire;
mod friends;
mod fuzz;
mod http;
mod key_backup;
mod media;
mod oauth;
mod parked;
mod previews;
mod push;
mod relations;
mod search;
mod sliding;
mod spaces;
mod spec;
mod store;
mod sync;
mod tls;
mod visible;
mod websocket;
