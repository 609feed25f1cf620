//! Where a client goes on reading what an answer left out.

use super::*;

/// Bob's room after some messages, as an answer with a filter of timelines tells of it; and how many of
/// the messages he finds when he goes back from there.
async fn back_from(messages: usize, filter: Value) -> (Value, usize) {
    let house = House::new().await;
    house.happen(vec![Deed::Join(1, 0)]).await;
    let since = text(&house.sync(None, &Manner { limit: 10, lazy: false, after: false })["next_batch"]);
    house.happen(vec![Deed::Say(0, 0); messages]).await;
    let id = house.rooms[0].as_str();
    let answer = house.answer(&ask(Some(&since), json!({ "room": { "timeline": filter } }), false));
    let room = answer["rooms"]["join"][id].clone();
    let found = house.back(id, &text(&room["timeline"]["prev_batch"]));
    let found = found.iter().filter(|event| event["type"] == "m.room.message").count();
    (room, found)
}

#[tokio::test]
async fn who_wants_no_messages_now_can_read_all_of_them_later() {
    let (room, found) = back_from(15, json!({ "limit": 0 })).await;
    assert_eq!((room["timeline"]["limited"].clone(), found), (true.into(), 15), "{room}");
    assert_eq!(list(&room["timeline"]["events"]), [] as [Value; 0]);
    let (room, found) = back_from(15, json!({ "limit": 4 })).await;
    assert_eq!((list(&room["timeline"]["events"]).len(), found), (4, 11), "{room}");
}

#[tokio::test]
async fn where_looking_ends_reading_goes_on() {
    // What was looked at is not wanted; what was not looked at may be.
    let (room, found) = back_from(1010, json!({ "types": ["m.room.topic"] })).await;
    assert_eq!((room["timeline"]["limited"].clone(), found), (true.into(), 10), "{room}");
}
