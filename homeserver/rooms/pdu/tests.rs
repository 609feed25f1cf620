//! Events from outside, as good and as bad as they come.

use ruma::{CanonicalJsonObject, RoomVersionId, ServerName, signatures::hash_and_sign_event};
use serde_json::{Value, json};

use super::*;
use crate::base::signing::SigningKey;

/// Keys by server and ID.
pub type PublicKeys = BTreeMap<OwnedServerName, BTreeMap<String, PublicKey>>;

impl KnownKeys for PublicKeys {
    fn key(&self, server: &ServerName, id: &str, _: u64) -> Option<&PublicKey> {
        self.get(server)?.get(id)
    }
}

impl Parsed {
    /// The same for one event.
    pub fn verify(self, keys: &impl KnownKeys, rules: &RoomVersionRules) -> Result<Checked> {
        verify(vec![self], keys, rules).remove(0)
    }
}

/// The key of one server.
pub fn keys_of(server: &ServerName, key: &SigningKey) -> PublicKeys {
    let public = PublicKey::new(key.public()).expect("a key");
    [(server.to_owned(), [(key.id().to_string(), public)].into())].into()
}

struct Signer {
    name: OwnedServerName,
    key: SigningKey,
    _dir: tempfile::TempDir,
}

impl Signer {
    fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let key = SigningKey::load_or_create(&dir.path().join("key")).expect("a key");
        Self { name: ServerName::parse(name).expect("a name"), key, _dir: dir }
    }

    fn sign(&self, event: &Value, version: &RoomVersionId) -> Value {
        let mut object: CanonicalJsonObject = serde_json::from_value(event.clone()).expect("canonical");
        let rules = version.rules().expect("known");
        hash_and_sign_event(self.name.as_str(), &self.key, &mut object, &rules.redaction).expect("signs");
        serde_json::to_value(object).expect("JSON")
    }

    fn keys(&self) -> PublicKeys {
        keys_of(&self.name, &self.key)
    }
}

fn event() -> Value {
    json!({
        "type": "m.room.message", "sender": "@a:one.test", "room_id": "!r:one.test", "content": { "body": "hello" },
        "prev_events": ["$prev"], "auth_events": ["$auth"], "depth": 3, "origin_server_ts": 1_700_000_000_000u64,
    })
}

fn raw(event: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(event).expect("JSON")
}

fn read(event: &Value, version: &RoomVersionId) -> Result<Parsed> {
    parse(&raw(event), &version.rules().expect("known"))
}

#[test]
fn a_signed_event_passes_in_every_version_and_a_changed_one_is_emptied() {
    let one = Signer::new("one.test");
    for version in crate::rooms::room::VERSIONS {
        let rules = version.rules().expect("known");
        let signed = one.sign(&event(), &version);
        let parsed = read(&signed, &version).expect("well-formed");
        assert_eq!(parsed.signers(&rules).keys().collect::<Vec<_>>(), [&one.name]);
        let good = parsed.verify(&one.keys(), &rules).expect("signed");
        assert!(good.json().contains("hello"));
        let mut changed = signed.clone();
        changed["content"]["body"] = json!("goodbye");
        let emptied = read(&changed, &version).expect("well-formed").verify(&one.keys(), &rules).expect("signed");
        assert_eq!(emptied.id(), good.id(), "the content is no part of the ID");
        assert!(!emptied.json().contains("goodbye") && !emptied.json().contains("hello"));
        let mut moved = signed.clone();
        moved["depth"] = json!(4);
        assert!(read(&moved, &version).expect("well-formed").verify(&one.keys(), &rules).is_err());
    }
}

#[test]
fn what_is_signed_is_what_redaction_leaves() {
    let contents = [
        json!({ "membership": "join", "displayname": "x", "third_party_invite": { "signed": { "a": 1 }, "b": 2 } }),
        json!({ "users": { "@a:one.test": 100 }, "events": {}, "invite": 50, "else": [1, { "b": 2 }] }),
        json!({ "creator": "@a:one.test", "room_version": "x", "m.federate": false, "allow": [], "join_rule": "y" }),
        json!({ "third_party_invite": "odd", "aliases": ["#a:b"], "history_visibility": 3, "redacts": "$x", "deny": [] }),
        json!({}),
    ];
    let kinds = ["m.room.member", "m.room.power_levels", "m.room.create", "m.room.join_rules", "m.room.aliases"];
    let others = ["m.room.history_visibility", "m.room.redaction", "m.room.server_acl", "m.room.message", ""];
    for (kind, content) in kinds.iter().chain(&others).flat_map(|kind| contents.iter().map(move |each| (kind, each))) {
        let mut event = event();
        (event["type"], event["content"], event["state_key"]) = (json!(kind), content.clone(), json!(""));
        (event["unsigned"], event["origin"], event["else"]) =
            (json!({ "age": 1 }), json!("one.test"), json!({ "a": 1 }));
        (event["hashes"], event["signatures"]) =
            (json!({ "sha256": "x" }), json!({ "one.test": { "ed25519:1": "y" } }));
        let object: CanonicalJsonObject = serde_json::from_value(event).expect("canonical");
        for version in crate::rooms::room::VERSIONS {
            let rules = version.rules().expect("known");
            let mut redacted = object.clone();
            redact_in_place(&mut redacted, &rules.redaction, None).expect("redacts");
            let left = signed_json::signed_part(&redacted).expect("JSON");
            assert_eq!(signed_part(&object, &rules).expect("JSON"), left, "{kind} {version}");
        }
    }
}

