//! A room that was entered before all of its members were known ends as one that was whole from the beginning.

use proptest::prelude::*;

use super::{
    agreement::{PEOPLE, Step, chain, draft, grow, steps},
    *,
};
use crate::rooms::{
    event,
    joining::{self, Told},
    members, partial,
    second_look::{self, Went},
};

/// What happens once zoe has come in.
#[derive(Clone, Debug)]
struct Later {
    step: Step,
    /// Which earlier state its sender goes by.
    old: Option<prop::sample::Index>,
}

fn later() -> impl Strategy<Value = Vec<Later>> {
    let one = |step| {
        let old = prop::option::of(any::<prop::sample::Index>());
        old.prop_map(move |old| Later { step: Step::clone(&step), old })
    };
    steps().prop_flat_map(move |steps| steps.into_iter().map(one).collect::<Vec<_>>())
}

/// A history: the events before the join, the join, and those after it in the order of their coming.
struct History {
    id: OwnedRoomId,
    join: String,
    later: Vec<String>,
}

fn arrival(event: &Checked) -> Arrival<'_> {
    Arrival { event, state_before: None, outgoing: false, unvouched: false }
}

/// Zoe comes into a room, and people go on there: some of them by what they were before. None if nobody lets zoe in.
fn go_on(tx: &WriteTx, me: &Identity, id: &OwnedRoomId, steps: &[Later]) -> Result<Option<History>> {
    let mut room = Room::named(tx, id)?;
    let mut positions = Vec::new();
    tables::EVENTS.scan(tx, 0.., |pos, row| {
        if row.room == room.num && row.state_before != 0 {
            positions.push(pos);
        }
        Ok(crate::store::Flow::Next)
    })?;
    let mut states = positions.into_iter().map(|pos| event::state_after(tx, pos)).collect::<Result<Vec<Overlay>>>()?;
    let zoe = user("zoe");
    let come = Draft::state_of(TimelineEventType::RoomMember, zoe.as_str(), &json!({ "membership": "join" }))?;
    let Ok(signed) = draft::sign(tx, me, &room, &zoe, &come) else { return Ok(None) };
    let join = check(me, &signed.json, &room.rules());
    let Verdict::Is(_, Standing::Accepted) = accept(tx, &mut room, arrival(&join))? else { return Ok(None) };
    let mut known = vec![join.id().to_string()];
    let mut out = Vec::new();
    for (count, Later { step, old }) in steps.iter().enumerate() {
        let mut on: Vec<String> = step.on.iter().map(|index| known[index.index(known.len())].clone()).collect();
        if step.straight {
            on = known.last().cloned().into_iter().collect();
        }
        on.sort();
        on.dedup();
        let (mut room, mut before) = (Room::named(tx, id)?, Vec::new());
        let mut fork = room.clone();
        fork.row.extremities.clear();
        for id in on {
            let pos = tables::EVENT_IDS.get(tx, id.as_str())?.expect("known");
            before.push(event::state_after(tx, pos)?);
            fork.row.extremities.push((pos, id));
        }
        let Outcome::Resolved(mut state) = resolve::resolve(tx, &room.rules(), &before, None, OUTSIDE)? else {
            panic!("too heavy");
        };
        if let Some(old) = old {
            state = old.get(&states).clone();
        }
        fork.row.state = state.store(tx, 0)?;
        let who = user(PEOPLE[step.who]);
        let draft = draft(tx, &fork, &who, &step.act, 1_000 + count)?;
        let Ok(signed) = draft::sign(tx, me, &fork, &who, &draft) else { continue };
        let checked = check(me, &signed.json, &room.rules());
        let Verdict::Is(pos, _) = accept(tx, &mut room, arrival(&checked))? else { panic!("it lacks nothing") };
        states.push(event::state_after(tx, pos)?);
        known.push(checked.id().to_string());
        out.push(signed.json);
    }
    Ok(Some(History { id: id.clone(), join: signed.json, later: out }))
}

/// Of each event after the join what became of it and the states around it, by names; and the room's present.
type Outcomes = BTreeMap<String, (String, Vec<BTreeMap<(String, String), String>>)>;

fn outcomes(tx: &impl Read, room: &Room, later: &[String], me: &Identity) -> Result<Outcomes> {
    let mut out = Outcomes::new();
    for json in later {
        let pos = event::position(tx, check(me, json, &room.rules()).id())?.expect("known");
        let row = event::row(tx, pos)?;
        let is_shown = match row.place(pos) {
            Some(order) => tables::TIMELINE.get(tx, (room.num, order))?.is_some_and(|place| place.event == pos),
            None => false,
        };
        assert_eq!(is_shown, row.standing == Standing::Accepted);
        let states = vec![named(tx, &Overlay::of(row.state_before))?, named(tx, &event::state_after(tx, pos)?)?];
        out.insert(row.id, (format!("{:?}", row.standing), states));
    }
    let mut ends: Vec<String> = room.row.extremities.iter().map(|(_, id)| id.clone()).collect();
    ends.sort();
    let now = named(tx, &Overlay::of(room.row.state))?;
    let mut people = BTreeMap::new();
    for ((kind, key), id) in &now {
        if kind == "m.room.member" {
            let row = members::of(tx, room.num, <&UserId>::try_from(key.as_str()).expect("an ID"))?;
            people.insert((kind.clone(), key.clone()), row.expect("in the index").membership);
            assert_eq!(
                event::row(
                    tx,
                    members::of(tx, room.num, <&UserId>::try_from(key.as_str()).expect("an ID"))?.expect("there").event
                )?
                .id,
                *id
            );
        }
    }
    out.insert("now".to_owned(), (ends.join(" "), vec![now, people]));
    Ok(out)
}

