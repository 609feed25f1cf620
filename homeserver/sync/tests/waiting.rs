//! What happens while a client waits, or between its requests.

use std::time::Instant;

use super::*;
use crate::{
    base::clock,
    store::{rows::DeviceRow, tables},
};

/// Long enough for what was rung to be looked at, also on a machine that is busy with other tests.
const PAUSE: Duration = Duration::from_millis(400);

/// A hub that wakes who waits, and bob's token. Bob is in the first room, and signed in.
async fn running() -> (Arc<Hub>, House, String) {
    let mut house = House::new().await;
    let sign_in = |tx: &WriteTx| {
        let device = ask(None, json!({}), false).device;
        tables::DEVICES.put(tx, (bob().as_str(), device.as_str()), &DeviceRow::default())
    };
    house.hub.store.write(sign_in).await.expect("writes");
    house.happen(vec![Deed::Join(1, 0)]).await;
    let spare = Hub::new(house.hub.store.clone(), house.hub.notifier.clone(), Arc::default(), 1 << 20);
    let hub = Arc::new(std::mem::replace(&mut house.hub, spare));
    let runner = hub.clone();
    tokio::spawn(async move {
        let (_go_on, stop) = tokio::sync::watch::channel(false);
        runner.run(stop).await;
    });
    let since = text(&house.sync(None, &Manner { limit: 10, lazy: false, after: false })["next_batch"]);
    (hub, house, since)
}

/// Lets the world go on by many positions that are nothing to bob, and rings his seat.
async fn pass(hub: &Hub, positions: usize) {
    let work = move |tx: &WriteTx| {
        for _ in 0..positions {
            tx.next_pos();
        }
        tx.wake(|wake| {
            wake.users.insert(bob().to_owned());
        });
        Ok(())
    };
    hub.store.write(work).await.expect("writes");
}

async fn ask_for(hub: &Arc<Hub>, since: &str, timeout: u64) -> Result<Value> {
    let ask = Arc::new(ask(Some(since), json!({}), false));
    let bytes = sync(hub, ask, Duration::from_millis(timeout)).await?;
    Ok(serde_json::from_slice(&bytes).expect("JSON"))
}

#[tokio::test]
async fn waiting_long_is_no_long_absence() {
    let (hub, house, since) = running().await;
    // Nobody gets a place for a long answer: who needs one is never answered.
    let places = hub.heavy.clone().acquire_many_owned(4).await.expect("open");
    let waiting = tokio::spawn({
        let hub = hub.clone();
        async move { ask_for(&hub, &since, 60_000).await }
    });
    for _ in 0..3 {
        tokio::time::sleep(PAUSE).await;
        pass(&hub, 3000).await;
    }
    tokio::time::sleep(PAUSE).await;
    house.happen(vec![Deed::Say(0, 0)]).await;
    let answer = tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("in time");
    let answer = answer.expect("no panic").expect("answers");
    assert_eq!(list(&answer["rooms"]["join"][house.rooms[0].as_str()]["timeline"]["events"]).len(), 1);
    drop(places);
}

#[tokio::test]
async fn a_crowd_of_strangers_hides_nobodys_presence() {
    let (hub, house, since) = running().await;
    for n in 0..1200 {
        hub.presence.active(&UserId::parse(format!("@stranger{n}:test")).expect("an ID"), "X");
    }
    hub.presence.set(people()[0], "X", "online".into(), Some("here".into())).expect("sets");
    let began = Instant::now();
    let answer = ask_for(&hub, &since, 10_000).await.expect("answers");
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(answer["presence"]["events"][0]["sender"], people()[0].as_str(), "{answer}");
    drop(house);
}

