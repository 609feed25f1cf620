//! What the journal promises: whatever was acknowledged is there after a crash, and nothing else.

use std::{
    fs,
    ops::{Bound, RangeBounds},
};

use tempfile::TempDir;

use super::*;

/// What a job changes: letters for devices, which have keys of three parts and rows of any length.
#[derive(Clone, Debug)]
enum Edit {
    Put(&'static str, u64, usize),
    Remove(&'static str, u64),
    RemoveRange(&'static str, Bound<u64>, Bound<u64>),
}

type Rows = BTreeMap<(&'static str, u64), String>;

const PEOPLE: [&str; 3] = ["@a:x", "@a:x.org", "@b:x"];

fn an_edit() -> impl Strategy<Value = Edit> {
    let person = || prop::sample::select(PEOPLE.to_vec());
    let bound = || prop_oneof![(0u64..20).prop_map(Bound::Included), (0u64..20).prop_map(Bound::Excluded)];
    prop_oneof![
        6 => (person(), 0u64..20, 0usize..2000).prop_map(|(who, at, size)| Edit::Put(who, at, size)),
        2 => (person(), 0u64..20).prop_map(|(who, at)| Edit::Remove(who, at)),
        1 => (person(), bound(), bound()).prop_map(|(who, from, to)| Edit::RemoveRange(who, from, to)),
    ]
}

/// Whether a range is one: redb and `BTreeMap` refuse others.
fn is_range(from: Bound<u64>, to: Bound<u64>) -> bool {
    match (from, to) {
        (Bound::Excluded(from), Bound::Excluded(to)) => from < to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from <= to,
        _ => true,
    }
}

fn apply(tx: &WriteTx, edit: &Edit) -> Result<()> {
    match *edit {
        Edit::Put(who, at, size) => tables::TO_DEVICE.put(tx, (who, "", at), &text(at, size)),
        Edit::Remove(who, at) => tables::TO_DEVICE.remove(tx, (who, "", at)).map(drop),
        Edit::RemoveRange(who, from, to) if is_range(from, to) => {
            let key = |at| (who, "", at);
            tables::TO_DEVICE.remove_range(tx, (from.map(key), to.map(key)))
        }
        Edit::RemoveRange(..) => Ok(()),
    }
}

fn apply_to_model(rows: &mut Rows, edit: &Edit) {
    match *edit {
        Edit::Put(who, at, size) => drop(rows.insert((who, at), text(at, size))),
        Edit::Remove(who, at) => drop(rows.remove(&(who, at))),
        Edit::RemoveRange(who, from, to) if is_range(from, to) => {
            rows.retain(|(whose, at), _| *whose != who || !(from, to).contains(at));
        }
        Edit::RemoveRange(..) => {}
    }
}

fn text(at: u64, size: usize) -> String {
    format!("{at} {}", "x".repeat(size))
}

fn rows(store: &Store) -> Rows {
    let own = |who: &str| PEOPLE.into_iter().find(|person| *person == who).expect("one of these");
    let row = |(who, _, at): (&str, &str, u64), text| ((own(who), at), text);
    let found = store.read(|tx| tables::TO_DEVICE.collect(tx, ("", "", 0).., row)).expect("reads");
    found.into_iter().collect()
}

async fn change(store: &Store, edits: Vec<Edit>) {
    let work = move |tx: &WriteTx| edits.iter().try_for_each(|edit| apply(tx, edit));
    store.write(work).await.expect("written");
}

async fn put(store: &Store, at: u64, size: usize) {
    change(store, vec![Edit::Put(PEOPLE[0], at, size)]).await;
}

/// What a server that is killed now leaves behind.
fn killed(dir: &TempDir) -> TempDir {
    let left = tempfile::tempdir().expect("a directory");
    for entry in fs::read_dir(dir.path()).expect("a directory") {
        let entry = entry.expect("a file");
        fs::copy(entry.path(), left.path().join(entry.file_name())).expect("copied");
    }
    left
}

fn journal_of(dir: &TempDir) -> std::path::PathBuf {
    dir.path().join("hearth.journal")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Killed after any commit, several times, it has all that was acknowledged; so it has after a clean stop.
    #[test]
    fn after_each_crash_all_that_was_acknowledged_is_there(
        lives in prop::collection::vec((prop::collection::vec(prop::collection::vec(an_edit(), 1..6), 0..8), any::<bool>()), 1..4),
    ) {
        runtime().block_on(async {
            let (mut dir, mut model) = (tempfile::tempdir().expect("a directory"), Rows::new());
            for (jobs, cleanly) in lives {
                let store = open(dir.path());
                for edits in jobs {
                    edits.iter().for_each(|edit| apply_to_model(&mut model, edit));
                    change(&store, edits).await;
                }
                let left = killed(&dir);
                store.close().await;
                dir = if cleanly { dir } else { left };
                let again = open(dir.path());
                assert_eq!(rows(&again), model);
                again.close().await;
            }
        });
    }

    /// A frame that did not get to the disk whole, or that was damaged, ends what is done once more: there is
    /// what was acknowledged before it, wherever the damage is.
    #[test]
    fn what_comes_after_a_damaged_place_is_left_out(
        jobs in prop::collection::vec(prop::collection::vec(an_edit(), 1..4), 2..10),
        place in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        runtime().block_on(async {
            let dir = tempfile::tempdir().expect("a directory");
            let store = open(dir.path());
            // The first commit goes to the database.
            put(&store, 0, 10).await;
            let mut states = vec![rows(&store)];
            let mut ends = vec![0];
            for edits in jobs {
                change(&store, edits).await;
                states.push(rows(&store));
                ends.push(used(&fs::read(journal_of(&dir)).expect("read")));
            }
            let left = killed(&dir);
            let mut bytes = fs::read(journal_of(&left)).expect("read");
            let place = place.index(*ends.last().expect("some"));
            bytes[place] ^= 1 << bit;
            fs::write(journal_of(&left), bytes).expect("written");
            let whole = ends.iter().rposition(|end| *end <= place).expect("the first");
            assert_eq!(rows(&open(left.path())), states[whole]);
        });
    }

    /// Changes that are there already may be done once more.
    #[test]
    fn a_record_may_be_done_more_than_once(jobs in prop::collection::vec(prop::collection::vec(an_edit(), 1..6), 1..8)) {
        runtime().block_on(async {
            let dir = tempfile::tempdir().expect("a directory");
            let store = open(dir.path());
            put(&store, 0, 10).await;
            for edits in jobs {
                change(&store, edits).await;
            }
            let left = killed(&dir);
            let before = rows(&store);
            store.close().await;
            // The database as it is at the end, in the epoch of its journal.
            let epoch = epoch_in(&left);
            fs::copy(dir.path().join("hearth.redb"), left.path().join("hearth.redb")).expect("copied");
            write_epoch(&left, epoch);
            assert_eq!(rows(&open(left.path())), before);
        });
    }
}

/// Jobs with rows that are large now and then, so that the journal gets full and records get too large for it.
fn large_and_small() -> impl Strategy<Value = Vec<Vec<Edit>>> {
    let large = (0u64..20, 1_000_000usize..2_500_000).prop_map(|(at, size)| Edit::Put(PEOPLE[0], at, size));
    prop::collection::vec(prop::collection::vec(prop_oneof![3 => an_edit(), 2 => large], 1..4), 1..10)
}

/// Does jobs until one fails, or all of them. Answers what may be there in the end: what was acknowledged, and
/// each job that failed or not.
async fn what_may_be(store: &Store, jobs: &[Vec<Edit>], goes_on: bool) -> Vec<Rows> {
    let mut possible = vec![Rows::new()];
    for edits in jobs {
        let (all, mut after) = (edits.clone(), possible.clone());
        after.iter_mut().for_each(|rows| edits.iter().for_each(|edit| apply_to_model(rows, edit)));
        match store.write(move |tx| all.iter().try_for_each(|edit| apply(tx, edit))).await {
            Ok(()) => possible = after,
            Err(_) => {
                possible.extend(after);
                if !goes_on {
                    break;
                }
            }
        }
    }
    possible
}

fn open_on(disk: &disk::Disk) -> Result<Store, String> {
    let options = Options { page_cache: 1 << 20, state_cache: 1 << 20, min_free: 0 };
    Store::open_at(Box::new(disk.clone()), options, Box::new(|_, _| {}))
}

/// How many steps of the disk jobs take.
async fn steps_of(jobs: &[Vec<Edit>]) -> usize {
    let disk = disk::Disk::new(disk::Fails::Never);
    let store = open_on(&disk).expect("opens");
    what_may_be(&store, jobs, false).await;
    store.close().await;
    disk.steps()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// The power goes at any step, and of what was not flushed any part is on the disk: all that was acknowledged
    /// is there, and of the job under way all or nothing.
    #[test]
    fn after_the_power_was_gone_all_that_was_acknowledged_is_there(
        jobs in large_and_small(),
        step in any::<prop::sample::Index>(),
        dice in any::<u64>(),
        chance in prop::sample::select(vec![0u64, 64, 192, 256]),
    ) {
        runtime().block_on(async {
            let disk = disk::Disk::new(disk::Fails::From(1 + step.index(steps_of(&jobs).await)));
            let mut possible = vec![Rows::new()];
            if let Ok(store) = open_on(&disk) {
                possible = what_may_be(&store, &jobs, false).await;
                store.close().await;
            }
            let store = open_on(&disk.after_the_power_was_gone(dice, chance)).expect("opens");
            let found = rows(&store);
            assert!(possible.contains(&found), "{} rows, none of {} states", found.len(), possible.len());
        });
    }

    /// One step of the disk fails: who is under way is told, what was acknowledged is there, and it goes on.
    #[test]
    fn after_a_step_of_the_disk_failed_it_goes_on(jobs in large_and_small(), step in any::<prop::sample::Index>()) {
        runtime().block_on(async {
            let disk = disk::Disk::new(disk::Fails::At(1 + step.index(steps_of(&jobs).await)));
            let Ok(store) = open_on(&disk) else { return };
            let possible = what_may_be(&store, &jobs, true).await;
            let found = rows(&store);
            assert!(possible.contains(&found), "{} rows, none of {} states", found.len(), possible.len());
            // The step may have been yet to come.
            let one_more = || store.write(|tx| apply(tx, &Edit::Put("@b:x", 99, 1)));
            if one_more().await.is_err() {
                one_more().await.expect("goes on");
            }
            let again = open_on(&disk.after_the_power_was_gone(0, 0)).expect("opens");
            assert_eq!(rows(&again), rows(&store));
        });
    }
}

/// Bytes of the frames from the start of a journal whose rest is zeros.
fn used(journal: &[u8]) -> usize {
    let mut at = 0;
    while let Some(head) = journal.get(at..at + 24).filter(|head| head.iter().any(|byte| *byte != 0)) {
        at += 24 + u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    }
    at
}

fn epoch_in(dir: &TempDir) -> u64 {
    let database = redb::Database::create(dir.path().join("hearth.redb")).expect("opens");
    let tx = redb::ReadableDatabase::begin_read(&database).expect("begins");
    let table = tx.open_table(tables::COUNTERS.declared.definition).expect("opens");
    let row = redb::ReadableTable::get(&table, "journal").expect("reads").expect("there");
    <u64 as rows::Row>::decode(row.value()).expect("a number")
}

fn write_epoch(dir: &TempDir, epoch: u64) {
    let database = redb::Database::create(dir.path().join("hearth.redb")).expect("opens");
    let tx = database.begin_write().expect("begins");
    let row = rows::Row::encode(&epoch).expect("encodes");
    tx.open_table(tables::COUNTERS.declared.definition).expect("opens").insert("journal", &*row).expect("inserts");
    tx.commit().expect("commits");
}

#[tokio::test]
async fn the_journal_begins_anew_when_it_is_full_and_stays_small() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    let mut epochs = std::collections::BTreeSet::new();
    for number in 0..60 {
        put(&store, number % 20, 600_000).await;
        epochs.insert(store.read(|tx| tables::COUNTERS.get(tx, "journal")).expect("reads"));
        assert!(fs::metadata(journal_of(&dir)).expect("there").len() < 10 << 20);
    }
    // Some 36 MB went through it.
    assert!((4..7).contains(&epochs.len()), "{epochs:?}");
    let again = open(killed(&dir).path());
    assert_eq!(rows(&again), rows(&store));
}

#[tokio::test]
async fn what_is_too_much_for_the_journal_goes_to_the_database() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    put(&store, 0, 10).await;
    put(&store, 1, 10).await;
    change(&store, (2..20).map(|at| Edit::Put(PEOPLE[1], at, 1_000_000)).collect()).await;
    assert!(fs::metadata(journal_of(&dir)).expect("there").len() <= 1 << 20);
    let again = open(killed(&dir).path());
    assert_eq!(rows(&again), rows(&store));
    assert_eq!(rows(&again).len(), 20);
}

#[tokio::test]
async fn a_database_without_its_journal_is_refused_with_advice() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    put(&store, 1, 10).await;
    put(&store, 2, 10).await;
    let left = killed(&dir);
    fs::remove_file(journal_of(&left)).expect("removed");
    let options = Options { page_cache: 1 << 20, state_cache: 1 << 20, min_free: 0 };
    let path = left.path().join("hearth.redb");
    let error = Store::open(&path, options, Box::new(|_, _| {})).err().expect("refused");
    assert!(error.contains("hearth.journal is missing") && error.contains("empty file"), "{error}");
    // By the advice, it is as it was when the epoch began.
    fs::write(journal_of(&left), "").expect("written");
    assert_eq!(rows(&open(left.path())).len(), 1);
}

#[tokio::test]
async fn after_a_clean_stop_the_database_stands_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    put(&store, 1, 10).await;
    put(&store, 2, 10).await;
    store.close().await;
    assert_eq!(fs::metadata(journal_of(&dir)).expect("there").len(), 0);
    fs::remove_file(journal_of(&dir)).expect("removed");
    assert_eq!(rows(&open(dir.path())).len(), 2);
}

#[tokio::test]
async fn a_copy_needs_no_journal_and_takes_nothing_from_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    put(&store, 1, 10).await;
    put(&store, 2, 10).await;
    let copy = tempfile::tempdir().expect("a directory");
    store.read(|tx| tx.copy_to(&copy.path().join("hearth.redb"), &|| true)).expect("copied");
    put(&store, 3, 10).await;
    // Somebody puts it back where the server was killed.
    fs::copy(journal_of(&killed(&dir)), journal_of(&copy)).expect("copied");
    assert_eq!(rows(&open(copy.path())).len(), 2);
}

#[tokio::test]
async fn jobs_that_change_nothing_write_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    put(&store, 1, 10).await;
    put(&store, 2, 10).await;
    let before = used(&fs::read(journal_of(&dir)).expect("read"));
    for _ in 0..5 {
        store.write(|tx| tables::TO_DEVICE.has(tx, (PEOPLE[0], "", 1))).await.expect("looked");
        store.write(|_| Err::<(), _>(Error::forbidden("no"))).await.expect_err("refused");
    }
    assert_eq!(used(&fs::read(journal_of(&dir)).expect("read")), before);
}
