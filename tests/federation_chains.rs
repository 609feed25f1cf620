//! Events that allow events, where one of them can't be had.

use serde_json::{Value, json};

use crate::common::{Crowd, encode, federated, in_room};

/// The third of a crowd is called A, B, C, D and E in turn, each of which the one before allows.
fn renamings(crowd: &Crowd) -> Vec<(String, Value)> {
    let (mut chain, began) = (Vec::<(String, Value)>::new(), hearth::base::clock::now_ms());
    for (later, name) in (1u64..).zip(["A", "B", "C", "D", "E"]) {
        let below = chain.last().map_or(crowd.membership(3), |(id, _)| id);
        let content = json!({"membership": "join", "displayname": name});
        let more = json!({"type": "m.room.member", "state_key": crowd.person(3), "content": content,
                          "origin_server_ts": began + later, "auth_events": crowd.cites_to_change(below)});
        let made = crowd.made(3, more, below);
        chain.push(made);
    }
    chain
}

/// Of a chain of events each of which allows the next, one can't be had: what stands above it is neither taken nor
/// rejected, but tried again when somebody asks for it, and nobody's state falls back to what is below it.
#[tokio::test]
async fn what_stands_on_an_event_that_cannot_be_had_waits_until_it_can() {
    let (server, crowd) = tokio::join!(federated("", ""), Crowd::gather(5));
    crowd.opens(false);
    let (bob, room) = (server.register("bob").await, &crowd.room);
    let path = format!("/_matrix/client/v3/join/{}?via={}", encode(room), encode(crowd.peer.name()));
    bob.post(&path, json!({})).await.ok();
    let chain = renamings(&crowd);
    let ids: Vec<String> = chain.iter().map(|(id, _)| id.clone()).collect();
    for (id, event) in chain.iter().filter(|(id, _)| *id != ids[1]) {
        crowd.hands_out(id, event);
    }
    let mut state: Vec<String> = crowd.ids().iter().filter(|id| *id != crowd.membership(3)).cloned().collect();
    state.push(ids[4].clone());
    crowd.names(&state, &ids[..4]);
    let far = |number: usize| format!("${}", "Zm9yZ2V0dGVu".repeat(4)[..42].to_owned() + &number.to_string());
    let says = |number: usize, who: usize, text: &str, more: Value| {
        let mut all = json!({"type": "m.room.message", "content": {"msgtype": "m.text", "body": text}});
        all.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        crowd.made(who, all, &far(number))
    };
    let bodies = async || {
        let page = bob.get(&in_room(room, "messages?dir=b&limit=50")).await.ok();
        let chunk = page["chunk"].as_array().expect("a page").iter();
        chunk.filter_map(|event| event["content"]["body"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let name = async || {
        let path = in_room(room, &format!("state/m.room.member/{}", encode(&crowd.person(3))));
        bob.get(&path).await.ok()["displayname"].clone()
    };
    // What they say by it can't be judged, and what another says in that state can.
    let (first, above) = says(1, 3, "above", json!({"auth_events": crowd.cites(&ids[4])}));
    let (second, beside) = says(2, 0, "beside", json!({}));
    let answer = crowd.send(&server, &[above, beside]).await.ok();
    assert!(answer["pdus"][&first]["error"].is_string(), "{answer}");
    assert_eq!(answer["pdus"][&second], json!({}), "{answer}");
    assert!(server.log().contains("not all can be had"), "{}", server.log());
    assert_eq!(bodies().await, ["beside"]);
    assert_eq!(name().await, Value::Null, "they are what they were");
    // Who goes by what is known goes on.
    let (_, event) = crowd.message(3, "as before", &crowd.handed_in());
    crowd.send(&server, &[event]).await.ok();
    assert_eq!(bodies().await, ["as before", "beside"]);
    // One that is not what its ID says is as good as none.
    let mut forged = chain[1].1.clone();
    forged["origin_server_ts"] = json!(1);
    crowd.hands_out(&ids[1], &forged);
    let (third, again) = says(3, 3, "still above", json!({"auth_events": crowd.cites(&ids[4])}));
    let answer = crowd.send(&server, &[again]).await.ok();
    assert!(answer["pdus"][&third]["error"].is_string(), "{answer}");
    assert_eq!(name().await, Value::Null);
    // Once it can be had, all of it comes in.
    crowd.hands_out(&ids[1], &chain[1].1);
    let (fourth, event) = says(4, 3, "now", json!({"auth_events": crowd.cites(&ids[4])}));
    let answer = crowd.send(&server, &[event]).await.ok();
    assert_eq!(answer["pdus"][&fourth], json!({}), "{answer}");
    assert_eq!(bodies().await, ["now", "as before", "beside"]);
    assert_eq!(name().await, "E");
}
