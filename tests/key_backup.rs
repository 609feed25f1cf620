//! Backups of room keys and dehydrated devices, over the wire.

use serde_json::{Value, json};

use crate::common::{Server, User, encode};

const ROOM_KEYS: &str = "/_matrix/client/v3/room_keys";

fn method() -> Value {
    json!({"algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": {
        "public_key": "abcdefg", "signatures": {"@a:b": {"ed25519:X": "s"}}}})
}

fn key(first: u64) -> Value {
    json!({"first_message_index": first, "forwarded_count": 0, "is_verified": false,
        "session_data": {"ephemeral": "a", "ciphertext": "b", "mac": "c"}})
}

async fn backup(user: &User) -> String {
    let made = user.post(&format!("{ROOM_KEYS}/version"), method()).await.ok();
    made["version"].as_str().expect("a version").to_owned()
}

fn keys(rest: &str, version: &str) -> String {
    format!("{ROOM_KEYS}/keys{rest}?version={version}")
}

#[tokio::test]
async fn a_backup_is_made_filled_read_thinned_out_and_deleted() {
    let mut server = Server::start().await;
    let alice = server.register("alice").await;
    let latest = format!("{ROOM_KEYS}/version");
    alice.get(&latest).await.fails(404, "M_NOT_FOUND");
    alice.put(&keys("", "1"), json!({"rooms": {}})).await.fails(404, "M_NOT_FOUND");
    let version = backup(&alice).await;
    let info = alice.get(&latest).await.ok();
    assert_eq!((&info["version"], &info["count"]), (&json!(version), &json!(0)));
    assert_eq!(info["auth_data"], method()["auth_data"]);

    let sessions: serde_json::Map<_, _> = (0..1200).map(|n| (format!("session {n} \"é\""), key(n))).collect();
    let all = json!({"rooms": {"!a:b": {"sessions": sessions}, "!c:d": {"sessions": {"s": key(7)}}}});
    let put = alice.put(&keys("", &version), all.clone()).await.ok();
    assert_eq!(put["count"], 1201);
    assert_eq!(alice.put(&keys("", &version), all.clone()).await.ok(), put, "nothing has changed");
    assert_eq!(alice.get(&keys("", &version)).await.ok(), all);
    let room = format!("/{}", encode("!c:d"));
    assert_eq!(alice.get(&keys(&room, &version)).await.ok(), all["rooms"]["!c:d"]);
    assert_eq!(alice.get(&keys("/!none:x", &version)).await.ok(), json!({"sessions": {}}));
    let one = format!("{room}/s");
    assert_eq!(alice.put(&keys(&one, &version), key(9)).await.ok()["etag"], put["etag"], "the better one stays");
    let better = alice.put(&keys(&room, &version), json!({"sessions": {"s": key(3)}})).await.ok();
    assert!(better["count"] == 1201 && better["etag"] != put["etag"]);

    server.restart().await;
    assert_eq!(alice.get(&keys(&one, &version)).await.ok(), key(3));
    alice.get(&keys(&format!("{room}/t"), &version)).await.fails(404, "M_NOT_FOUND");
    assert_eq!(alice.delete(&keys(&one, &version)).await.ok()["count"], 1200);
    assert_eq!(alice.delete(&keys("", &version)).await.ok()["count"], 0);
    assert_eq!(alice.get(&keys("", &version)).await.ok(), json!({"rooms": {}}));
    alice.delete(&format!("{latest}/{version}")).await.ok();
    for answer in [alice.get(&latest).await, alice.get(&keys("", &version)).await] {
        answer.fails(404, "M_NOT_FOUND");
    }
}

#[tokio::test]
async fn keys_go_into_the_newest_backup_and_nobody_elses() {
    let server = Server::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let (old, new) = (backup(&alice).await, backup(&alice).await);
    let refused = alice.put(&keys("/!r:x/s", &old), key(0)).await;
    refused.fails(403, "M_WRONG_ROOM_KEYS_VERSION");
    assert_eq!(refused.body["current_version"], new);
    alice.put(&keys("/!r:x/s", &new), json!({"is_verified": true})).await.fails(400, "M_BAD_JSON");
    alice.put(&keys("/!r:x/s", &new), key(0)).await.ok();
    bob.get(&keys("", &new)).await.fails(404, "M_NOT_FOUND");
    bob.put(&keys("/!r:x/s", &new), key(0)).await.fails(404, "M_NOT_FOUND");
    bob.delete(&format!("{ROOM_KEYS}/version/{new}")).await.fails(404, "M_NOT_FOUND");
    let path = format!("{ROOM_KEYS}/version/{new}");
    let mut changed = method();
    changed["auth_data"]["signatures"] = json!({});
    alice.put(&path, changed.clone()).await.ok();
    assert_eq!(alice.get(&path).await.ok()["auth_data"], changed["auth_data"]);
    alice.put(&path, json!({"algorithm": "m.other", "auth_data": {}})).await.fails(400, "M_INVALID_PARAM");
    changed["version"] = json!(old);
    alice.put(&path, changed).await.fails(400, "M_INVALID_PARAM");
}
