//! Queues, turns and waiting, without a database or a network.

use ruma::user_id;

use super::*;
use crate::accounts::testing::pusher;

fn alice() -> &'static UserId {
    user_id!("@alice:b.c")
}

fn row(pushkey: &str) -> PusherRow {
    pusher(pushkey, "PHONE")
}

fn desk() -> Desk {
    let mut desk = Desk::default();
    desk.set(alice(), vec![("one".into(), row("one"), PusherStateRow::default())], &[1, 2]);
    desk
}

fn notice(order: Pos, at: u64) -> Notice {
    Notice { room: 1, event: order, order, actions: Vec::new().into(), invite: false, at }
}

fn entry() -> PushedRow {
    PushedRow { at: 0, took: 0, outcome: Outcome::Failed, status: None, error: None, event: None }
}

fn fails(now: u64, refused: bool) -> Failed {
    Failed { now, entry: Some(entry()), refused, wait: None }
}

/// The orders of what is told until there is nothing more.
fn told(desk: &mut Desk, now: u64) -> Vec<Pos> {
    let mut out = Vec::new();
    for key in desk.take_ready(now) {
        while let Some(turn) = desk.turn(&key, now) {
            if let Work::Notice(notice) = &turn.work {
                out.push(notice.order);
            }
            desk.taken(&key, &turn.work, Some((Some(1), entry())));
        }
    }
    out
}

#[test]
fn a_pusher_is_told_in_order_and_one_thing_at_a_time() {
    let mut desk = desk();
    assert_eq!(desk.next_due(), None, "nothing to do");
    (1..4).for_each(|order| desk.add(alice(), &notice(order, 0), 0));
    let ready = desk.take_ready(0);
    assert_eq!(ready.len(), 1);
    desk.add(alice(), &notice(4, 0), 0);
    assert!(desk.take_ready(0).is_empty(), "it is busy");
    let turn = desk.turn(&ready[0], 0).expect("work");
    desk.taken(&ready[0], &turn.work, None);
    let turn = desk.turn(&ready[0], 0).expect("work");
    desk.failed(&ready[0], &turn.work, fails(0, false));
    assert_eq!(desk.next_due(), Some(FIRST_WAIT));
    desk.add(alice(), &notice(5, 0), 0);
    assert!(desk.take_ready(FIRST_WAIT - 1).is_empty(), "what is new changes nothing about waiting");
    assert_eq!(told(&mut desk, FIRST_WAIT), [2, 3, 4, 5]);
    assert!(desk.is_changed());
    let changes = desk.changes();
    assert_eq!((changes.len(), changes[0].state.told, changes[0].log.len()), (1, None, 5));
    assert!(!desk.is_changed());
}

#[test]
fn it_waits_longer_each_time_and_keeps_the_newest() {
    let mut desk = desk();
    let mut now = 0;
    desk.add(alice(), &notice(1, now), now);
    let mut waits = Vec::new();
    for _ in 0..20 {
        let key = desk.take_ready(now).pop().expect("ready");
        let turn = desk.turn(&key, now).expect("work");
        desk.failed(&key, &turn.work, fails(now, false));
        let due = desk.next_due().expect("later");
        waits.push(due - now);
        now = due;
        desk.add(alice(), &notice(now, now), now);
    }
    assert!(waits.is_sorted() && waits[19] == MAX_WAIT, "{waits:?}");
    let last = now;
    assert_eq!(told(&mut desk, now), [last], "after long, the newest alone");
    for order in 1..=100 {
        desk.add(alice(), &notice(last + order, now), now);
    }
    assert_eq!(told(&mut desk, now).len(), MAX_QUEUE);
    desk.add(alice(), &notice(last + 101, now), now);
    now += MAX_AGE + 1;
    assert!(told(&mut desk, now).is_empty(), "too old");
}

#[test]
fn what_is_refused_again_and_again_is_left_out() {
    let mut desk = desk();
    desk.add(alice(), &notice(1, 0), 0);
    desk.add(alice(), &notice(2, 0), 0);
    let mut now = 0;
    for _ in 0..MAX_REFUSALS {
        let key = desk.take_ready(now).pop().expect("ready");
        let turn = desk.turn(&key, now).expect("work");
        assert!(matches!(&turn.work, Work::Notice(notice) if notice.order == 1));
        desk.failed(&key, &turn.work, fails(now, true));
        now = desk.next_due().expect("later");
    }
    let changes = desk.changes();
    assert_eq!(changes[0].log.last().map(|entry| entry.outcome), Some(Outcome::Dropped));
    assert_eq!(changes[0].state.told, Some(1), "the second one still waits");
    assert_eq!(told(&mut desk, now), [2]);
}

#[test]
fn counts_are_told_when_they_may_have_changed() {
    let mut desk = desk();
    let number = desk.numbers[alice()];
    assert_eq!(desk.uncounted(number), None, "all of them");
    assert_eq!(desk.counted(number, vec![(1, 2), (2, 3)]), 5);
    desk.touch(alice(), 1);
    let key = desk.take_ready(0).pop().expect("ready");
    assert!(matches!(desk.turn(&key, 0), Some(Turn { work: Work::Badge, .. })));
    assert_eq!(desk.uncounted(number), Some(HashSet::from([1])));
    assert_eq!(desk.counted(number, vec![(1, 0)]), 3);
    desk.taken(&key, &Work::Badge, Some((Some(3), entry())));
    assert!(desk.turn(&key, 0).is_none());
    desk.place(alice(), 2, false);
    assert!(desk.audience(2).is_empty());
    assert_eq!(desk.audience(1), [alice().to_owned()]);
}

#[test]
fn pushers_come_and_go() {
    let mut desk = desk();
    desk.seen = 10;
    let both =
        || vec![("one".to_owned(), row("one"), Default::default()), ("two".to_owned(), row("two"), Default::default())];
    desk.set(alice(), both(), &[]);
    desk.add(alice(), &notice(5, 0), 0);
    assert_eq!(told(&mut desk, 0), [5], "the second one came after it");
    let mut off = both();
    off[0].1.disabled = true;
    desk.set(alice(), off, &[]);
    desk.add(alice(), &notice(11, 0), 0);
    assert_eq!(told(&mut desk, 0), [11], "one is off");
    desk.set(alice(), Vec::new(), &[]);
    assert!(!desk.knows(alice()) && desk.audience(1).is_empty());
    assert!(told(&mut desk, 0).is_empty());
}
