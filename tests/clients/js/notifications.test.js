/** What notifies somebody: the server and the SDK's own push rules must say the same of every event. */
import assert from "node:assert/strict";
import { before, test } from "node:test";

import { hears, person, request, roomOf, say, sdk, syncOnce, until } from "./common.js";

let alice, bob, carol;

before(async () => {
    [alice, bob, carol] = [await person("alice"), await person("bob"), await person("carol")];
    await bob.setDisplayName("Bob B");
});

const THREADS = { room: { timeline: { limit: 0, unread_thread_notifications: true } } };

/** A rule of bob's, and until his client knows it. */
async function rule(kind, id, body) {
    await bob.addPushRule("global", kind, id, body);
    await until(`the rule ${id} is known`, () => bob.pushRules.global[kind]?.some(({ rule_id }) => rule_id === id));
}

/** An event and what is done about it, so that a difference can be read. */
const judged = (id, sender, type, content, highlight) =>
    `${highlight ? "highlight" : "notify"}: ${sender} ${type} ${JSON.stringify(content.body ?? content.membership ?? "")} ${id}`;

/** The events of a room that notify bob, as the SDK says; his invite is not for the room's counts. */
function judgedByClient(room) {
    const found = [];
    for (const event of bob.getRoom(room).getLiveTimeline().getEvents()) {
        const { notify, tweaks } = bob.getPushActionsForEvent(event, true) ?? {};
        if (!notify || event.getStateKey() === bob.getUserId()) continue;
        found.push(judged(event.getId(), event.getSender(), event.getWireType(), event.getWireContent(), tweaks?.highlight));
    }
    return found.sort();
}

/** The same, as `/notifications` has it. */
async function listedByServer(room) {
    const found = [];
    for (let from; ;) {
        const page = await request(bob, "GET", "/notifications", { query: { limit: 20, ...(from && { from }) } });
        for (const { room_id, event, actions } of page.notifications) {
            const highlight = actions.some((action) => action.set_tweak === "highlight" && action.value !== false);
            if (room_id === room) found.push(judged(event.event_id, event.sender, event.type, event.content, highlight));
        }
        from = page.next_token;
        if (!from) return found.sort();
    }
}

/** `{ notification_count, highlight_count }` of some events. */
const count = (events) => ({
    highlight_count: events.filter((event) => event.startsWith("highlight")).length,
    notification_count: events.length,
});

async function agree(room) {
    const byClient = judgedByClient(room);
    const byServer = await listedByServer(room);
    const less = (some, others) => some.filter((event) => !others.includes(event));
    const differ = { byServer: less(byServer, byClient), byClient: less(byClient, byServer) };
    assert.deepEqual(differ, { byServer: [], byClient: [] });
    const { rooms } = await syncOnce(bob, {});
    assert.deepEqual(rooms.join[room].unread_notifications, count(byClient));
    return byClient;
}

const message = (body, more = {}) => ["m.room.message", { msgtype: "m.text", body, ...more }];

/** Events of every sort that a rule can be about. */
const all = () => [
    message("hello"),
    message("BOB B, are you there?"),
    message("bob bananas"),
    message("for you", { "m.mentions": { user_ids: [bob.getUserId()] } }),
    message("for others", { "m.mentions": { user_ids: [carol.getUserId()] } }),
    message("for all", { "m.mentions": { room: true } }),
    message("for no one", { "m.mentions": { room: "true" } }),
    message("beep", { msgtype: "m.notice" }),
    message("some Cake please"),
    message("pancakes"),
    message("cheesecake-like"),
    message("tea time and time for tea"),
    message("numbers", { count: 5, deep: { "dotted.key": "here", list: [1, "two", null, true] } }),
    message("numbers as text", { count: "5", deep: { list: ["1", "Two"] } }),
    message("nothing", { count: null }),
    message("* edited", { "m.new_content": { msgtype: "m.text", body: "edited" },
        "m.relates_to": { rel_type: "m.replace", event_id: "$unknown" } }),
    ["m.reaction", { "m.relates_to": { rel_type: "m.annotation", event_id: "$unknown", key: "+" } }],
    ["m.room.encrypted", { algorithm: "m.megolm.v1.aes-sha2", ciphertext: "x", session_id: "y", device_id: "Z", sender_key: "k" }],
    ["m.call.invite", { call_id: "1", version: "1", lifetime: 60_000, party_id: "p", offer: { type: "offer", sdp: "" } }],
    ["m.sticker", { body: "a cat", url: "mxc://a/b", info: {} }],
    ["org.matrix.msc3381.poll.start", { "org.matrix.msc3381.poll.start": {} }],
    ["org.example.alarm", { body: "wake up", level: "HIGH alert" }],
    ["org.example.alarm", { body: "wake up", level: "low" }],
];

