//! Push rules: the server's default rules with what somebody made of them, and their own. They are
//! account data of the type `m.push_rules`, so that sessions hear of changes as of any account data;
//! only defaults that were never touched are not stored. Evaluating them is `rooms/unread.rs`.
//! spec: client-server-api#push-rules

use ruma::{
    UInt, UserId,
    push::{
        Action, AnyPushRuleRef, ConditionalPushRule, ConditionalPushRuleInit, EventMatchConditionData, NewPushRule,
        PushCondition, RemovePushRuleError, RoomMemberCountConditionData, RoomMemberCountIs, RuleKind,
        RuleNotFoundError, Ruleset, SoundTweakValue, Tweak,
    },
};
use serde_json::{Value, json};

use crate::{
    accounts::account_data,
    error::{Error, Result},
    store::{Read, WriteTx},
};

/// The account data type.
pub const TYPE: &str = "m.push_rules";
/// Rules of an account at most, the defaults included.
const MAX_RULES: usize = 1000;
/// Bytes of a rule's ID at most.
const MAX_ID: usize = 255;
/// People in a room of two.
const TWO: u32 = 2;
const KINDS: [&str; 5] = ["override", "content", "room", "sender", "underride"];

/// Somebody's rules, with the defaults of this version of the server.
pub fn of(tx: &impl Read, user: &UserId) -> Result<Ruleset> {
    #[derive(serde::Deserialize)]
    struct Stored {
        global: Ruleset,
    }
    let defaults = defaults(user);
    let Some(json) = account_data::get(tx, user, "", TYPE)? else { return Ok(defaults) };
    let mut rules = serde_json::from_str::<Stored>(&json).map_err(Error::internal)?.global;
    rules.update_with_server_default(defaults);
    Ok(rules)
}

/// The rules that everybody has: those of the spec, and that polls and their ends are told like messages, but not each
/// answer to them. spec: MSC3930, under its unstable names
fn defaults(user: &UserId) -> Ruleset {
    let mut rules = Ruleset::server_default(user);
    let rule = |name: &str, kind: &str, alone: bool, actions: Vec<Action>| {
        let is_kind = PushCondition::EventMatch(EventMatchConditionData::new(
            "type".to_owned(),
            format!("org.matrix.msc3381.poll.{kind}"),
        ));
        let of_two =
            PushCondition::RoomMemberCount(RoomMemberCountConditionData::new(RoomMemberCountIs::from(UInt::from(TWO))));
        ConditionalPushRule::from(ConditionalPushRuleInit {
            actions,
            default: true,
            enabled: true,
            rule_id: format!(".org.matrix.msc3930.rule.poll_{name}"),
            conditions: if alone { vec![of_two, is_kind] } else { vec![is_kind] },
        })
    };
    rules.override_.insert(rule("response", "response", false, Vec::new()));
    for kind in ["start", "end"] {
        let aloud = vec![Action::Notify, Action::SetTweak(Tweak::Sound(SoundTweakValue::Default))];
        rules.underride.insert(rule(&format!("{kind}_one_to_one"), kind, true, aloud));
        rules.underride.insert(rule(kind, kind, false, vec![Action::Notify]));
    }
    rules
}

/// The content of `m.push_rules` as clients see it, with every kind of rule even if it has none.
pub fn content(rules: &Ruleset) -> Result<Value> {
    let mut global = serde_json::to_value(rules).map_err(Error::internal)?;
    if let Value::Object(kinds) = &mut global {
        for kind in KINDS {
            kinds.entry(kind).or_insert_with(|| json!([]));
        }
    }
    Ok(json!({ "global": global }))
}

/// Changes somebody's rules, and tells their sessions.
pub fn change(tx: &WriteTx, user: &UserId, edit: impl FnOnce(&mut Ruleset) -> Result<()>) -> Result<()> {
    let mut rules = of(tx, user)?;
    edit(&mut rules)?;
    if rules.iter().count() > MAX_RULES {
        return Err(Error::forbidden_as("M_RESOURCE_LIMIT_EXCEEDED", "there are too many push rules already"));
    }
    account_data::set(tx, user, "", TYPE, content(&rules)?.to_string())
}

/// One rule. 404 `M_NOT_FOUND` if there is none.
pub fn find<'a>(rules: &'a Ruleset, kind: &RuleKind, id: &str) -> Result<AnyPushRuleRef<'a>> {
    rules.get(kind.clone(), id).ok_or_else(missing)
}

/// Adds a rule or changes the one of the same ID, which stays enabled or disabled as it was. Without
/// `after` and `before` a new rule becomes the most important of its kind that is the user's own.
pub fn put(rules: &mut Ruleset, rule: NewPushRule, after: Option<&str>, before: Option<&str>) -> Result<()> {
    let (kind, id) = (rule.kind(), rule.rule_id().to_owned());
    if id.is_empty() || id.len() > MAX_ID {
        return Err(Error::invalid_param(format!("a rule's ID has 1 to {MAX_ID} bytes")));
    }
    let known = rules.get(kind.clone(), &id).map(|rule| rule.enabled());
    if known.is_some() && (after.is_some() || before.is_some()) {
        // Put in anew at the place that is asked for, so that places are counted without the old one.
        rules.remove(kind.clone(), &id).map_err(unremovable)?;
    }
    rules.insert(rule, after, before).map_err(|error| match error {
        ruma::push::InsertPushRuleError::UnknownRuleId => Error::unknown("before/after rule not found"),
        error => Error::invalid_param(error.to_string()),
    })?;
    match known {
        Some(enabled) => enable(rules, &kind, &id, enabled),
        None => Ok(()),
    }
}

