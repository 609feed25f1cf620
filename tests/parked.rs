//! Two hundred requests that wait for something to happen: they disturb nobody, wake at once, and end
//! with the server.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::common::{Server, User, encode};

const PEOPLE: usize = 20;
const EACH: usize = 10;

/// Twenty people in a room.
async fn people(server: &Server) -> (Vec<User>, String) {
    let mut people: Vec<User> = Vec::new();
    for number in 0..PEOPLE {
        people.push(server.register(&format!("user{number}")).await);
    }
    let room = people[0].create_room(json!({"preset": "public_chat"})).await;
    for user in &people[1..] {
        user.join(&room).await;
    }
    (people, room)
}

/// A sync that says nothing of whether one is there, as that would wake the others.
async fn quiet_sync(user: &User, rest: &str) -> (u16, Value) {
    let answer = user.get(&format!("/_matrix/client/v3/sync?set_presence=offline{rest}")).await;
    (answer.status, answer.body)
}

/// Ten long syncs of each, from now on.
async fn park(people: &[User]) -> JoinSet<(u16, Value)> {
    let mut tokens = Vec::new();
    for user in people {
        let (_, now) = quiet_sync(user, "").await;
        tokens.push(now["next_batch"].as_str().expect("a token").to_owned());
    }
    let mut parked = JoinSet::new();
    for (user, since) in people.iter().zip(tokens) {
        for _ in 0..EACH {
            let (user, rest) = (user.clone(), format!("&timeout=60000&since={}", encode(&since)));
            parked.spawn(async move { quiet_sync(&user, &rest).await });
        }
    }
    // Until the last of them has surely arrived and waits.
    tokio::time::sleep(Duration::from_secs(1)).await;
    if let Some(answered) = parked.try_join_next() {
        panic!("somebody was answered without a reason: {answered:?}");
    }
    parked
}

#[tokio::test]
async fn two_hundred_that_wait_disturb_nobody_and_all_wake() {
    let server = Server::start().await;
    let (people, room) = people(&server).await;
    let mut parked = park(&people).await;
    let asked = Instant::now();
    people[0].get("/_matrix/client/v3/account/whoami").await.ok();
    assert!(asked.elapsed() < Duration::from_secs(1), "others have to wait");

    let event = people[0].say(&room, "wake up").await;
    let sent = Instant::now();
    while let Some(woken) = parked.join_next().await {
        let (status, body) = woken.expect("answered");
        assert_eq!(status, 200, "{body}");
        let timeline = body["rooms"]["join"][&room]["timeline"]["events"].as_array().expect("the room");
        assert!(timeline.iter().any(|found| found["event_id"] == *event), "{body}");
    }
    assert!(sent.elapsed() < Duration::from_secs(5), "waking took {:?}", sent.elapsed());
}

#[tokio::test]
async fn those_that_wait_end_cleanly_with_the_server() {
    let mut server = Server::start().await;
    let (people, _) = people(&server).await;
    let mut parked = park(&people).await;
    let asked = Instant::now();
    assert!(server.stop().await.success());
    assert!(asked.elapsed() < Duration::from_secs(5), "stopping took {:?}", asked.elapsed());
    while let Some(ended) = parked.join_next().await {
        let (status, body) = ended.expect("answered");
        assert!(status == 200 && body["next_batch"].is_string(), "{status} {body}");
    }
}
