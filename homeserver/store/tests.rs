//! The store's promises: order, no trace of failures, disks that are full, files of others.

use std::sync::{Arc, Mutex};

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
    let engine = Engine::open(&newer, options).expect("made");
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
    let engine = Arc::new(Engine::open(&dir.path().join("hearth.redb"), options).expect("made"));
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
