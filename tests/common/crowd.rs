//! A public room of very many people on a server of the test's own, which is entered as any other one: every
//! event of it is signed, hashed and allowed by the room's rules.

use std::sync::Arc;

use reqwest::Method;
use ruma::{CanonicalJsonObject, RoomVersionId, signatures::hash_and_sign_event};
use serde_json::{Value, json};

use super::{Answer, Asked, Peer, Says, Server, transaction};

const VERSION: RoomVersionId = RoomVersionId::V11;

/// The room. Its people are `@p0`, who made it, `@p1` and so on.
pub struct Crowd {
    /// Its server.
    pub peer: Peer,
    /// The room.
    pub room: String,
    /// Its state without memberships.
    pub state: Vec<Value>,
    /// Its memberships.
    pub members: Vec<Value>,
    /// Memberships that others have taken the place of.
    old: Vec<Value>,
    /// The IDs of all that is in its state.
    ids: Vec<String>,
    /// The create event, the power levels and the join rules.
    auth: [String; 3],
    /// The membership events' IDs.
    memberships: Vec<String>,
    /// The newest event.
    pub end: String,
    depth: u64,
}

impl Crowd {
    /// A room of `count` people. Its server answers as one that knows `omit_members`, and does not tell its
    /// state until [`Crowd::tells`].
    pub async fn gather(count: usize) -> Self {
        Self::gather_with(count, &[]).await
    }

    /// The same, where some may change what the room is called and what others have said.
    pub async fn gather_with(count: usize, moderators: &[usize]) -> Self {
        let peer = Peer::start().await;
        let room = format!("!crowd:{}", peer.name());
        let mut crowd = Self {
            peer,
            room,
            state: Vec::new(),
            members: Vec::new(),
            old: Vec::new(),
            ids: Vec::new(),
            auth: Default::default(),
            memberships: Vec::new(),
            end: String::new(),
            depth: 0,
        };
        let maker = crowd.person(0);
        let create = crowd.add("m.room.create", &maker, "", json!({"room_version": VERSION.as_str()}), &[]);
        let joined = json!({"membership": "join"});
        let own = crowd.add("m.room.member", &maker, &maker, joined.clone(), &[&create]);
        let mut levels = json!({"users": {maker.clone(): 100}});
        for number in moderators {
            levels["users"][crowd.person(*number)] = json!(50);
        }
        let levels = crowd.add("m.room.power_levels", &maker, "", levels, &[&create, &own]);
        let rule = json!({"join_rule": "public"});
        let rules = crowd.add("m.room.join_rules", &maker, "", rule, &[&create, &own, &levels]);
        crowd.add("m.room.name", &maker, "", json!({"name": "Crowd"}), &[&create, &own, &levels]);
        crowd.memberships.push(own);
        for number in 1..count {
            let who = crowd.person(number);
            let id = crowd.add("m.room.member", &who, &who, joined.clone(), &[&create, &levels, &rules]);
            crowd.memberships.push(id);
        }
        crowd.auth = [create, levels, rules];
        crowd.opens(true);
        crowd.peer.says(&crowd.path("v1/state/"), Says::Wait);
        let none = json!({"events": []});
        crowd.peer.says("/_matrix/federation/v1/get_missing_events/", Says::Json(200, none));
        crowd.peer.says("/_matrix/federation/v1/send/", Says::Json(200, json!({"pdus": {}})));
        crowd
    }

    fn path(&self, what: &str) -> String {
        format!("/_matrix/federation/{what}{}", self.room)
    }

    /// The ID of somebody in it.
    pub fn person(&self, number: usize) -> String {
        format!("@p{number}:{}", self.peer.name())
    }

    /// It turns out that the room has no name.
    pub fn is_nameless(&mut self) {
        let is_name = |event: &Value| event["type"] == "m.room.name";
        let place = self.state.iter().position(is_name).expect("it had one");
        self.state.remove(place);
        // After the maker's membership, which is not among the state.
        self.ids.remove(place + 1);
        self.opens(true);
    }

    /// What is told to a server of somebody who wants in.
    pub fn template(&self, user: &str) -> Value {
        // The join cites no membership of its own, as it is the sender's first.
        let event = json!({
            "type": "m.room.member", "room_id": self.room, "sender": user, "state_key": user,
            "content": {"membership": "join"}, "depth": self.depth + 1, "origin_server_ts": 1,
            "prev_events": [self.end], "auth_events": self.auth,
        });
        json!({"room_version": VERSION.as_str(), "event": event})
    }

    /// It answers to joins, with the members left out or all of it.
    pub fn opens(&self, omits: bool) {
        let template = self.template("");
        let answer = move |asked: &Asked| {
            let user = asked.uri.split('?').next().and_then(|path| path.rsplit('/').next());
            let mut template = template.clone();
            template["event"]["sender"] = json!(user);
            template["event"]["state_key"] = json!(user);
            (200, template)
        };
        self.peer.says(&self.path("v1/make_join/"), Says::Answer(Arc::new(answer)));
        let all = [&self.state[..], &self.members[..]].concat();
        let answer = match omits {
            true => json!({
                "members_omitted": true, "servers_in_room": [self.peer.name()],
                "state": self.state, "auth_chain": [self.members[0]],
            }),
            false => json!({"state": all, "auth_chain": []}),
        };
        self.peer.says(&self.path("v2/send_join/"), Says::Json(200, answer));
    }

    /// What it tells of its state, if it does.
    pub fn whole(&self) -> Value {
        let all = [&self.state[..], &self.members[..]].concat();
        json!({"pdus": all, "auth_chain": self.old})
    }

