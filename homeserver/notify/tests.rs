//! Nobody's wake-up is lost, and nobody is woken for nothing.

use std::{collections::BTreeSet, time::Duration};

use super::*;
use crate::store::{Options, Read, WriteTx, rows::MemberRow, tables};

fn open() -> (tempfile::TempDir, Notifier, Store) {
    let dir = tempfile::tempdir().expect("a directory");
    let notifier = Notifier::default();
    let options = Options { page_cache: 1 << 20, state_cache: 1 << 20, min_free: 0 };
    let store = Store::open(&dir.path().join("hearth.redb"), options, notifier.on_commit()).expect("opens");
    tokio::spawn(notifier.clone().follow(store.clone(), |_, _, _| {}));
    (dir, notifier, store)
}

fn user(n: usize) -> OwnedUserId {
    UserId::parse(format!("@u{n}:b.c")).expect("an ID")
}

fn put_member(tx: &WriteTx, user: &UserId, room: RoomNum, membership: &str) -> Result<()> {
    let row = MemberRow { membership: membership.into(), event: tx.next_pos(), at: None, forgotten: false };
    tables::USER_ROOMS.put(tx, (user.as_str(), room), &row)?;
    tx.wake(|wake| {
        wake.users.insert(user.to_owned());
        wake.members.insert((user.to_owned(), room), membership == "join");
    });
    Ok(())
}

async fn member(store: &Store, n: usize, room: RoomNum, membership: &'static str) {
    store.write(move |tx| put_member(tx, &user(n), room, membership)).await.expect("writes");
}

async fn happens(store: &Store, room: RoomNum) -> Pos {
    let work = move |tx: &WriteTx| {
        tx.wake(|wake| {
            wake.rooms.insert(room);
        });
        Ok(tx.next_pos())
    };
    store.write(work).await.expect("writes")
}

async fn rings(seat: &Taken, seen: u64) -> bool {
    tokio::time::timeout(Duration::from_secs(20), seat.ring_after(seen)).await.is_ok()
}

/// Waits until all that was committed has been passed on. The follower folds what waits into one round:
/// once a witness has been rung twice, the round before is over.
async fn settle(notifier: &Notifier, store: &Store) {
    member(store, 99, 99, "join").await;
    let witness = notifier.sit(store, &user(99)).expect("sits");
    for _ in 0..3 {
        let seen = witness.rung();
        happens(store, 99).await;
        assert!(rings(&witness, seen).await);
    }
}