/// Removes one of the user's own rules.
pub fn remove(rules: &mut Ruleset, kind: &RuleKind, id: &str) -> Result<()> {
    rules.remove(kind.clone(), id).map_err(unremovable)
}

/// Turns a rule on or off.
pub fn enable(rules: &mut Ruleset, kind: &RuleKind, id: &str, enabled: bool) -> Result<()> {
    rules.set_enabled(kind.clone(), id, enabled).map_err(|RuleNotFoundError { .. }| missing())
}

/// Gives a rule other actions.
pub fn act(rules: &mut Ruleset, kind: &RuleKind, id: &str, actions: Vec<Action>) -> Result<()> {
    rules.set_actions(kind.clone(), id, actions).map_err(|RuleNotFoundError { .. }| missing())
}

fn missing() -> Error {
    Error::not_found("there is no such push rule")
}

fn unremovable(error: RemovePushRuleError) -> Error {
    match error {
        RemovePushRuleError::NotFound => missing(),
        error => Error::invalid_param(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use ruma::{
        push::{NewConditionalPushRule, NewPatternedPushRule},
        user_id,
    };

    use super::*;
    use crate::accounts::testing;

    fn rules() -> Ruleset {
        Ruleset::server_default(user_id!("@alice:b.c"))
    }

    fn content_rule(id: &str) -> NewPushRule {
        NewPushRule::Content(NewPatternedPushRule::new(id.into(), "cake".into(), vec![Action::Notify]))
    }

    fn order(rules: &Ruleset) -> Vec<&str> {
        rules.content.iter().map(|rule| &*rule.rule_id).collect()
    }

    #[test]
    fn rules_stand_where_they_were_put() {
        let mut rules = rules();
        for id in ["a", "b", "c"] {
            put(&mut rules, content_rule(id), None, None).expect("adds");
        }
        assert_eq!(order(&rules), ["c", "b", "a"], "a new rule is the most important");
        put(&mut rules, content_rule("c"), Some("a"), None).expect("moves to the end");
        assert_eq!(order(&rules), ["b", "a", "c"]);
        put(&mut rules, content_rule("c"), None, Some("a")).expect("moves");
        assert_eq!(order(&rules), ["b", "c", "a"]);
        put(&mut rules, content_rule("a"), None, None).expect("changes and stays");
        assert_eq!(order(&rules), ["b", "c", "a"]);
        put(&mut rules, content_rule("d"), Some("b"), Some("c")).expect("goes between");
        assert_eq!(order(&rules), ["b", "d", "c", "a"]);
        let unknown = put(&mut rules.clone(), content_rule("e"), Some("z"), None).expect_err("unknown");
        assert_eq!(unknown.errcode(), "M_UNKNOWN");
        for (id, after) in [(".e", None), ("e/f", None), ("e\\f", None), ("", None), ("e", Some(".m.rule.master"))] {
            assert!(put(&mut rules.clone(), content_rule(id), after, None).is_err(), "{id:?}");
        }
    }

    #[test]
    fn the_master_rule_stays_first_and_the_defaults_last() {
        let mut rules = rules();
        let own = NewConditionalPushRule::new("own".into(), vec![], vec![]);
        put(&mut rules, NewPushRule::Override(own), None, None).expect("adds");
        let ids: Vec<_> = rules.override_.iter().take(3).map(|rule| &*rule.rule_id).collect();
        assert_eq!(ids, [".m.rule.master", "own", ".m.rule.suppress_notices"]);
    }

    #[test]
    fn changing_a_rule_leaves_it_on_or_off() {
        let mut rules = rules();
        put(&mut rules, content_rule("a"), None, None).expect("adds");
        put(&mut rules, content_rule("b"), None, None).expect("adds");
        enable(&mut rules, &RuleKind::Content, "a", false).expect("turns off");
        put(&mut rules, content_rule("a"), None, Some("b")).expect("moves");
        assert!(!find(&rules, &RuleKind::Content, "a").expect("there").enabled());
        let error = remove(&mut rules, &RuleKind::Override, ".m.rule.master").expect_err("a default");
        assert_eq!(error.status().as_u16(), 400);
        assert_eq!(remove(&mut rules, &RuleKind::Room, "!r:b.c").expect_err("none").status().as_u16(), 404);
        remove(&mut rules, &RuleKind::Content, "a").expect("removes");
        assert!(find(&rules, &RuleKind::Content, "a").is_err());
        assert!(enable(&mut rules, &RuleKind::Content, "a", true).is_err());
        assert!(act(&mut rules, &RuleKind::Content, "a", vec![]).is_err());
    }

    #[tokio::test]
    async fn a_change_is_kept_and_is_account_data() {
        let (_dir, store) = testing::store();
        let alice = user_id!("@alice:b.c");
        let mute = |rules: &mut Ruleset| enable(rules, &RuleKind::Override, ".m.rule.master", true);
        store.write(move |tx| change(tx, alice, mute)).await.expect("changes");
        let rules = store.read(|tx| of(tx, alice)).expect("reads");
        assert!(find(&rules, &RuleKind::Override, ".m.rule.master").expect("there").enabled());
        let changed = store.read(|tx| account_data::changes(tx, alice, 0, 9)).expect("reads");
        assert_eq!(changed[0].kind, TYPE);
        let content: Value = serde_json::from_str(&changed[0].json).expect("JSON");
        assert_eq!(content["global"]["room"], json!([]));
        let untouched = store.read(|tx| of(tx, user_id!("@bob:b.c"))).expect("reads");
        assert!(!find(&untouched, &RuleKind::Override, ".m.rule.master").expect("there").enabled());
    }
}
