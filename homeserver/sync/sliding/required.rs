//! Which state a client wants of a room: pairs of type and state key, with `*` for any, `$ME` for the
//! person and `$LAZY` for the members who sent what is shown.

use std::collections::BTreeSet;

/// The type of memberships.
const MEMBER: &str = "m.room.member";
/// Any.
const ANY: &str = "*";

/// State that is wanted, from all the rules that a room falls under.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Required {
    pairs: BTreeSet<(String, String)>,
    /// Members as they are needed.
    pub lazy: bool,
    /// All members.
    pub all_members: bool,
}

impl Required {
    /// What one rule wants.
    pub fn new(pairs: &[(String, String)]) -> Self {
        let is = |pair: &(String, String), kind: &str, key: &str| pair.0 == kind && pair.1 == key;
        let lazy = pairs.iter().any(|pair| is(pair, MEMBER, "$LAZY"));
        // Beside `$LAZY`, all state is all but members.
        let all_members =
            pairs.iter().any(|pair| is(pair, MEMBER, ANY)) || (!lazy && pairs.iter().any(|pair| is(pair, ANY, ANY)));
        let others = pairs.iter().filter(|pair| !is(pair, MEMBER, "$LAZY")).cloned();
        Self { pairs: others.collect(), lazy: lazy && !all_members, all_members }
    }

    /// Adds what another rule wants.
    pub fn add(&mut self, other: &Self) {
        self.pairs.extend(other.pairs.iter().cloned());
        self.all_members |= other.all_members;
        self.lazy = (self.lazy || other.lazy) && !self.all_members;
    }

    /// Whether a state event is wanted whoever sent what is shown.
    pub fn wants(&self, kind: &str, key: &str, me: &str) -> bool {
        if kind == MEMBER && self.all_members {
            return true;
        }
        let has = |kind: &str, key: &str| {
            // Looked up as borrowed text would need a key of the same form.
            self.pairs.iter().any(|pair| pair.0 == kind && pair.1 == key)
        };
        let exact = has(kind, key) || has(ANY, key) || (key == me && (has(kind, "$ME") || has(ANY, "$ME")));
        exact || (kind != MEMBER && (has(kind, ANY) || has(ANY, ANY)))
    }

    /// The keys that are wanted by name: (type, state key).
    pub fn named<'a>(&'a self, me: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let named = self.pairs.iter().filter(|(kind, key)| kind != ANY && key != ANY);
        named.map(move |(kind, key)| (kind.as_str(), if key == "$ME" { me } else { key.as_str() }))
    }

    /// Whether there are wildcards, so that all state but members has to be looked through.
    pub fn has_wildcards(&self) -> bool {
        self.pairs.iter().any(|(kind, key)| kind == ANY || (key == ANY && kind != MEMBER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: &str = "@me:x";

    fn required(pairs: &[(&str, &str)]) -> Required {
        let pairs: Vec<_> = pairs.iter().map(|(kind, key)| ((*kind).to_owned(), (*key).to_owned())).collect();
        Required::new(&pairs)
    }

    #[test]
    fn pairs_wildcards_and_the_person_themselves() {
        let some = required(&[("m.room.name", ""), ("m.space.child", "*"), (MEMBER, "$ME"), ("*", "k")]);
        assert!(some.wants("m.room.name", "", ME) && some.wants("m.space.child", "!r", ME));
        assert!(some.wants(MEMBER, ME, ME) && !some.wants(MEMBER, "@you:x", ME));
        assert!(some.wants("any", "k", ME) && !some.wants("m.room.name", "x", ME));
        assert!(some.has_wildcards() && !required(&[(MEMBER, "*")]).has_wildcards());
        assert_eq!(required(&[(MEMBER, "$ME")]).named(ME).collect::<Vec<_>>(), [(MEMBER, ME)]);
    }

    #[test]
    fn all_state_beside_lazy_members_is_all_but_members() {
        let lazy = required(&[("*", "*"), (MEMBER, "$LAZY")]);
        assert!(lazy.wants("m.room.topic", "", ME) && !lazy.wants(MEMBER, "@you:x", ME) && lazy.lazy);
        let all = required(&[("*", "*")]);
        assert!(all.wants(MEMBER, "@you:x", ME));
        let mut both = lazy.clone();
        both.add(&all);
        assert!(both.all_members && !both.lazy, "all members are more than some");
        let mut two = required(&[(MEMBER, "$LAZY")]);
        two.add(&required(&[("m.room.name", "")]));
        assert!(two.lazy && two.wants("m.room.name", "", ME));
    }
}
