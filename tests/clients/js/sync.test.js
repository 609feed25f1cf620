/** Following what happens: several devices, coming back later, filters, data of one's own. */
import assert from "node:assert/strict";
import { before, test } from "node:test";

import { clientOf, close, freshName, hears, membership, person, register, request, roomOf, say, signIn, start,
    syncOnce, until } from "./common.js";

let alice, bob;

before(async () => {
    [alice, bob] = [await person("alice"), await person("bob")];
});

const bodies = ({ timeline }) => timeline.events.map(({ content }) => content.body).filter(Boolean);

test("signs in on a second device, which shows the rooms and what was said", async () => {
    const room = await roomOf(alice, [bob], { name: "Long talk" });
    const said = [await say(alice, room, "one"), await say(bob, room, "two")];
    const phone = await start(await signIn(bob.account));
    assert.equal(phone.getRoom(room).name, "Long talk");
    for (const id of said) await hears(phone, room, id);
    await hears(bob, room, await say(phone, room, "three, by phone"));
    assert.equal(phone.getRoom(room).getJoinedMemberCount(), 2);
});

test("comes back with the token of the last visit and gets each missed message once", async () => {
    const room = await roomOf(alice, [bob]);
    const session = await signIn(bob.account);
    const earlier = await start(session);
    await hears(earlier, room, await say(alice, room, "heard"));
    close(earlier);
    const since = earlier.store.getSyncToken();
    for (const text of ["missed 1", "missed 2", "missed 3"]) await say(alice, room, text);
    const back = clientOf(session);
    const first = await syncOnce(back, { since });
    assert.deepEqual(bodies(first.rooms.join[room]), ["missed 1", "missed 2", "missed 3"]);
    const again = await syncOnce(back, { since });
    assert.deepEqual(bodies(again.rooms.join[room]), ["missed 1", "missed 2", "missed 3"]);
    const next = await syncOnce(back, { since: first.next_batch });
    assert.equal(next.rooms?.join?.[room], undefined);
});

test("waits for news, and is answered as soon as there are some", async () => {
    const room = await roomOf(alice, [bob]);
    const { next_batch: since } = await syncOnce(bob);
    const waiting = syncOnce(bob, { since, timeout: 30_000 });
    const started = Date.now();
    await say(alice, room, "news");
    let answer = await waiting;
    while (!answer.rooms?.join?.[room]?.timeline.events.some(({ content }) => content.body === "news")) {
        answer = await syncOnce(bob, { since: answer.next_batch, timeout: 30_000 });
    }
    assert.ok(Date.now() - started < 10_000);
});

test("was away for long, and fills the gap by scrolling back", async () => {
    const room = await roomOf(alice, [bob]);
    const { next_batch: since } = await syncOnce(bob);
    const said = [];
    for (let at = 0; at < 25; at++) {
        said.push(`away ${at}`);
        await say(alice, room, `away ${at}`);
    }
    const filter = { room: { timeline: { limit: 5 } } };
    const { timeline } = (await syncOnce(bob, { since, filter })).rooms.join[room];
    assert.equal(timeline.limited, true);
    const heard = timeline.events.map(({ content }) => content.body);
    assert.deepEqual(heard, said.slice(-5));
    const { chunk } = await bob.createMessagesRequest(room, timeline.prev_batch, 20, "b");
    assert.deepEqual(chunk.map(({ content }) => content.body).reverse(), said.slice(0, 20));
});

test("asks for a small first sync and loads the members when they are needed", async () => {
    // More than the five "heroes" whose membership may come along with a room's summary.
    const quietOnes = [];
    for (let at = 0; at < 7; at++) quietOnes.push(clientOf((await register("quiet")).session));
    const { room_id: room } = await alice.createRoom({ preset: "public_chat", name: "Lecture" });
    for (const client of [bob, ...quietOnes]) await client.joinRoom(room);
    for (const client of [bob, ...quietOnes]) await membership(alice, room, client, "join");
    for (const at of [1, 2, 3]) await say(alice, room, `only alice speaks, ${at}`);
    const phone = await start(await signIn(bob.account), { lazyLoadMembers: true, initialSyncLimit: 2 });
    const shown = phone.getRoom(room);
    const names = () => shown.currentState.getMembers().map(({ userId }) => userId);
    assert.ok(names().includes(alice.getUserId()), "the senders are known at once");
    assert.ok(quietOnes.some((client) => !names().includes(client.getUserId())), "not everybody yet");
    assert.equal(shown.getJoinedMemberCount(), 9, "the summary counts them all");
    await shown.loadMembersIfNeeded();
    assert.equal(shown.getJoinedMembers().length, 9);
});

test("stores a filter and sees only what it lets through", async () => {
    const room = await roomOf(alice, [bob]);
    const definition = {
        presence: { types: [] },
        room: {
            rooms: [room],
            timeline: { types: ["m.room.message"], limit: 1 },
            state: { types: ["m.room.join_rules"] },
        },
    };
    const { filterId } = await bob.createFilter(definition);
    const stored = await request(bob, "GET", `/user/${encodeURIComponent(bob.getUserId())}/filter/${filterId}`);
    assert.deepEqual(stored, definition);
    await say(alice, room, "beyond the limit");
    await alice.setRoomTopic(room, "not shown");
    await say(alice, room, "shown");
    const { rooms, presence } = await syncOnce(bob, { filter: filterId });
    assert.deepEqual(Object.keys(rooms.join), [room]);
    assert.deepEqual(bodies(rooms.join[room]), ["shown"]);
    assert.deepEqual(rooms.join[room].state.events.map(({ type }) => type), ["m.room.join_rules"]);
    assert.deepEqual(presence?.events ?? [], []);
});