/// What a server gives to who comes in: the state before the join, and what allows it, each after what it cites.
fn given(tx: &impl Read, room: &Room, join: &str, me: &Identity) -> Result<(Vec<String>, Vec<joining::Entry>)> {
    let pos = event::position(tx, check(me, join, &room.rules()).id())?.expect("known");
    let (mut ids, mut entries) = (Vec::new(), Vec::new());
    for (key, at) in Overlay::of(event::row(tx, pos)?.state_before).all(tx)? {
        let id = event::parse_id(&event::row(tx, at)?.id)?;
        ids.push(id.clone());
        entries.push((state::key_name(tx, key)?, Some(id)));
    }
    let mut positions: Vec<Pos> =
        chain(tx, ids)?.iter().map(|id| Ok(event::position(tx, id)?.expect("known"))).collect::<Result<_>>()?;
    positions.sort_unstable();
    let events = positions.into_iter().map(|pos| Ok(event::row(tx, pos)?.pdu)).collect::<Result<_>>()?;
    Ok((events, entries))
}

/// The same, checked.
fn told(me: &Identity, room: &Room, (events, entries): (&[String], &[joining::Entry])) -> Vec<Told> {
    let state: HashSet<&OwnedEventId> = entries.iter().filter_map(|(_, id)| id.as_ref()).collect();
    let checked = events.iter().map(|json| check(me, json, &room.rules()));
    checked.map(|event| Told { in_state: state.contains(&event.id().to_owned()), event }).collect()
}

/// Enters the room without its members.
fn enter(
    tx: &WriteTx,
    me: &Identity,
    (history, version): (&History, &RoomVersionId),
    (events, entries): &(Vec<String>, Vec<joining::Entry>),
) -> Result<Room> {
    let room = create::new_room(tx, &history.id, version)?;
    room.save(tx)?;
    joining::lay_events(tx, room.num, &told(me, &room, (events, entries)))?;
    let rest: Vec<_> = entries.iter().filter(|((kind, _), _)| kind != "m.room.member").cloned().collect();
    joining::lay_state(tx, room.num, &rest)?;
    let join = check(me, &history.join, &room.rules());
    let opening = partial::Opening { join: &join, members: &[], by: server_name!("test") };
    partial::open(tx, room.num, &opening)?;
    Room::at(tx, room.num)
}

/// Takes events in, with what allows them.
fn come(tx: &WriteTx, me: &Identity, num: crate::base::RoomNum, events: &[String], all: &[String]) -> Result<()> {
    for json in events {
        let mut room = Room::at(tx, num)?;
        let event = check(me, json, &room.rules());
        loop {
            match accept(tx, &mut room, arrival(&event))? {
                Verdict::Is(..) => break,
                Verdict::Lacks(Lacks::Auth(_)) => {
                    for other in all {
                        crate::rooms::outliers::keep(tx, &room, &check(me, other, &room.rules()))?;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }
    Ok(())
}

/// One step of the second look. False once it is over.
fn look(tx: &WriteTx, num: crate::base::RoomNum, ahead: bool) -> Result<bool> {
    if ahead && let Some(ahead) = second_look::ahead(tx, num)? {
        second_look::confirm(tx, num, &ahead)?;
    }
    match second_look::judge_some(tx, num, None)? {
        Went::On => Ok(true),
        Went::Over => Ok(false),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 200, ..ProptestConfig::with_cases(48) })]
    /// Whatever came while the members were not known, and while it was looked at again, forks and forbidden things
    /// among it: in the end it is what it had been if they had been known.
    #[test]
    fn in_the_end_it_is_as_if_the_room_had_been_whole(
        earlier in steps(),
        steps in later(),
        version in prop::sample::select(vec![RoomVersionId::V6, RoomVersionId::V11, RoomVersionId::V12]),
        (whole_after, part) in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        (meanwhile, ahead) in (0..4usize, any::<bool>()),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let one = House::new();
            let wanted = version.clone();
            let history = one.write(move |tx, me| {
                let id = grow(tx, me, &wanted, &earlier)?;
                go_on(tx, me, &id, &steps)
            }).await;
            let Some(history) = history else { return };
            let (told, before, whole) = one.store.read(|tx| {
                let room = Room::named(tx, &history.id)?;
                let told = given(tx, &room, &history.join, &one.me)?;
                Ok((told, events(tx, &room)?, outcomes(tx, &room, &history.later, &one.me)?))
            }).expect("reads");
            let other = one.other();
            let partly = other.write(move |tx, me| {
                let room = enter(tx, me, (&history, &version), &told)?;
                let num = room.num;
                let cut = whole_after.index(history.later.len() + 1);
                let (first, rest) = history.later.split_at(cut);
                come(tx, me, num, first, &before)?;
                let join = check(me, &history.join, &room.rules()).id().to_owned();
                let told = self::told(me, &room, (&told.0, &told.1));
                // Somebody told a part of it, and then what does not hold.
                partial::lay(tx, num, &join, &told[..part.index(told.len())])?;
                for piece in partial::laid(tx, num)?.chunks(2) {
                    partial::lay_off(tx, num, &join, piece)?;
                }
                assert!(partial::laid(tx, num)?.is_empty());
                for piece in told.chunks(3) {
                    partial::lay(tx, num, &join, piece)?;
                }
                partial::finish(tx, num, &join)?;
                for (index, json) in rest.iter().enumerate() {
                    if index < meanwhile {
                        look(tx, num, ahead)?;
                    }
                    come(tx, me, num, std::slice::from_ref(json), &before)?;
                }
                while look(tx, num, ahead)? {}
                assert_eq!(tables::CAME.len(tx)?, 0);
                outcomes(tx, &Room::at(tx, num)?, &history.later, me)
            }).await;
            assert_eq!(whole, partly);
        });
    }
}
