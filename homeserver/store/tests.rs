//! The store's promises: order, no trace of failures, disks that are full, files of others.

mod crashes;
mod disk;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use proptest::prelude::*;

use super::*;
use crate::base::Pos;

fn open(dir: &Path) -> Store {
    let options = Options { page_cache: 1 << 20, state_cache: 1 << 20, min_free: 0 };
    Store::open(&dir.join("hearth.redb"), options, Box::new(|_, _| {})).expect("opens")
}

#[tokio::test]
async fn failing_jobs_leave_no_trace_and_spare_their_neighbours() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    let mut jobs = tokio::task::JoinSet::new();
    for n in 0..200u64 {
        let store = store.clone();
        jobs.spawn(async move {
            let work = move |tx: &WriteTx| {
                tables::PUBLIC_ROOMS.put(tx, n, &())?;
                match n % 10 {
                    3 => Err(Error::forbidden("no")),
                    7 => panic!("oh"),
                    _ => Ok(n),
                }
            };
            store.write(work).await.is_ok() == !matches!(n % 10, 3 | 7)
        });
    }
    assert!(jobs.join_all().await.into_iter().all(|as_wanted| as_wanted));
    let kept = store.read(|tx| tables::PUBLIC_ROOMS.collect(tx, 0.., |room, ()| room)).expect("reads");
    assert_eq!(kept, (0..200).filter(|n| !matches!(n % 10, 3 | 7)).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_was_answered_reads_what_they_wrote_however_many_read_beside_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    let mut readers = tokio::task::JoinSet::new();
    for n in 0..8u64 {
        let store = store.clone();
        readers.spawn(async move {
            for round in 1..=50u64 {
                store.write(move |tx| tables::MEDIA_FILES.put(tx, n.to_string().as_str(), &round)).await?;
                let read = store.read(|tx| tables::MEDIA_FILES.get(tx, n.to_string().as_str()))?;
                assert_eq!(read, Some(round));
            }
            Ok::<_, Error>(())
        });
    }
    for outcome in readers.join_all().await {
        outcome.expect("writes and reads");
    }
}

#[tokio::test]
async fn a_file_from_before_a_table_gains_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("hearth.redb");
    let store = open(dir.path());
    store.write(|tx| tables::MEDIA_FILES.put(tx, "kept", &7)).await.expect("writes");
    store.close().await;
    {
        let database = redb::Database::open(&path).expect("opens");
        let tx = database.begin_write().expect("begins");
        assert!(tx.delete_table(tables::PUBLIC_ROOMS.declared.definition).expect("deletes"));
        tx.commit().expect("commits");
    }
    let store = open(dir.path());
    assert_eq!(store.read(|tx| tables::PUBLIC_ROOMS.len(tx)).expect("reads"), 0);
    assert_eq!(store.read(|tx| tables::MEDIA_FILES.get(tx, "kept")).expect("reads"), Some(7));
}

