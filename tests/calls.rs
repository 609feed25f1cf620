//! What helps calls on their way.

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::hmac;
use serde_json::json;

use crate::common::Server;

#[tokio::test]
async fn calls_are_told_their_relay_and_where_to_meet() {
    let calls = "[calls]\nlivekit = \"https://livekit.example.org\"\n\
                 [turn]\nuris = [\"turn:turn.example.org\"]\nsecret = \"north\"\nlifetime = \"1 h\"\n";
    let server = Server::start_with(&format!("registration = \"open\"\n{calls}")).await;
    let alice = server.register("alice").await;
    let turn = alice.get("/_matrix/client/v3/voip/turnServer").await.ok();
    let name = turn["username"].as_str().expect("a name");
    assert!(name.ends_with(&format!(":{}", alice.id)), "{name}");
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"north");
    assert_eq!(turn["password"], STANDARD.encode(hmac::sign(&key, name.as_bytes())));
    assert_eq!((&turn["ttl"], &turn["uris"]), (&json!(3600), &json!(["turn:turn.example.org"])));
    server.guest().get("/_matrix/client/v3/voip/turnServer").await.fails(401, "M_MISSING_TOKEN");

    let focus = json!({"type": "livekit", "livekit_service_url": "https://livekit.example.org"});
    for prefix in ["v1", "unstable/org.matrix.msc4143"] {
        let told = alice.get(&format!("/_matrix/client/{prefix}/rtc/transports")).await.ok();
        assert_eq!(told, json!({"rtc_transports": [focus]}));
    }
    let known = server.guest().get("/.well-known/matrix/client").await.ok();
    assert_eq!(known["org.matrix.msc4143.rtc_foci"], json!([focus]));
    assert_eq!(known["m.homeserver"]["base_url"], server.url);
    assert!(!server.log().contains("north"), "the secret is never written");
}

#[tokio::test]
async fn a_server_without_helpers_for_calls_says_so() {
    let server = Server::start().await;
    let alice = server.register("alice").await;
    assert_eq!(alice.get("/_matrix/client/v3/voip/turnServer").await.ok(), json!({}));
    let told = alice.get("/_matrix/client/v1/rtc/transports").await.ok();
    assert_eq!(told, json!({"rtc_transports": []}));
    let known = server.guest().get("/.well-known/matrix/client").await.ok();
    assert!(known["org.matrix.msc4143.rtc_foci"].is_null());
}