/// Signatures of many are checked together: whichever is wrong, it is the event's that carries it.
#[test]
fn of_many_events_each_is_judged_by_its_own_signatures() {
    let (one, two) = (Signer::new("one.test"), Signer::new("two.test"));
    let version = RoomVersionId::V11;
    let rules = version.rules().expect("known");
    let mut join = event();
    (join["type"], join["state_key"]) = (json!("m.room.member"), json!("@a:one.test"));
    join["content"] = json!({ "membership": "join", "join_authorised_via_users_server": "@b:two.test" });
    let bent = |event: &Value, server: &str| {
        let mut bent = event.clone();
        for signature in bent["signatures"][server].as_object_mut().expect("signed").values_mut() {
            *signature = json!(format!("{}AA", "A".repeat(84)));
        }
        bent
    };
    let plain = one.sign(&event(), &version);
    let both = two.sign(&one.sign(&join, &version), &version);
    let kinds = [
        (plain.clone(), true),
        (bent(&plain, "one.test"), false),
        (both.clone(), true),
        (bent(&both, "one.test"), false),
        (bent(&both, "two.test"), false),
        (one.sign(&join, &version), false),
        (two.sign(&event(), &version), false),
    ];
    let mut keys = one.keys();
    keys.extend(two.keys());
    // Every kind comes after every other, and after itself.
    let order = (0..kinds.len()).flat_map(|first| (0..kinds.len()).flat_map(move |second| [first, second]));
    let (events, wanted): (Vec<Parsed>, Vec<bool>) =
        order.map(|kind| (read(&kinds[kind].0, &version).expect("well-formed"), kinds[kind].1)).unzip();
    let ids: Vec<OwnedEventId> = events.iter().map(|event| event.id().to_owned()).collect();
    for ((checked, id), wanted) in verify(events, &keys, &rules).into_iter().zip(ids).zip(wanted) {
        assert_eq!(checked.map(|event| event.id() == id).unwrap_or_default(), wanted);
    }
}

#[test]
fn who_has_to_sign_has_to_sign() {
    let (one, two) = (Signer::new("one.test"), Signer::new("two.test"));
    let version = RoomVersionId::V11;
    let rules = version.rules().expect("known");
    let signed = two.sign(&event(), &version);
    assert!(read(&signed, &version).expect("well-formed").verify(&two.keys(), &rules).is_err());
    let mut stranger = one.keys();
    stranger.insert(one.name.clone(), two.keys().remove(&two.name).expect("there"));
    let signed = one.sign(&event(), &version);
    assert!(read(&signed, &version).expect("well-formed").verify(&stranger, &rules).is_err());
    assert!(read(&signed, &version).expect("well-formed").verify(&PublicKeys::new(), &rules).is_err());

    let mut join = event();
    join["type"] = json!("m.room.member");
    join["state_key"] = json!("@a:one.test");
    join["content"] = json!({ "membership": "join", "join_authorised_via_users_server": "@b:two.test" });
    let signed = one.sign(&join, &version);
    let mut all = one.keys();
    all.extend(two.keys());
    assert!(read(&signed, &version).expect("well-formed").verify(&all, &rules).is_err());
    let both = two.sign(&signed, &version);
    read(&both, &version).expect("well-formed").verify(&all, &rules).expect("both have signed");
    // Before restricted rooms the content said nothing.
    let before = one.sign(&join, &RoomVersionId::V7);
    let rules = RoomVersionId::V7.rules().expect("known");
    read(&before, &RoomVersionId::V7).expect("well-formed").verify(&one.keys(), &rules).expect("signed");
}

#[test]
fn what_is_known_beforehand_is_what_it_is_checked_by() {
    let (one, two) = (Signer::new("one.test"), Signer::new("two.test"));
    let mut join = event();
    (join["type"], join["state_key"]) = (json!("m.room.member"), json!("@a:one.test"));
    join["content"] = json!({ "membership": "join", "join_authorised_via_users_server": "@b:two.test" });
    let mut invite = join.clone();
    invite["content"] = json!({ "membership": "invite", "third_party_invite": {} });
    for version in [RoomVersionId::V7, RoomVersionId::V11] {
        let rules = version.rules().expect("known");
        for event in [event(), join.clone(), invite.clone()] {
            let mut signed = two.sign(&one.sign(&event, &version), &version);
            // What others put there is no reason to look for no keys.
            signed["signatures"]["three.test"] = json!("odd");
            let outline = outline(&raw(&signed), &rules).expect("an event");
            let parsed = read(&signed, &version).expect("well-formed");
            assert_eq!(outline.signers, parsed.signers(&rules), "{signed}");
            assert_eq!(outline.sent, u64::from(parsed.pdu().origin_server_ts.get()));
            assert_eq!(outline.depth, parsed.pdu().depth);
        }
    }
}