#[tokio::test]
async fn positions_go_on_after_a_restart_and_failures_take_none() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    assert_eq!(store.write(|tx| Ok(tx.next_pos())).await.expect("writes"), 1);
    let failed: Result<()> = store.write(|tx| Err(Error::forbidden(tx.next_pos().to_string()))).await;
    assert!(failed.is_err());
    drop(store);
    let store = loop {
        let options = Options { page_cache: 1 << 20, state_cache: 1 << 20, min_free: 0 };
        if let Ok(store) = Store::open(&dir.path().join("hearth.redb"), options, Box::new(|_, _| {})) {
            break store;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(store.write(|tx| Ok(tx.next_pos())).await.expect("writes"), 2);
}

#[tokio::test]
async fn waiters_hear_of_what_is_committed_and_of_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let heard = Arc::new(Mutex::new(Vec::new()));
    let log = heard.clone();
    let on_commit: OnCommit = Box::new(move |wake, pos| log.lock().expect("unpoisoned").push((wake.rooms, pos)));
    let options = Options { page_cache: 1 << 20, state_cache: 1 << 20, min_free: 0 };
    let store = Store::open(&dir.path().join("hearth.redb"), options, on_commit).expect("opens");
    let wake = |tx: &WriteTx, room| {
        tx.wake(|wake| {
            wake.rooms.insert(room);
        })
    };
    let kept = store.write(move |tx| {
        wake(tx, 5);
        Ok(tx.next_pos())
    });
    kept.await.expect("writes");
    let failed = store.write(move |tx| {
        wake(tx, 6);
        Err::<(), _>(Error::forbidden("no"))
    });
    assert!(failed.await.is_err());
    let heard = heard.lock().expect("unpoisoned");
    assert_eq!(heard[0], ([5].into(), 1));
    assert!(heard.iter().all(|(rooms, _)| !rooms.contains(&6)));
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_serves_reads() {
    let dir = tempfile::tempdir().expect("a directory");
    drop(open(dir.path()).write(|tx| tables::PUBLIC_ROOMS.put(tx, 1, &())).await);
    let path = dir.path().join("full.redb");
    let options = Options { page_cache: 1 << 20, state_cache: 1 << 20, min_free: u64::MAX };
    let store = Store::open(&path, options, Box::new(|_, _| {})).expect("opens");
    let refused = store.write(|tx| tables::PUBLIC_ROOMS.put(tx, 1, &())).await.expect_err("no room");
    assert_eq!(refused.status().as_u16(), 503);
    assert!(!store.read(|tx| tables::PUBLIC_ROOMS.has(tx, 1)).expect("reads"));
}

#[tokio::test]
async fn a_file_of_an_earlier_schema_is_brought_up_to_date_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("hearth.redb");
    let options = Options { page_cache: 1 << 20, state_cache: 1 << 16, min_free: 0 };
    let open = || Store::open(&path, options, Box::new(|_, _| {})).expect("opens");
    let store = open();
    store.write(|tx| tables::COUNTERS.put(tx, "schema", &1)).await.expect("written");
    store.close().await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    for _ in 0..2 {
        let (store, asked) = (open(), asked.clone());
        let upgrade = move |_: &WriteTx, schema| {
            asked.lock().expect("unpoisoned").push(schema);
            Ok(())
        };
        store.upgrade(upgrade).await.expect("upgraded");
        store.close().await;
    }
    assert_eq!(*asked.lock().expect("unpoisoned"), [1]);
}

#[test]
fn a_foreign_file_and_a_newer_schema_are_refused_with_advice() {
    let dir = tempfile::tempdir().expect("a directory");
    let foreign = dir.path().join("foreign.redb");
    let other = redb::TableDefinition::<&str, u64>::new("other");
    let database = redb::Database::create(&foreign).expect("made");
    let tx = database.begin_write().expect("begins");
    tx.open_table(other).expect("opens").insert("x", 1).expect("inserts");
    tx.commit().expect("commits");
    drop(database);
    let options = Options { page_cache: 1 << 20, state_cache: 1 << 20, min_free: 0 };
    let error = Store::open(&foreign, options, Box::new(|_, _| {})).err().expect("refused");
    assert!(error.contains("not made by Hearth"), "{error}");

    let newer = dir.path().join("newer.redb");
    let engine = Engine::open(Box::new(Files::new(&newer)), options).expect("made");
    let tx = engine.begin_write(0).expect("begins");
    tables::COUNTERS.put(&tx, "schema", &99).expect("puts");
    tx.redb.commit().expect("commits");
    drop(engine);
    let error = Store::open(&newer, options, Box::new(|_, _| {})).err().expect("refused");
    assert!(error.contains("schema 99"), "{error}");
}