async fn is_quiet(seat: &Taken, seen: u64, (notifier, store): (&Notifier, &Store)) -> bool {
    settle(notifier, store).await;
    seat.rung() == seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_wake_up_is_lost() {
    let (_dir, notifier, store) = open();
    for n in 0..20 {
        member(&store, n, (n % 5) as RoomNum, "join").await;
    }
    let rounds = 40;
    let mut waiting = tokio::task::JoinSet::new();
    for n in 0..20 {
        let (notifier, store) = (notifier.clone(), store.clone());
        waiting.spawn(async move {
            let room = (n % 5) as RoomNum;
            let seat = notifier.sit(&store, &user(n)).expect("a seat");
            let mut since = 0;
            // Who is never told of the last change waits here for ever.
            while since < rounds {
                let rung = seat.rung();
                let now = store.read(|tx| Ok(tables::ROOM_NUMS.get(tx, &*room.to_string())?.unwrap_or(0)));
                let now = now.expect("reads");
                match now > since {
                    true => since = now,
                    false => seat.ring_after(rung).await,
                }
            }
        });
    }
    for round in 1..=rounds {
        for room in 0..5u64 {
            let work = move |tx: &WriteTx| {
                tables::ROOM_NUMS.put(tx, &*room.to_string(), &round)?;
                tx.wake(|wake| {
                    wake.rooms.insert(room);
                });
                Ok(())
            };
            store.write(work).await.expect("writes");
        }
    }
    let all = tokio::time::timeout(Duration::from_secs(20), waiting.join_all()).await;
    all.expect("everybody was told");
}

#[tokio::test]
async fn who_is_concerned_is_woken_and_nobody_else() {
    let (_dir, notifier, store) = open();
    member(&store, 1, 10, "join").await;
    member(&store, 2, 20, "join").await;
    let (one, two) = (notifier.sit(&store, &user(1)).expect("sits"), notifier.sit(&store, &user(2)).expect("sits"));
    let both = (&notifier, &store);
    settle(&notifier, &store).await;
    let (seen_one, seen_two) = (one.rung(), two.rung());
    happens(&store, 10).await;
    assert!(rings(&one, seen_one).await);
    assert!(is_quiet(&two, seen_two, both).await);

    let personal = two.personal();
    member(&store, 2, 10, "join").await;
    assert!(rings(&two, seen_two).await, "one's own coming in");
    assert_ne!(two.personal(), personal);
    settle(&notifier, &store).await;
    let seen = two.rung();
    happens(&store, 10).await;
    assert!(rings(&two, seen).await, "the room that one came into meanwhile");
    member(&store, 2, 10, "leave").await;
    settle(&notifier, &store).await;
    let seen = two.rung();
    happens(&store, 10).await;
    assert!(is_quiet(&two, seen, both).await, "not the room that one has left");

    let (seen_one, seen_two) = (one.rung(), two.rung());
    let touch = |tx: &WriteTx| {
        tx.wake(|wake| {
            wake.touched.insert(10);
            wake.users.insert(user(2));
        });
        Ok(())
    };
    store.write(touch).await.expect("writes");
    assert!(rings(&two, seen_two).await);
    assert!(is_quiet(&one, seen_one, both).await, "what only some may see wakes only those");

    let sessions = one.sessions();
    let devices = |tx: &WriteTx| {
        tx.wake(|wake| {
            wake.devices.insert(user(2));
            wake.signed_out.insert(user(1));
        });
        put_member(tx, &user(2), 10, "join")
    };
    store.write(devices).await.expect("writes");
    assert!(rings(&one, seen_one).await);
    assert_ne!(one.sessions(), sessions);
    let seen = one.rung();
    notifier.ring_room(10);
    assert!(rings(&one, seen).await);
    let seen = one.rung();
    notifier.ring_company(&user(2));
    assert!(rings(&one, seen).await);
    let seen = one.rung();
    notifier.stop();
    assert!(rings(&one, seen).await && notifier.is_stopping());
}

#[tokio::test]
async fn changed_rooms_are_known_from_the_start_on_and_not_before() {
    let (_dir, notifier, store) = open();
    notifier.start(5);
    let changed = |snapshot, since| notifier.changed(snapshot, since, [1, 2].into_iter());
    assert_eq!(changed(5, 4), None, "before the start nothing is known");
    assert_eq!(changed(6, 5), None, "a snapshot that is newer than what was told");
    assert_eq!(changed(5, 5), Some(vec![]));
    let first = loop {
        let pos = happens(&store, 1).await;
        if pos > 5 {
            break pos;
        }
    };
    assert_eq!(changed(first, 5), Some(vec![1]));
    assert_eq!(changed(first, first), Some(vec![]));
    assert_eq!(store.read(|tx| tx.pos()).expect("reads"), first);
}

#[tokio::test]
async fn seats_that_nobody_uses_are_given_up() {
    let (_dir, notifier, store) = open();
    member(&store, 1, 10, "join").await;
    let seat = notifier.sit(&store, &user(1)).expect("sits");
    let number = seat.personal().0;
    let later = clock::now_ms() + LINGER + 1000;
    notifier.0.sweep(later);
    assert_eq!(lock(&notifier.0.rooms).len(), 1, "somebody sits there");
    drop(seat);
    notifier.0.sweep(clock::now_ms());
    assert_eq!(notifier.sit(&store, &user(1)).expect("sits").personal().0, number, "it is still warm");
    notifier.0.sweep(later);
    assert!(lock(&notifier.0.rooms).is_empty());
    let seat = notifier.sit(&store, &user(1)).expect("sits");
    assert_ne!(seat.personal().0, number, "what an old seat has counted means nothing to a new one");
    assert_eq!(lock(&notifier.0.rooms).len(), 1);
    let many: Vec<_> = (0..MAX_WAITING).map_while(|_| notifier.sit(&store, &user(1)).ok()).collect();
    assert_eq!(notifier.sit(&store, &user(1)).err().expect("full").errcode(), "M_LIMIT_EXCEEDED");
    drop(many);
    assert!(notifier.sit(&store, &user(1)).is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn news_are_kept_once_somebody_has_a_pusher_and_nothing_is_left_out() {
    let (_dir, notifier, store) = open();
    happens(&store, 1).await;
    settle(&notifier, &store).await;
    assert!(notifier.news().wake == Wake::default(), "nobody wants any");
    let work = |tx: &WriteTx| {
        tx.wake(|wake| {
            wake.pushers.insert(user(1));
        });
        Ok(tx.next_pos())
    };
    store.write(work).await.expect("writes");
    let (mut told, mut upto) = (BTreeSet::new(), 0);
    for room in 2..50 {
        let pos = happens(&store, room).await;
        if room % 7 == 0 {
            settle(&notifier, &store).await;
            let news = notifier.news();
            assert!(news.upto >= pos && news.upto >= upto, "all up to there is in it");
            (upto, told) = (news.upto, told.union(&news.wake.rooms).copied().collect());
            assert!((2..=room).all(|room| told.contains(&room)));
        }
    }
}