/** Sends them all by some people, until bob's client has them. */
async function sendAll(room, people = [alice, carol]) {
    let last;
    for (const client of people) {
        for (const [type, content] of all()) last = (await client.sendEvent(room, null, type, content)).event_id;
    }
    await hears(bob, room, last);
}

test("by the rules that everybody has, in a room of many and in one of two", async () => {
    const many = await roomOf(alice, [bob, carol], { name: "Many" });
    await sendAll(many);
    await alice.sendStateEvent(many, "m.room.topic", { topic: "bob b" }, "");
    await alice.sendStateEvent(many, "m.room.server_acl", { allow: ["*"], deny: [], allow_ip_literals: true }, "");
    await hears(bob, many, await say(alice, many, "the end"));
    const found = await agree(many);
    assert.ok(count(found).highlight_count > 1 && found.length > 20);
    const two = await roomOf(alice, [bob]);
    await sendAll(two, [alice]);
    await agree(two);
    await alice.leave(many);
    const { event_id } = await carol.sendEvent(many, null, ...message("we are two now"));
    await hears(bob, many, event_id);
});

test("by rules of one's own, of every kind and with every condition", async () => {
    const notify = ["notify"];
    const loud = ["notify", { set_tweak: "sound", value: "default" }, { set_tweak: "highlight" }];
    const quiet = ["notify", { set_tweak: "highlight", value: false }];
    const [room, other, muted] = [await roomOf(alice, [bob, carol]), await roomOf(alice, [bob, carol]), await roomOf(alice, [bob, carol])];
    await rule("content", "cake", { pattern: "cake", actions: loud });
    await rule("content", "glob", { pattern: "te?*tea", actions: quiet });
    // Not rules for a sender: the SDK looks for them in a field that events have long lost.
    await rule("room", other, { actions: [] });
    const override = async (id, conditions, actions) => rule("override", id, { conditions, actions });
    await override(muted, [{ kind: "event_match", key: "room_id", pattern: muted }], ["dont_notify"]);
    await override("name", [{ kind: "contains_display_name" }], loud);
    await override("number", [{ kind: "event_property_is", key: "content.count", value: 5 }], loud);
    await override("null", [{ kind: "event_property_is", key: "content.count", value: null }], loud);
    await override("dots", [{ kind: "event_property_is", key: "content.deep.dotted\\.key", value: "here" }], loud);
    await override("list", [{ kind: "event_property_contains", key: "content.deep.list", value: "Two" }], loud);
    await override("alarm", [
        { kind: "event_match", key: "type", pattern: "org.example.*" },
        { kind: "event_match", key: "content.level", pattern: "high*" },
    ], loud);
    await override("few", [
        { kind: "room_member_count", is: "<3" },
        { kind: "event_match", key: "type", pattern: "m.sticker" },
    ], loud);
    await override("three", [
        { kind: "room_member_count", is: ">=3" },
        { kind: "event_match", key: "type", pattern: "m.sticker" },
    ], notify);
    await override("level", [
        { kind: "sender_notification_permission", key: "room" },
        { kind: "event_match", key: "type", pattern: "org.matrix.msc3381.poll.start" },
    ], notify);
    await override("unknown", [{ kind: "org.example.moon_is_full" }], loud);
    await rule("underride", "rest", { conditions: [{ kind: "event_match", key: "type", pattern: "org.example.alarm" }], actions: notify });
    await bob.setPushRuleEnabled("global", "override", ".m.rule.suppress_notices", false);
    await until("notices notify", () =>
        bob.pushRules.global.override.some(({ rule_id, enabled }) => rule_id === ".m.rule.suppress_notices" && !enabled));
    for (const each of [room, other, muted]) {
        await sendAll(each);
        await agree(each);
    }
    await bob.setPushRuleEnabled("global", "override", ".m.rule.master", true);
    const silent = await roomOf(alice, [bob]);
    await sendAll(silent, [alice]);
    assert.deepEqual(await agree(silent), []);
    await bob.setPushRuleEnabled("global", "override", ".m.rule.master", false);
});

