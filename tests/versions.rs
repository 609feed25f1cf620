//! What the spec's versions after v1.11 ask for where no other test looks: a little of each. The whole table, with
//! the tests of the rest, is in `spec/versions.md`.

use serde_json::{Value, json};

use crate::common::{Server, User, encode, in_room, transaction};

const V3: &str = "/_matrix/client/v3";

async fn state(user: &User, room: &str, rest: &str) -> Value {
    user.get(&in_room(room, &format!("state/{rest}"))).await.ok()
}

#[tokio::test]
async fn each_listed_version_is_spoken() {
    let server = Server::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let versions = server.guest().get("/_matrix/client/versions").await.ok();
    let listed: Vec<String> = (1..=19).map(|minor| format!("v1.{minor}")).collect();
    assert_eq!(versions["versions"], json!(listed));
    let room = alice.create_room(json!({"preset": "public_chat", "topic": "Tea", "name": "Kitchen"})).await;
    twelve_and_thirteen(&alice, &bob, &room).await;
    fifteen_and_sixteen(&alice, &bob, &room).await;
    seventeen_and_later(&alice, &room).await;
}

async fn twelve_and_thirteen(alice: &User, bob: &User, room: &str) {
    let joined = bob.post(&format!("{V3}/join/{}?via=localhost&via=far.test", encode(room)), json!({})).await.ok();
    assert_eq!(joined["room_id"], *room);
    bob.leave(room).await;
    bob.join(room).await;
    let since = alice.now().await;
    let mark = format!("{V3}/user/{}/rooms/{}/account_data/m.marked_unread", encode(&alice.id), encode(room));
    alice.put(&mark, json!({"unread": true})).await.ok();
    let sync = alice.sync(Some(&since), 10_000).await;
    assert_eq!(sync["rooms"]["join"][room]["account_data"]["events"][0]["content"], json!({"unread": true}));
    let rule = format!("{V3}/pushrules/global/content/tea");
    for actions in [json!(["dont_notify"]), json!(["notify", "coalesce"])] {
        alice.put(&rule, json!({"pattern": "tea", "actions": actions})).await.ok();
    }
    let said = bob.say(room, "nothing but the truth").await;
    alice.post(&in_room(room, &format!("report/{said}")), json!({})).await.ok();
    alice.post(&in_room(room, "report"), json!({"reason": "noise"})).await.ok();
}

async fn fifteen_and_sixteen(alice: &User, bob: &User, room: &str) {
    let topic = state(alice, room, "m.room.topic").await;
    assert_eq!(topic, json!({"topic": "Tea", "m.topic": {"m.text": [{"body": "Tea"}]}}));
    let whole = state(alice, room, "m.room.topic/?format=event").await;
    assert_eq!(
        (&whole["content"], &whole["type"], &whole["sender"]),
        (&topic, &json!("m.room.topic"), &json!(alice.id))
    );
    let since = bob.now().await;
    alice.set_state(room, "m.room.topic", "", json!({"topic": "Coffee"})).await;
    let sync = bob.get(&format!("{V3}/sync?since={}&use_state_after=true&timeout=10000", encode(&since))).await.ok();
    let joined = &sync["rooms"]["join"][room];
    assert_eq!(joined["state_after"]["events"][0]["content"]["topic"], "Coffee", "{joined}");
    assert!(joined.get("state").is_none(), "{joined}");
    // In room version 12 those who are invited to a room of trusted people own it too.
    let trusted = alice.create_room(json!({"preset": "trusted_private_chat", "invite": [bob.id]})).await;
    assert!(!trusted.contains(':'), "{trusted}");
    let create = state(alice, &trusted, "m.room.create").await;
    assert_eq!((&create["room_version"], &create["additional_creators"]), (&json!("12"), &json!([bob.id])));
    let power = state(alice, &trusted, "m.room.power_levels").await;
    assert_eq!((&power["events"]["m.room.tombstone"], power["users"].get(&bob.id)), (&json!(150), None));
    let invite = bob.sync(None, 0).await["rooms"]["invite"][&trusted]["invite_state"]["events"].clone();
    let told = invite.as_array().expect("a list").iter();
    assert!(told.into_iter().any(|event| event["type"] == "m.room.create"), "{invite}");
    bob.join(&trusted).await;
    let wish = json!({"new_version": "12", "additional_creators": [bob.id]});
    let upgraded = alice.post(&in_room(&trusted, "upgrade"), wish).await.ok();
    let new = upgraded["replacement_room"].as_str().expect("a room");
    let create = state(alice, new, "m.room.create").await;
    assert_eq!(
        (&create["additional_creators"], &create["predecessor"]["room_id"]),
        (&json!([bob.id]), &json!(trusted))
    );
    let capabilities = alice.get(&format!("{V3}/capabilities")).await.ok()["capabilities"].clone();
    assert_eq!(capabilities["m.room_versions"]["default"], "12");
    assert_eq!(capabilities["m.profile_fields"]["enabled"], true);
    assert_eq!(capabilities["m.forget_forced_upon_leave"]["enabled"], false);
}

async fn seventeen_and_later(alice: &User, room: &str) {
    let rules = alice.get(&format!("{V3}/pushrules/")).await.ok().to_string();
    for legacy in [".m.rule.contains_display_name", ".m.rule.contains_user_name", ".m.rule.roomnotif"] {
        assert!(!rules.contains(legacy), "{legacy}");
    }
    assert!(rules.contains(".m.rule.is_user_mention") && rules.contains(".m.rule.is_room_mention"));
    let slip = alice.say(room, "a slip").await;
    let path = in_room(room, &format!("send/m.room.redaction/{}", transaction()));
    alice.put(&path, json!({"redacts": slip, "reason": "slipped"})).await.ok();
    let gone = alice.get(&in_room(room, &format!("event/{slip}"))).await.ok();
    assert_eq!((&gone["content"], gone["unsigned"]["redacted_because"].is_object()), (&json!({}), true));
    let old = alice.set_state(room, "chat.test.cup", "", json!({"full": true})).await;
    let new = alice.set_state(room, "chat.test.cup", "", json!({"full": false})).await;
    let event = alice.get(&in_room(room, &format!("event/{new}"))).await.ok();
    assert_eq!(event["unsigned"]["replaces_state"], *old);
}
