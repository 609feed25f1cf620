//! Servers that hold the same events agree, whatever people did and in whatever order it came.

use proptest::prelude::*;
use ruma::state_res::{self, StateMap, utils::event_id_set::EventIdSet};

use super::*;

/// The same by ruma alone, from whole states and whole auth chains.
pub(super) fn by_the_book(
    tx: &impl Read,
    room: &Room,
    states: &[Overlay],
) -> Result<BTreeMap<(String, String), String>> {
    let rules = room.rules();
    let (mut maps, mut chains) = (Vec::new(), Vec::new());
    for state in states {
        let mut map = StateMap::new();
        for ((kind, key), id) in named(tx, state)? {
            map.insert((StateEventType::from(kind), key), OwnedEventId::try_from(id).expect("an ID"));
        }
        chains.push(chain(tx, map.values().cloned())?.into_iter().collect::<EventIdSet<_>>());
        maps.push(map);
    }
    let resolved = state_res::resolve(
        &rules.authorization,
        rules.state_res.v2_rules().expect("version 2"),
        &maps,
        chains,
        |id| Pdu::find(tx, id).expect("reads"),
        |conflicted| {
            let ends: HashSet<OwnedEventId> = conflicted.values().flatten().cloned().collect();
            let mut out: HashSet<OwnedEventId> = HashSet::new();
            for end in &ends {
                for id in chain(tx, [end.clone()]).expect("reads") {
                    let below = chain(tx, [id.clone()]).expect("reads");
                    if below.iter().any(|below| ends.contains(below)) {
                        out.insert(id);
                    }
                }
            }
            Some(out.into_iter().collect())
        },
    );
    let resolved = resolved.expect("resolves");
    Ok(resolved.into_iter().map(|((kind, key), id)| ((kind.to_string(), key), id.to_string())).collect())
}

pub(super) fn chain(tx: &impl Read, from: impl IntoIterator<Item = OwnedEventId>) -> Result<HashSet<OwnedEventId>> {
    let (mut waiting, mut out): (Vec<_>, _) = (from.into_iter().collect(), HashSet::new());
    while let Some(id) = waiting.pop() {
        if out.insert(id.clone()) {
            waiting.extend(Pdu::find(tx, &id)?.expect("known").auth_events);
        }
    }
    Ok(out)
}

#[derive(Clone, Debug)]
pub(super) enum Act {
    Say,
    Topic,
    Join,
    Leave(usize),
    Ban(usize),
    JoinRule(bool),
    Level(usize, i64),
}

#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) who: usize,
    pub(super) act: Act,
    pub(super) on: Vec<prop::sample::Index>,
    /// Whether it comes on top of the newest only.
    pub(super) straight: bool,
}

pub(super) const PEOPLE: [&str; 4] = ["alice", "bob", "carol", "dave"];

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let act = prop_oneof![
        2 => Just(Act::Say),
        3 => Just(Act::Topic),
        2 => Just(Act::Join),
        2 => (0..4usize).prop_map(Act::Leave),
        2 => (0..4usize).prop_map(Act::Ban),
        1 => any::<bool>().prop_map(Act::JoinRule),
        3 => (1..4usize, prop_oneof![Just(0i64), Just(50), Just(100)]).prop_map(|(whom, level)| Act::Level(whom, level)),
    ];
    let step = (0..4usize, act, prop::collection::vec(any::<prop::sample::Index>(), 1..4), any::<bool>())
        .prop_map(|(who, act, on, straight)| Step { who, act, on, straight });
    prop::collection::vec(step, 1..30)
}

