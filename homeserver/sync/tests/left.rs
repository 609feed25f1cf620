//! What a client is told of rooms that its owner is out of.

use super::*;

async fn house(deeds: impl IntoIterator<Item = Deed>) -> (House, String) {
    let house = House::new().await;
    house.happen(deeds.into_iter().collect()).await;
    let since = text(&house.sync(None, &Manner { limit: 10, lazy: false, after: false })["next_batch"]);
    (house, since)
}

/// What an answer says of the first room, among those that were left.
fn left<'a>(house: &House, answer: &'a Value) -> &'a Value {
    let room = &answer["rooms"]["leave"][house.rooms[0].as_str()];
    assert!(room.is_object(), "{answer}");
    room
}

/// (type, membership) of events.
fn gist(events: &Value) -> Vec<(String, Value)> {
    list(events).iter().map(|event| (text(&event["type"]), event["content"]["membership"].clone())).collect()
}

fn member(membership: &str) -> (String, Value) {
    ("m.room.member".into(), membership.into())
}

#[tokio::test]
async fn who_is_put_out_and_then_banned_is_told_both_and_not_what_was_in_between() {
    for after in [false, true] {
        let (house, since) = house([Deed::Join(1, 0)]).await;
        house.happen(vec![Deed::Say(0, 0), Deed::Kick(1, 0), Deed::Topic(0, 0), Deed::Ban(1, 0)]).await;
        let answer = house.answer(&ask(Some(&since), json!({}), after));
        let room = left(&house, &answer);
        let said = ("m.room.message".to_owned(), Value::Null);
        assert_eq!(gist(&room["timeline"]["events"]), [said, member("leave"), member("ban")]);
        match after {
            true => assert_eq!(gist(&room["state_after"]["events"]), [member("ban")]),
            false => assert_eq!(gist(&room["state"]["events"]), []),
        }
        let none = json!({ "room": { "timeline": { "limit": 0 } } });
        let answer = house.answer(&ask(Some(&since), none, false));
        assert_eq!(gist(&left(&house, &answer)["state"]["events"]), [member("ban")]);
        let next = text(&answer["next_batch"]);
        assert!(house.answer(&ask(Some(&next), json!({}), after))["rooms"].is_null());
    }
}

#[tokio::test]
async fn an_invitation_that_came_to_nothing_shows_how_and_nothing_else() {
    let ends: [(Vec<Deed>, &str); 3] = [
        (vec![Deed::Leave(1, 0)], "leave"),
        (vec![Deed::Leave(1, 0), Deed::Topic(0, 0), Deed::Ban(1, 0)], "ban"),
        (vec![Deed::Kick(1, 0)], "leave"),
    ];
    for (deeds, end) in ends {
        let (house, since) = house([Deed::Invite(1, 0)]).await;
        house.happen(deeds).await;
        let told = |filter, after| {
            let answer = house.answer(&ask(Some(&since), filter, after));
            let room = left(&house, &answer);
            let state = if after { "state_after" } else { "state" };
            (gist(&room["timeline"]["events"]), gist(&room[state]["events"]))
        };
        let own = || vec![member(end)];
        assert_eq!(told(json!({}), false), (own(), vec![]));
        assert_eq!(told(json!({}), true), (own(), own()));
        for unseen in [json!({ "limit": 0 }), json!({ "types": ["m.room.message"] })] {
            let filter = json!({ "room": { "timeline": unseen, "state": { "lazy_load_members": true } } });
            assert_eq!(told(filter.clone(), false), (vec![], own()));
            assert_eq!(told(filter, true), (vec![], own()));
        }
    }
}

#[tokio::test]
async fn a_forgotten_room_is_left_for_clients_that_knew_it_and_read_by_nobody() {
    let (house, since) = house([Deed::Join(1, 0), Deed::Say(0, 0)]).await;
    house.happen(vec![Deed::Leave(1, 0)]).await;
    let leavers = json!({ "room": { "include_leave": true } });
    let room = house.rooms[0].to_string();
    let newest = format!("t{}", i64::MAX);
    assert!(house.answer(&ask(None, leavers.clone(), false))["rooms"]["leave"][&room].is_object());
    assert!(!house.back(&room, &newest).is_empty());
    // The hub has the facts in mind by now, and has to learn that they changed.
    let seat = house.hub.notifier.sit(&house.hub.store, bob()).expect("a seat");
    let before = seat.personal();
    house.happen(vec![Deed::GiveUp(0)]).await;
    assert_ne!(seat.personal(), before);
    assert!(house.answer(&ask(None, leavers.clone(), false))["rooms"].is_null());
    let answer = house.answer(&ask(Some(&since), json!({}), false));
    assert_eq!(gist(&left(&house, &answer)["timeline"]["events"]), [member("leave")]);
    assert!(house.back(&room, &newest).is_empty());
    // A ban does not bring it back; coming in again does.
    house.happen(vec![Deed::Ban(1, 0)]).await;
    assert!(house.answer(&ask(None, leavers, false))["rooms"].is_null());
    assert!(house.back(&room, &newest).is_empty());
    house.happen(vec![Deed::Unban(1, 0), Deed::Join(1, 0)]).await;
    assert!(house.back(&room, &newest).iter().any(|event| event["type"] == "m.room.message"));
}