#[tokio::test]
async fn closing_does_what_is_queued_and_refuses_the_rest() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    let mut jobs = tokio::task::JoinSet::new();
    for n in 0..50u64 {
        let store = store.clone();
        jobs.spawn(async move { (n, store.write(move |tx| tables::PUBLIC_ROOMS.put(tx, n, &())).await.is_ok()) });
    }
    tokio::task::yield_now().await;
    store.close().await;
    store.close().await;
    let mut kept: Vec<u64> = jobs.join_all().await.into_iter().filter_map(|(n, kept)| kept.then_some(n)).collect();
    kept.sort_unstable();
    let late = store.write(|tx| tables::PUBLIC_ROOMS.put(tx, 99, &())).await.expect_err("closed");
    assert_eq!(late.status().as_u16(), 503);
    let again = open(dir.path());
    let mut found = again.read(|tx| tables::PUBLIC_ROOMS.collect(tx, 0.., |room, ()| room)).expect("reads");
    found.sort_unstable();
    assert_eq!(found, kept);
}

#[tokio::test]
async fn a_database_belongs_to_one_server_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    store.claim("a.example").await.expect("new");
    store.claim("a.example").await.expect("the same");
    let error = store.claim("b.example").await.expect_err("another's");
    assert!(error.contains("a.example"), "{error}");
}

/// A commit whose last step failed may be in the file all the same: its positions are not given twice.
#[test]
fn after_a_failed_commit_the_file_says_where_it_stands() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options { page_cache: 1 << 20, state_cache: 1 << 20, min_free: 0 };
    let engine = Arc::new(Engine::open(Box::new(Files::new(&dir.path().join("hearth.redb"))), options).expect("made"));
    let tx = engine.begin_write(0).expect("begins");
    tables::COUNTERS.put(&tx, "pos", &5).expect("puts");
    tx.redb.commit().expect("commits");
    let heard = Arc::new(Mutex::new(Vec::new()));
    let log = heard.clone();
    let on_commit: OnCommit = Box::new(move |wake, pos| log.lock().expect("unpoisoned").push((wake.anew, pos)));
    let (jobs, queue) = mpsc::channel(1);
    let (reply, answer) = oneshot::channel();
    let work = |tx: &WriteTx| Ok::<Pos, Error>(tx.next_pos());
    let job = writer::Task { work, outcome: None, reply };
    assert!(jobs.try_send(Box::new(job) as Box<dyn writer::Job>).is_ok());
    drop(jobs);
    let (ended, _) = tokio::sync::watch::channel(());
    let writer = writer::Writer { engine, jobs: queue, on_commit, pos: 0, space_checked: None, reopened: true, ended };
    writer.run();
    assert_eq!(answer.blocking_recv().expect("answered").expect("written"), 6_u64);
    assert_eq!(*heard.lock().expect("unpoisoned"), [(true, 5), (false, 6)]);
}