#[tokio::test]
async fn a_session_that_ends_while_an_answer_is_built_ends_the_wait() {
    let (hub, _house, since) = running().await;
    pass(&hub, 6000).await;
    let places = hub.heavy.clone().acquire_many_owned(4).await.expect("open");
    let waiting = tokio::spawn({
        let hub = hub.clone();
        async move { ask_for(&hub, &since, 60_000).await }
    });
    tokio::time::sleep(PAUSE).await;
    let sign_out = |tx: &WriteTx| {
        let device = ask(None, json!({}), false).device;
        tables::DEVICES.remove(tx, (bob().as_str(), device.as_str()))?;
        tx.wake(|wake| {
            wake.signed_out.insert(bob().to_owned());
        });
        Ok(())
    };
    hub.store.write(sign_out).await.expect("writes");
    tokio::time::sleep(PAUSE).await;
    drop(places);
    let answer = tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("at once").expect("no panic");
    assert_eq!(answer.expect_err("there is no such session").errcode(), "M_UNKNOWN_TOKEN");
}

#[test]
fn who_hangs_up_gives_no_place_away_before_its_work_is_done() {
    // One thread for long work, which is busy: what comes after waits in a queue.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
    runtime.expect("a runtime").block_on(async {
        let house = House::new().await;
        let hub = Arc::new(house.hub);
        let (go_on, busy) = std::sync::mpsc::channel::<()>();
        let thread = tokio::task::spawn_blocking(move || busy.recv());
        let seat = Arc::new(hub.notifier.sit(&hub.store, bob()).expect("a seat"));
        let ask = Arc::new(ask(None, json!({}), false));
        let given_up = tokio::time::timeout(Duration::from_millis(50), turn(&hub, &seat, &ask)).await;
        assert!(given_up.is_err());
        assert_eq!(hub.heavy.available_permits(), 3);
        go_on.send(()).expect("is there");
        thread.await.expect("no panic").expect("was told");
        turn(&hub, &seat, &ask).await.expect("builds");
        assert_eq!(hub.heavy.available_permits(), 4);
    });
}

#[tokio::test]
async fn what_was_delivered_is_gone_when_the_next_answer_comes_and_nothing_else_is() {
    let (hub, _house, since) = running().await;
    let send = |tx: &WriteTx| {
        let pos = tx.next_pos();
        tables::TO_DEVICE.put(tx, (bob().as_str(), "PHONE", pos), &json!({ "type": "test" }).to_string())
    };
    let kept = || hub.store.read(|tx| to_device::unacknowledged(tx, bob(), "PHONE", u64::MAX)).expect("reads");
    hub.store.write(send).await.expect("writes");
    let lost = ask_for(&hub, &since, 0).await.expect("answers");
    assert_eq!(list(&lost["to_device"]["events"]).len(), 1);
    assert!(kept(), "it may not have arrived");
    let anew = ask_for(&hub, "s99999999_1", 0).await.expect("answers");
    assert_eq!(list(&anew["to_device"]["events"]).len(), 1, "a token from a lost future has received nothing");
    ask_for(&hub, &text(&lost["next_batch"]), 0).await.expect("answers");
    assert!(!kept());
}

#[tokio::test]
async fn who_is_out_types_no_more() {
    let (hub, house, since) = running().await;
    let room = hub.store.read(|tx| Room::named(tx, &house.rooms[0])).expect("there is one").num;
    let minute = Duration::from_secs(60);
    house.happen(vec![Deed::Join(2, 0)]).await;
    for person in people() {
        hub.typing.start(room, person, minute);
    }
    let since = text(&ask_for(&hub, &since, 0).await.expect("answers")["next_batch"]);
    house.happen(vec![Deed::Kick(2, 0)]).await;
    tokio::time::sleep(PAUSE).await;
    let typing = |answer: &Value| answer["rooms"]["join"][house.rooms[0].as_str()]["ephemeral"]["events"][0].clone();
    let answer = ask_for(&hub, &since, 0).await.expect("answers");
    assert_eq!(typing(&answer)["content"]["user_ids"], json!([people()[0], bob()]), "{answer}");
    // With a token whose time is yet to come one would hear of nobody for a long while.
    let (pos, _) = since.split_once('_').expect("two parts");
    for future in [clock::now_ms() + 3_600_000, u64::MAX] {
        let answer = ask_for(&hub, &format!("{pos}_{future}"), 0).await.expect("answers");
        assert_eq!(typing(&answer)["content"]["user_ids"], json!([people()[0], bob()]), "{answer}");
        let next: SyncToken = text(&answer["next_batch"]).parse().expect("a token");
        assert!(next.ephemeral < future);
    }
}
