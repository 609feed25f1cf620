//! What helps calls on their way: a relay for those between two, and where the calls of many meet.
//! spec: client-server-api#voice-over-ip, MSC4143 and MSC4195

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::Method;
use ring::hmac;
use ruma::{UserId, api::client::voip::get_turn_server_info};
use serde_json::{Value, json};

use crate::{
    app::App,
    base::clock,
    config::{Calls, Turn},
    error::Result,
    http::{Asked, Bucket, Reply, Router, Session, reply, untyped},
};

/// The endpoints that have no type.
pub fn routes(router: &mut Router) {
    for prefix in ["/_matrix/client/v1", "/_matrix/client/unstable/org.matrix.msc4143"] {
        untyped::route(router, Method::GET, &format!("{prefix}/rtc/transports"), transports);
    }
}

/// `GET /_matrix/client/v3/voip/turnServer`
pub async fn turn_server(app: Arc<App>, session: Session, _: get_turn_server_info::v3::Request) -> Result<Reply> {
    app.limits.take(Bucket::Other, &session.user)?;
    reply::json(&match &app.config.calls.turn {
        Some(turn) => credentials(turn, &session.user, clock::now_ms()),
        None => json!({}),
    })
}

/// A name that says until when it is good, and the password that the TURN server makes of it too: "A REST API For
/// Access To TURN Services", as coturn has it.
fn credentials(turn: &Turn, user: &UserId, now: u64) -> Value {
    let lifetime = turn.lifetime / 1000;
    let name = format!("{}:{user}", now / 1000 + lifetime);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, turn.secret.0.as_bytes());
    let password = STANDARD.encode(hmac::sign(&key, name.as_bytes()));
    json!({ "username": name, "password": password, "uris": turn.uris, "ttl": lifetime })
}

/// `GET /_matrix/client/v1/rtc/transports`
async fn transports(app: Arc<App>, asked: Asked) -> Result<Reply> {
    app.limits.take(Bucket::Other, &asked.session.user)?;
    reply::json(&json!({ "rtc_transports": foci(&app.config.calls) }))
}

/// Where the calls of many meet.
pub fn foci(calls: &Calls) -> Vec<Value> {
    let focus = |url: &String| json!({ "type": "livekit", "livekit_service_url": url });
    calls.livekit.iter().map(focus).collect()
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;
    use crate::config::Secret;

    #[test]
    fn a_turn_password_is_what_the_turn_server_makes_of_the_name() {
        let (secret, uris) = (Secret("north".to_owned()), vec!["turn:a.b".to_owned()]);
        let turn = Turn { uris, secret, lifetime: 86_400_000 };
        // As `printf %s 1086400:@a:b.c | openssl dgst -sha1 -hmac north -binary | base64` says it.
        let made = credentials(&turn, user_id!("@a:b.c"), 1_000_000_500);
        assert_eq!(made["username"], "1086400:@a:b.c");
        assert_eq!(made["password"], "tBKRZc5tfIu0IywSheAA0hpzF6o=");
        assert_eq!((made["ttl"].as_u64(), made["uris"][0].as_str()), (Some(86_400), Some("turn:a.b")));
    }
}