test("leaves a room, which the next sync says once, and a filter brings back", async () => {
    const room = await roomOf(alice, [bob]);
    const { next_batch: since } = await syncOnce(bob);
    await bob.leave(room);
    const told = await syncOnce(bob, { since });
    const [last] = told.rooms.leave[room].timeline.events.slice(-1);
    assert.equal(last.content.membership, "leave");
    assert.equal(told.rooms.join?.[room], undefined);
    assert.equal((await syncOnce(bob)).rooms?.leave?.[room], undefined);
    const all = await syncOnce(bob, { filter: { room: { include_leave: true } } });
    assert.ok(all.rooms.leave[room]);
});

test("keeps settings and tags, and the other device learns of a change at once", async () => {
    const room = await roomOf(alice, [bob]);
    const phone = await start(await signIn(bob.account));
    const user = encodeURIComponent(bob.getUserId());
    await bob.setAccountDataRaw("com.example.colours", { theme: "dark" });
    await until("the phone knows the theme", () =>
        phone.getAccountData("com.example.colours")?.getContent().theme === "dark");
    await bob.setRoomAccountData(room, "com.example.note", { text: "cosy" });
    await until("the phone knows the note", () =>
        phone.getRoom(room).getAccountData("com.example.note")?.getContent().text === "cosy");
    assert.deepEqual(await request(phone, "GET", `/user/${user}/account_data/com.example.colours`),
        { theme: "dark" });
    await bob.setRoomTag(room, "m.favourite", { order: 0.25 });
    await until("the phone shows a favourite", () => phone.getRoom(room).tags["m.favourite"]?.order === 0.25);
    await bob.deleteRoomTag(room, "m.favourite");
    await until("the phone shows it no more", () => !phone.getRoom(room).tags["m.favourite"]);
    const { account_data: others } = await syncOnce(alice);
    assert.ok(!others.events.some(({ type }) => type === "com.example.colours"));
});

test("loads the push rules that everybody starts with", async () => {
    const { global } = await bob.getPushRules();
    const enabled = (kind, id) => global[kind].find(({ rule_id }) => rule_id === id)?.enabled;
    assert.equal(enabled("override", ".m.rule.master"), false);
    for (const id of [".m.rule.suppress_notices", ".m.rule.invite_for_me", ".m.rule.is_user_mention",
        ".m.rule.is_room_mention", ".m.rule.tombstone", ".m.rule.reaction"]) {
        assert.equal(enabled("override", id), true, id);
    }
    for (const id of [".m.rule.call", ".m.rule.room_one_to_one", ".m.rule.message", ".m.rule.encrypted"]) {
        assert.equal(enabled("underride", id), true, id);
    }
    assert.ok((await syncOnce(bob)).account_data.events.some(({ type }) => type === "m.push_rules"));
});

test("sees who is there, and what they say about it", async () => {
    // A person with a single device: of several, the most present one would count.
    const carol = await person("carol");
    await roomOf(alice, [carol]);
    const shown = (presence, message) => until(`alice sees carol ${presence}, ${message}`, () => {
        const user = alice.getUser(carol.getUserId());
        return user?.presence === presence && user.presenceStatusMsg === message;
    });
    carol.setSyncPresence("unavailable");
    await carol.setPresence({ presence: "unavailable", status_msg: "at tea" });
    await shown("unavailable", "at tea");
    carol.setSyncPresence("online");
    await carol.setPresence({ presence: "online", status_msg: "back" });
    await shown("online", "back");
    assert.equal((await alice.getPresence(carol.getUserId())).status_msg, "back");
});

test("gets a message to the device itself, until it has said that it has it", async () => {
    const session = await signIn(bob.account);
    const phone = clientOf(session);
    const { next_batch: since } = await syncOnce(phone);
    const type = "com.example.ping";
    const txn = freshName("txn");
    const content = { number: 1 };
    const letter = new Map([[bob.getUserId(), new Map([[session.device_id, content]])]]);
    await alice.sendToDevice(type, letter, txn);
    await alice.sendToDevice(type, letter, txn);
    const got = ({ to_device: found }) => found?.events.filter((event) => event.type === type) ?? [];
    const first = await syncOnce(phone, { since });
    assert.deepEqual(got(first), [{ type, sender: alice.getUserId(), content }]);
    // Not acknowledged: the same token gives it again. Acknowledged: gone for good.
    assert.equal(got(await syncOnce(phone, { since })).length, 1);
    const next = await syncOnce(phone, { since: first.next_batch });
    assert.deepEqual(got(next), []);
    assert.deepEqual(got(await syncOnce(phone, { since: next.next_batch })), []);
    assert.deepEqual(got(await syncOnce(bob)), [], "it was for the phone alone");
});