pub(super) fn draft(tx: &impl Read, room: &Room, who: &UserId, act: &Act, count: usize) -> Result<Draft> {
    let member = |whom: &UserId, membership: &str| {
        Draft::state_of(TimelineEventType::RoomMember, whom.as_str(), &json!({ "membership": membership, "n": count }))
    };
    match act {
        Act::Say => {
            let content = crate::base::json::to_raw(&json!({ "body": count.to_string() }))?;
            Ok(Draft::message(TimelineEventType::RoomMessage, content))
        }
        Act::Topic => Draft::state_of(TimelineEventType::RoomTopic, "", &json!({ "topic": count.to_string() })),
        Act::Join => member(who, "join"),
        Act::Leave(whom) => member(&user(PEOPLE[*whom]), "leave"),
        Act::Ban(whom) => member(&user(PEOPLE[*whom]), "ban"),
        Act::JoinRule(public) => {
            let rule = if *public { "public" } else { "invite" };
            Draft::state_of(TimelineEventType::RoomJoinRules, "", &json!({ "join_rule": rule }))
        }
        Act::Level(whom, level) => {
            let mut levels: Value = room.state_content(tx, &StateEventType::RoomPowerLevels)?.unwrap_or_default();
            levels["users"][user(PEOPLE[*whom]).as_str()] = json!(level);
            Draft::state_of(TimelineEventType::RoomPowerLevels, "", &levels)
        }
    }
}

/// Makes a room whose history forks and merges as the steps say, as far as its rules allow them; checks
/// each state against [`by_the_book`].
pub(super) fn grow(tx: &WriteTx, me: &Identity, version: &RoomVersionId, steps: &[Step]) -> Result<OwnedRoomId> {
    let id = create::create(tx, me, &user("alice"), &wish(version))?;
    let mut known: Vec<String> = Room::named(tx, &id)?.row.extremities.into_iter().map(|(_, id)| id).collect();
    for (count, step) in steps.iter().enumerate() {
        let mut on: Vec<String> = step.on.iter().map(|index| known[index.index(known.len())].clone()).collect();
        if step.straight {
            on = known.last().cloned().into_iter().collect();
        }
        on.sort();
        on.dedup();
        let mut room = Room::named(tx, &id)?;
        let mut fork = room.clone();
        let mut states = Vec::new();
        fork.row.extremities.clear();
        for id in on {
            let pos = tables::EVENT_IDS.get(tx, id.as_str())?.expect("known");
            states.push(event::state_after(tx, pos)?);
            fork.row.extremities.push((pos, id));
        }
        let Outcome::Resolved(state) = resolve::resolve(tx, &room.rules(), &states, None, OUTSIDE)? else {
            panic!("too heavy");
        };
        assert_eq!(named(tx, &state)?, by_the_book(tx, &room, &states)?);
        states.reverse();
        fork.row.state = state.store(tx, 0)?;
        let who = user(PEOPLE[step.who]);
        let draft = draft(tx, &fork, &who, &step.act, count)?;
        let Ok(signed) = draft::sign(tx, me, &fork, &who, &draft) else { continue };
        let checked = check(me, &signed.json, &room.rules());
        let arrival = Arrival { event: &checked, state_before: None, outgoing: false, unvouched: false };
        match accept(tx, &mut room, arrival)? {
            Verdict::Is(_, Standing::Accepted | Standing::SoftFailed) => known.push(checked.id().to_string()),
            other => panic!("{other:?}"),
        }
    }
    Ok(id)
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 200, ..ProptestConfig::with_cases(24) })]
    /// Servers that hold the same events agree on the state after each of them and on which are rejected, in
    /// whatever order they came; and what they agree on is what the algorithm gives without short cuts.
    #[test]
    fn servers_that_hold_the_same_events_agree(
        steps in steps(),
        version in prop::sample::select(vec![RoomVersionId::V6, RoomVersionId::V10, RoomVersionId::V11, RoomVersionId::V12]),
        seed in any::<u64>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let one = House::new();
            let (wanted, made) = (version.clone(), steps.clone());
            let id = one.write(move |tx, me| grow(tx, me, &wanted, &made)).await;
            let (all, first) = one.store.read(|tx| {
                let room = Room::named(tx, &id)?;
                Ok((events(tx, &room)?, seen(tx, &room)?))
            }).expect("reads");
            for turn in 0..2u64 {
                let mut order = all.clone();
                let mut random = seed.wrapping_add(turn) | 1;
                for at in (1..order.len()).rev() {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    order.swap(at, (random >> 33) as usize % (at + 1));
                }
                let (other, id, version) = (one.other(), id.clone(), version.clone());
                let second = other.write(move |tx, me| {
                    let room = take_in(tx, me, (&id, &version), &order)?;
                    seen(tx, &room)
                }).await;
                assert_eq!(first, second);
            }
        });
    }
}