test("thread by thread, as each is read", async () => {
    const room = await roomOf(alice, [bob, carol]);
    const roots = [await say(alice, room, "first"), await say(alice, room, "second")];
    const mention = { "m.mentions": { user_ids: [bob.getUserId()] } };
    const replies = [];
    for (const root of roots) {
        for (const more of [{}, mention, {}]) {
            const relation = { rel_type: "m.thread", event_id: root, is_falling_back: true, "m.in_reply_to": { event_id: root } };
            const { event_id } = await alice.sendEvent(room, null, ...message("in a thread", { ...more, "m.relates_to": relation }));
            replies.push(event_id);
        }
    }
    const last = await say(alice, room, "in none");
    await hears(bob, room, last);
    const counts = async () => {
        const { unread_notifications, unread_thread_notifications = {} } =
            (await syncOnce(bob, { filter: THREADS })).rooms.join[room];
        const threads = roots.map((root) => unread_thread_notifications[root] ?? count([]));
        return [unread_notifications, ...threads].map(({ notification_count, highlight_count }) =>
            [notification_count, highlight_count]);
    };
    assert.deepEqual(await counts(), [[3, 0], [3, 1], [3, 1]]);
    const receipt = (event, thread_id) =>
        request(bob, "POST", `/rooms/${encodeURIComponent(room)}/receipt/m.read/${encodeURIComponent(event)}`, { body: { thread_id } });
    await receipt(replies[1], roots[0]);
    assert.deepEqual(await counts(), [[3, 0], [1, 0], [3, 1]]);
    await receipt(roots[1], "main");
    assert.deepEqual(await counts(), [[1, 0], [1, 0], [3, 1]]);
    await receipt(replies[5], roots[1]);
    assert.deepEqual(await counts(), [[1, 0], [1, 0], [0, 0]]);
    await receipt(last, undefined);
    assert.deepEqual(await counts(), [[0, 0], [0, 0], [0, 0]]);
    const { notifications } = await request(bob, "GET", "/notifications", { query: { limit: 30 } });
    const here = notifications.filter(({ room_id }) => room_id === room);
    assert.ok(here.length === 9 && here.every(({ read }) => read));
});

test("is told of pushers as the server has them", async () => {
    const wish = {
        kind: "http", app_id: "org.example.web", pushkey: "a-key", app_display_name: "Web", device_display_name: "Browser",
        lang: "en", data: { url: "https://push.example.org/_matrix/push/v1/notify" },
    };
    await bob.setPusher(wish);
    const [pusher] = (await bob.getPushers()).pushers;
    assert.equal(pusher[sdk.PUSHER_DEVICE_ID.name] ?? pusher[sdk.PUSHER_DEVICE_ID.altName], bob.getDeviceId());
    await bob.setPusher({ ...pusher, [sdk.PUSHER_ENABLED.name]: false });
    const [off] = (await bob.getPushers()).pushers;
    assert.equal(off[sdk.PUSHER_ENABLED.name], false);
    await bob.removePusher(wish.pushkey, wish.app_id);
    assert.deepEqual((await bob.getPushers()).pushers, []);
});