    /// Somebody was put out before anybody of ours came.
    pub fn bans(&mut self, number: usize) {
        let (maker, who) = (self.person(0), self.person(number));
        let old = self.members.remove(number);
        self.old.push(old);
        let gone = self.memberships[number].clone();
        self.ids.retain(|id| *id != gone);
        let auth = [&*self.auth[0].clone(), &*self.auth[1].clone(), &*self.memberships[0].clone(), &*gone];
        self.add("m.room.member", &maker, &who, json!({"membership": "ban"}), &auth);
        let ban = self.members.pop().expect("added");
        self.members.insert(number, ban);
        self.opens(true);
    }

    /// From now on it tells its state.
    pub fn tells(&self) {
        let ids = json!({"pdu_ids": self.ids, "auth_chain_ids": []});
        self.peer.says(&self.path("v1/state_ids/"), Says::Json(200, ids));
        self.peer.says(&self.path("v1/state/"), Says::Json(200, self.whole()));
    }

    /// It answers something else when it is asked for its state.
    pub fn tells_else(&self, says: Says) {
        self.peer.says(&self.path("v1/state/"), says);
    }

    fn add(&mut self, kind: &str, sender: &str, key: &str, content: Value, auth: &[&str]) -> String {
        let prev: Vec<&str> = Some(&*self.end).filter(|end| !end.is_empty()).into_iter().collect();
        let (id, event) = self.seal(json!({
            "type": kind, "room_id": self.room, "sender": sender, "state_key": key, "content": content,
            "depth": self.depth + 1, "origin_server_ts": hearth::base::clock::now_ms(),
            "prev_events": prev, "auth_events": auth,
        }));
        self.depth += 1;
        id.clone_into(&mut self.end);
        self.ids.push(id.clone());
        match kind {
            "m.room.member" => self.members.push(event),
            _ => self.state.push(event),
        }
        id
    }

    fn seal(&self, event: Value) -> (String, Value) {
        let rules = VERSION.rules().expect("known");
        let mut object: CanonicalJsonObject = serde_json::from_value(event).expect("canonical");
        hash_and_sign_event(self.peer.name(), &self.peer.me.key, &mut object, &rules.redaction).expect("signs");
        let id = format!("${}", ruma::signatures::reference_hash(&object, &rules).expect("a hash"));
        (id, serde_json::to_value(object).expect("JSON"))
    }

    /// A message of somebody after some event: its ID, and it.
    pub fn message(&self, number: usize, text: &str, after: &str) -> (String, Value) {
        let content = json!({"msgtype": "m.text", "body": text});
        self.event(number, json!({"type": "m.room.message", "content": content}), after)
    }

    /// Any event of somebody after some event; what allows it is told to who asks.
    pub fn event(&self, number: usize, more: Value, after: &str) -> (String, Value) {
        let (id, event) = self.made(number, more, after);
        let own = self.members[number].clone();
        let chain = [&self.state[..], &self.old[..], &[self.members[0].clone(), own]].concat();
        let chain = json!({"auth_chain": chain});
        self.peer.says(&format!("{}/{id}", self.path("v1/event_auth/")), Says::Json(200, chain));
        (id, event)
    }

    /// The same where nobody is told what allows it.
    pub fn made(&self, number: usize, more: Value, after: &str) -> (String, Value) {
        let mut event = json!({
            "room_id": self.room, "sender": self.person(number), "depth": self.depth + 2,
            "origin_server_ts": hearth::base::clock::now_ms(),
            "prev_events": [after], "auth_events": [self.auth[0], self.auth[1], self.memberships[number]],
        });
        for (name, value) in more.as_object().expect("an object") {
            event[name] = value.clone();
        }
        self.seal(event)
    }

    /// What an event of somebody cites, but for what they are to the room: that is said.
    pub fn cites(&self, membership: &str) -> Value {
        json!([self.auth[0], self.auth[1], membership])
    }

    /// What a change of somebody's own membership cites, after another one.
    pub fn cites_to_change(&self, membership: &str) -> Value {
        json!([self.auth[0], self.auth[1], self.auth[2], membership])
    }

    /// The ID of somebody's membership.
    pub fn membership(&self, number: usize) -> &str {
        &self.memberships[number]
    }

    /// From now on it names these as the state before any event, with what allows that.
    pub fn names(&self, ids: &[String], chain: &[String]) {
        let told = json!({"pdu_ids": ids, "auth_chain_ids": chain});
        self.peer.says(&self.path("v1/state_ids/"), Says::Json(200, told));
    }

    /// The IDs of its state.
    pub fn ids(&self) -> &[String] {
        &self.ids
    }

    /// It hands an event out to who asks for it.
    pub fn hands_out(&self, id: &str, event: &Value) {
        let answer = json!({"origin": self.peer.name(), "origin_server_ts": 1, "pdus": [event]});
        self.peer.says(&format!("/_matrix/federation/v1/event/{id}"), Says::Json(200, answer));
    }

    /// Sends events.
    pub async fn send(&self, server: &Server, pdus: &[Value]) -> Answer {
        let body = json!({"origin": self.peer.name(), "origin_server_ts": 1, "pdus": pdus});
        let path = format!("/_matrix/federation/v1/send/{}", transaction());
        self.peer.ask(server, Method::PUT, &path, Some(body)).await
    }

    /// The ID of the newest join that was handed in.
    pub fn handed_in(&self) -> String {
        let asked = self.peer.asked(&self.path("v2/send_join/"));
        let uri = asked.last().expect("somebody has come in").uri.split('?').next().unwrap_or_default().to_owned();
        uri.rsplit('/').next().expect("a path").to_owned()
    }
}