#[test]
fn a_later_bad_signature_is_not_covered_by_a_good_one() {
    let one = Signer::new("one.test");
    let other = Signer::new("one.test");
    let version = RoomVersionId::V11;
    let mut signed = one.sign(&event(), &version);
    let mut keys = one.keys();
    keys.entry(one.name.clone()).or_default().extend(other.keys().remove(&one.name).expect("there"));
    let good = signed["signatures"]["one.test"][one.key.id().to_string()].clone();
    signed["signatures"]["one.test"][other.key.id().to_string()] = good;
    let rules = version.rules().expect("known");
    assert!(read(&signed, &version).expect("well-formed").verify(&keys, &rules).is_err());
    // A key that nobody knows is passed over.
    read(&signed, &version).expect("well-formed").verify(&one.keys(), &rules).expect("one is enough");
}

#[test]
fn malformed_events_are_no_events() {
    let one = Signer::new("one.test");
    let version = RoomVersionId::V11;
    let bad = |name: &str, value: Value| {
        let mut event = one.sign(&event(), &version);
        event[name] = value;
        assert!(read(&event, &version).is_err(), "{name}");
    };
    bad("type", json!("x".repeat(256)));
    bad("type", json!(1));
    bad("state_key", json!("x".repeat(256)));
    bad("state_key", json!(null));
    bad("sender", json!("nobody"));
    bad("room_id", json!("room"));
    bad("depth", json!(-1));
    bad("depth", json!(1.5));
    bad("depth", json!(1u64 << 53));
    bad("depth", json!("1"));
    bad("origin_server_ts", json!(null));
    bad("prev_events", json!(vec!["$x"; 21]));
    bad("auth_events", json!(vec!["$x"; 11]));
    bad("prev_events", json!(["x"]));
    bad("prev_events", json!([["$x", {}]]));
    bad("content", json!([]));
    bad("content", json!({ "n": 1.0 }));
    bad("content", json!({ "body": "x".repeat(MAX_EVENT) }));
    bad("hashes", json!(null));
    bad("signatures", json!([]));
    for name in ["type", "sender", "room_id", "depth", "origin_server_ts", "content", "prev_events", "auth_events"] {
        let mut event = one.sign(&event(), &version);
        event.as_object_mut().expect("an object").remove(name);
        assert!(read(&event, &version).is_err(), "without {name}");
    }
    let parse = |text: String| parse(&RawValue::from_string(text).expect("JSON"), &version.rules().expect("known"));
    let signed = one.sign(&event(), &version).to_string();
    parse(signed.clone()).expect("good");
    assert!(parse(signed.replacen('{', "{\"depth\":3,", 1)).is_err(), "a key twice");
    assert!(parse(signed.replacen("\"hello\"", "{\"a\":1,\"\\u0061\":1}", 1)).is_err(), "a key twice, deeper");
    assert!(parse(signed.replacen("\"hello\"", &("[".repeat(101) + &"]".repeat(101)), 1)).is_err(), "too deep");
    assert!(parse(signed.replacen('{', &format!("{{{}", " ".repeat(MAX_TEXT)), 1)).is_err(), "too long");
}

#[test]
fn the_size_is_counted_with_signatures_and_without_unsigned() {
    let one = Signer::new("one.test");
    let version = RoomVersionId::V11;
    let mut wish = event();
    wish["content"]["body"] = json!("");
    let room = MAX_EVENT - one.sign(&wish, &version).to_string().len();
    wish["content"]["body"] = json!("x".repeat(room));
    let mut largest = one.sign(&wish, &version);
    largest["unsigned"] = json!({ "age": 1, "prev_content": "y".repeat(1000) });
    let parsed = read(&largest, &version).expect("just fits");
    let checked = parsed.verify(&one.keys(), &version.rules().expect("known")).expect("signed");
    assert_eq!(checked.json().len(), MAX_EVENT);
    assert!(!checked.json().contains("unsigned"));
    wish["content"]["body"] = json!("x".repeat(room + 1));
    assert!(read(&one.sign(&wish, &version), &version).is_err());
}

#[test]
fn a_create_event_of_version_twelve_names_its_room_by_itself() {
    let one = Signer::new("one.test");
    let mut create = event();
    create["type"] = json!("m.room.create");
    create["state_key"] = json!("");
    create.as_object_mut().expect("an object").remove("room_id");
    let version = RoomVersionId::V12;
    let parsed = read(&one.sign(&create, &version), &version).expect("well-formed");
    assert_eq!(parsed.room_id().as_str()[1..], parsed.id().as_str()[1..]);
    assert!(read(&one.sign(&create, &RoomVersionId::V11), &RoomVersionId::V11).is_err());
}
