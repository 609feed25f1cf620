//! A room is upgraded, and whoever comes along finds the new one as they had the old one.

use serde_json::{Value, json};

use crate::common::{Server, User, encode, federate, in_room, until};

const V3: &str = "/_matrix/client/v3";

/// A favourite that is silent, and somebody's direct room.
async fn cherish(user: &User, room: &str, other: &User) {
    let data = format!("{V3}/user/{}", encode(&user.id));
    user.put(&format!("{data}/rooms/{}/tags/m.favourite", encode(room)), json!({"order": 0.5})).await.ok();
    user.put(&format!("{data}/account_data/m.direct"), json!({&other.id: [room]})).await.ok();
    user.put(&format!("{V3}/pushrules/global/room/{}", encode(room)), json!({"actions": []})).await.ok();
    let condition = json!({"kind": "event_match", "key": "room_id", "pattern": room});
    let silent = json!({"actions": [], "conditions": [condition]});
    user.put(&format!("{V3}/pushrules/global/override/{}", encode(room)), silent).await.ok();
}

/// What of that goes for a room.
async fn cherished(user: &User, room: &str) -> Value {
    let data = format!("{V3}/user/{}", encode(&user.id));
    let tags = user.get(&format!("{data}/rooms/{}/tags", encode(room))).await.body;
    let direct = user.get(&format!("{data}/account_data/m.direct")).await.body;
    let rules = user.get(&format!("{V3}/pushrules/")).await.ok();
    let of = |kind: &str| {
        let rules = rules["global"][kind].as_array().expect("a list");
        rules.iter().find(|rule| rule["rule_id"] == room).cloned()
    };
    let is_direct = direct.as_object().is_some_and(|people| {
        people.values().filter_map(Value::as_array).any(|rooms| rooms.iter().any(|listed| listed == room))
    });
    json!({
        "order": tags["tags"]["m.favourite"]["order"],
        "direct": is_direct,
        "room": of("room").map(|rule| rule["actions"].clone()),
        "silent": of("override").map(|rule| rule["conditions"][0]["pattern"].clone()),
    })
}

async fn join_via(user: &User, room: &str, server: &Server) {
    let (room, via) = (encode(room), encode(&server.name));
    user.post(&format!("{V3}/join/{room}?via={via}"), json!({})).await.ok();
}

#[tokio::test]
async fn what_people_have_set_for_a_room_goes_for_the_one_that_takes_its_place() {
    let [one, two] = federate().await;
    let (alice, bob, carol) = (one.register("alice").await, one.register("bob").await, two.register("carol").await);
    let old = alice.create_room(json!({"preset": "public_chat", "room_version": "10"})).await;
    bob.join(&old).await;
    join_via(&carol, &old, &one).await;
    for user in [&alice, &bob, &carol] {
        cherish(user, &old, &alice).await;
    }
    let upgraded = alice.post(&in_room(&old, "upgrade"), json!({"new_version": "12"})).await.ok();
    let new = upgraded["replacement_room"].as_str().expect("a room");
    let wanted = json!({"order": 0.5, "direct": true, "room": [], "silent": new});
    assert_eq!(cherished(&alice, new).await, wanted);
    let none = json!({"order": null, "direct": false, "room": null, "silent": null});
    assert_eq!(cherished(&bob, new).await, none, "he isn't there yet");

    let since = bob.now().await;
    bob.join(new).await;
    assert_eq!(cherished(&bob, new).await, wanted);
    let news = bob.sync(Some(&since), 0).await;
    let kinds = |data: &Value| {
        let mut kinds: Vec<String> =
            data["events"].as_array().expect("a list").iter().map(|e| e["type"].to_string()).collect();
        kinds.sort();
        kinds.join(" ")
    };
    assert_eq!(kinds(&news["account_data"]), "\"m.direct\" \"m.push_rules\"");
    assert_eq!(kinds(&news["rooms"]["join"][new]["account_data"]), "\"m.tag\"");
    join_via(&carol, new, &one).await;
    until("carol's settings", async || (cherished(&carol, new).await == wanted).then_some(())).await;

    // Who comes back finds what they have changed since.
    let data = format!("{V3}/user/{}/rooms/{}/tags", encode(&bob.id), encode(new));
    bob.put(&format!("{data}/u.mine"), json!({})).await.ok();
    bob.delete(&format!("{data}/m.favourite")).await.ok();
    bob.delete(&format!("{V3}/pushrules/global/override/{}", encode(new))).await.ok();
    bob.leave(new).await;
    bob.join(new).await;
    let kept = json!({"order": null, "direct": true, "room": [], "silent": null});
    assert_eq!(cherished(&bob, new).await, kept);
}