/// Letters that user IDs and types have, and some that sort at the ends.
const PART: &str = "[@:a-c.x!\u{0}\u{7f}é\u{10FFFF}]{0,4}";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Keys lie in the order of their components, one after the other, and numbers in that of numbers,
    /// whatever their bytes: so ranges hold what they name.
    #[test]
    fn keys_are_ordered_component_by_component(
        texts in prop::collection::btree_set((PART, PART, any::<u64>(), PART), 1..20),
        numbers in prop::collection::btree_set((any::<u64>(), any::<i64>()), 1..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let dir = tempfile::tempdir().expect("a directory");
        let store = open(dir.path());
        let work = move |tx: &WriteTx| {
            for (one, two, number, three) in texts.iter().rev() {
                tables::ACCOUNT_DATA.put(tx, (&**one, &**two, &**three), &rows::Dated { pos: *number, json: String::new() })?;
                tables::TO_DEVICE.put(tx, (&**one, &**two, *number), &String::new())?;
            }
            for (room, order) in numbers.iter().rev() {
                tables::TIMELINE.put(tx, (*room, *order), &rows::Place { event: 0, state_after: 0 })?;
            }
            let own = |one: &str, two: &str| (one.to_owned(), two.to_owned());
            let found = tables::TO_DEVICE.collect(tx, ("", "", 0).., |(one, two, at), _| (own(one, two), at))?;
            let wanted: BTreeMap<_, _> = texts.iter().map(|(one, two, at, _)| ((own(one, two), *at), ())).collect();
            assert_eq!(found, wanted.into_keys().collect::<Vec<_>>());
            let found = tables::ACCOUNT_DATA.collect(tx, ("", "", "").., |(one, two, three), _| (own(one, two), three.to_owned()))?;
            let wanted: BTreeMap<_, _> = texts.iter().map(|(one, two, _, three)| ((own(one, two), three.clone()), ())).collect();
            assert_eq!(found, wanted.into_keys().collect::<Vec<_>>());
            let found = tables::TIMELINE.collect(tx, (0, i64::MIN).., |key, _| key)?;
            assert_eq!(found, numbers.iter().copied().collect::<Vec<_>>());
            Ok(())
        };
        runtime.block_on(store.write(work)).expect("holds");
    }

    /// The ranges that the house uses: all of a user's rows, all of a user's and device's, and a room's
    /// places between two orders. Whoever's ID begins like another's stays apart.
    #[test]
    fn ranges_hold_what_they_name_and_nothing_of_neighbours(
        rows in prop::collection::btree_set((
            prop::sample::select(vec!["@a:x", "@a:x.org", "@a:x:1", "@a:", "@a:w", "@a:y", "@aa:x", "@a:x\u{0}", "@a:x\u{10FFFF}"]),
            prop::sample::select(vec!["", "D", "DE", "D\u{0}", "C", "\u{10FFFF}x", &LAST[..252], "é"]),
            prop_oneof![Just(0), Just(u64::MAX), any::<u64>()],
        ), 0..60),
        places in prop::collection::btree_set((0u64..3, -5i64..5), 0..30),
        (after, upto) in (-6i64..6, -6i64..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let dir = tempfile::tempdir().expect("a directory");
        let store = open(dir.path());
        let work = move |tx: &WriteTx| {
            for (user, device, pos) in &rows {
                tables::TO_DEVICE.put(tx, (*user, *device, *pos), &String::new())?;
                tables::DEVICE_KEYS.put(tx, (*user, *device), &String::new())?;
            }
            for (room, order) in &places {
                tables::TIMELINE.put(tx, (*room, *order), &rows::Place { event: 0, state_after: 0 })?;
            }
            for user in rows.iter().map(|(user, ..)| *user) {
                let keys = tables::DEVICE_KEYS.collect(tx, (user, "")..=(user, LAST), |(user, device), _| (user.to_owned(), device.to_owned()))?;
                let own: std::collections::BTreeSet<_> = rows.iter().filter(|row| row.0 == user).map(|row| (user.to_owned(), row.1.to_owned())).collect();
                assert_eq!(keys, own.into_iter().collect::<Vec<_>>());
            }
            for (user, device, _) in &rows {
                let queue = tables::TO_DEVICE.collect(tx, (*user, *device, 0)..=(*user, *device, u64::MAX), |key, _| key.2)?;
                let own = rows.iter().filter(|row| (row.0, row.1) == (*user, *device)).map(|row| row.2);
                assert_eq!(queue, own.collect::<Vec<_>>());
            }
            if after < upto {
                let found = tables::TIMELINE.collect(tx, (1, after + 1)..=(1, upto), |(_, order), _| order)?;
                let own = places.iter().filter(|(room, order)| *room == 1 && (after + 1..=upto).contains(order));
                assert_eq!(found, own.map(|(_, order)| *order).collect::<Vec<_>>());
            }
            if let Some((user, device, _)) = rows.first() {
                tables::TO_DEVICE.remove_range(tx, (*user, *device, 0)..=(*user, *device, u64::MAX))?;
                let left = rows.iter().filter(|row| (row.0, row.1) != (*user, *device)).count();
                assert_eq!(tables::TO_DEVICE.len(tx)?, left as u64);
            }
            Ok(())
        };
        runtime.block_on(store.write(work)).expect("holds");
    }
}
