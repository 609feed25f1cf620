/** Talking in a room: messages both ways, edits, reactions, redactions, reading, history. */
import assert from "node:assert/strict";
import { before, test } from "node:test";

import { clientOf, freshName, hears, person, refused, request, roomOf, say, signIn, start, syncOnce, until }
    from "./common.js";

let alice, bob;

before(async () => {
    [alice, bob] = [await person("alice"), await person("bob")];
});

const path = (room, rest) => `/rooms/${encodeURIComponent(room)}/${rest}`;

const put = (client, room, txn, body) =>
    request(client, "PUT", path(room, `send/m.room.message/${txn}`), { body: { msgtype: "m.text", body } });

test("chats in real time, both ways and in order", async () => {
    const room = await roomOf(alice, [bob]);
    const said = [];
    for (let turn = 0; turn < 10; turn++) {
        const [speaker, listener] = turn % 2 ? [bob, alice] : [alice, bob];
        const id = await say(speaker, room, `line ${turn}`);
        const event = await hears(listener, room, id);
        assert.equal(event.getContent().body, `line ${turn}`);
        assert.equal(event.getSender(), speaker.getUserId());
        said.push(id);
    }
    for (const client of [alice, bob]) {
        const lines = client.getRoom(room).getLiveTimeline().getEvents()
            .filter((event) => event.getType() === "m.room.message").map((event) => event.getId());
        assert.deepEqual(lines, said);
    }
});

test("recognises one's own message when it comes back, and only on the device that sent it", async () => {
    const room = await roomOf(alice, [bob]);
    const { next_batch: since } = await syncOnce(alice);
    const phone = clientOf(await signIn(alice.account));
    const { next_batch: phoneSince } = await syncOnce(phone);
    const txn = freshName("txn");
    const { event_id: id } = await put(alice, room, txn, "mine");
    const echo = async (client, from) => {
        const { rooms } = await syncOnce(client, { since: from });
        return rooms.join[room].timeline.events.find(({ event_id }) => event_id === id);
    };
    assert.equal((await echo(alice, since)).unsigned.transaction_id, txn);
    assert.equal((await echo(phone, phoneSince)).unsigned?.transaction_id, undefined);
});

test("repeats a request that seemed lost, and it is still one message", async () => {
    const room = await roomOf(alice, [bob]);
    const txn = freshName("txn");
    const first = await put(alice, room, txn, "once");
    const again = await put(alice, room, txn, "once");
    assert.equal(again.event_id, first.event_id);
    const other = await put(clientOf(await signIn(alice.account)), room, txn, "once");
    assert.notEqual(other.event_id, first.event_id, "a transaction ID belongs to one device");
    await hears(bob, room, other.event_id);
    const { chunk } = await bob.createMessagesRequest(room, null, 50, "b");
    assert.equal(chunk.filter(({ content }) => content.body === "once").length, 2);
});

test("edits a message", async () => {
    const room = await roomOf(alice, [bob]);
    const id = await say(alice, room, "helo");
    const heard = await hears(bob, room, id);
    const { event_id: edit } = await alice.sendMessage(room, {
        msgtype: "m.text",
        body: "* hello",
        "m.new_content": { msgtype: "m.text", body: "hello" },
        "m.relates_to": { rel_type: "m.replace", event_id: id },
    });
    await until("bob reads the corrected text", () => heard.getContent().body === "hello");
    assert.equal(heard.replacingEventId(), edit);
    // Somebody who fetches the message later is given the edit with it; the text stays as sent.
    const fetched = await bob.fetchRoomEvent(room, id);
    assert.equal(fetched.content.body, "helo");
    assert.equal(fetched.unsigned["m.relations"]["m.replace"].event_id, edit);
});

test("reacts to a message, once", async () => {
    const room = await roomOf(alice, [bob]);
    const id = await say(alice, room, "cake?");
    await hears(bob, room, id);
    const reaction = { "m.relates_to": { rel_type: "m.annotation", event_id: id, key: "🎂" } };
    await bob.sendEvent(room, "m.reaction", reaction);
    await until("alice sees the reaction", () =>
        alice.getRoom(room).relations.getChildEventsForEvent(id, "m.annotation", "m.reaction")
            ?.getSortedAnnotationsByKey()?.some(([key, events]) => key === "🎂" && events.size === 1));
    // spec: c2s#avoiding-duplicate-annotations
    await refused(request(bob, "PUT", path(room, `send/m.reaction/${freshName("txn")}`),
        { body: reaction }), 400, "M_DUPLICATE_ANNOTATION");
});

test("takes a message back, and its text is gone for everybody", async () => {
    const room = await roomOf(alice, [bob]);
    const id = await say(bob, room, "a secret");
    const heard = await hears(alice, room, id);
    await bob.redactEvent(room, id, undefined, { reason: "slip of the tongue" });
    await until("alice sees that it was taken back", () => heard.isRedacted());
    assert.deepEqual(heard.getContent(), {});
    const fetched = await alice.fetchRoomEvent(room, id);
    assert.deepEqual(fetched.content, {});
    assert.equal(fetched.unsigned.redacted_because.content.reason, "slip of the tongue");
});

test("may take back others' messages only as a moderator", async () => {
    const room = await roomOf(alice, [bob]);
    const hers = await say(alice, room, "the rules of the house");
    const his = await say(bob, room, "something rude");
    await hears(bob, room, hers);
    await refused(request(bob, "PUT", path(room, `redact/${hers}/${freshName("txn")}`), { body: {} }),
        403, "M_FORBIDDEN");
    await hears(alice, room, his);
    await alice.redactEvent(room, his);
    await until("bob sees his message gone", () => bob.getRoom(room).findEventById(his)?.isRedacted());
    assert.equal((await bob.fetchRoomEvent(room, hers)).content.body, "the rules of the house");
});

test("scrolls back through 150 messages, in order and without a gap", async () => {
    const room = await roomOf(alice, [bob]);
    const wanted = Array.from({ length: 150 }, (_, at) => `message ${at}`);
    for (const [at, text] of wanted.entries()) await put(alice, room, `history-${at}`, text);
    const later = await start(await signIn(bob.account), { initialSyncLimit: 10 });
    const shown = later.getRoom(room);
    const texts = () => shown.getLiveTimeline().getEvents()
        .filter((event) => event.getType() === "m.room.message").map((event) => event.getContent().body);
    assert.deepEqual(texts(), wanted.slice(-10));
    while (shown.getLiveTimeline().getPaginationToken("b")) await later.scrollback(shown, 30);
    assert.deepEqual(texts(), wanted);
    assert.equal(shown.getLiveTimeline().getEvents()[0].getType(), "m.room.create");
    const forwards = [];
    for (let from; ;) {
        const page = await later.createMessagesRequest(room, from ?? null, 40, "f");
        forwards.push(...page.chunk.filter(({ type }) => type === "m.room.message"));
        if (!page.end) break;
        from = page.end;
    }
    assert.deepEqual(forwards.map(({ content }) => content.body), wanted);
});

test("jumps to a message in the middle and sees what surrounds it", async () => {
    const room = await roomOf(alice, [bob]);
    const ids = [];
    for (let at = 0; at < 7; at++) ids.push((await put(alice, room, `around-${at}`, `${at}`)).event_id);
    const around = await request(bob, "GET", path(room, `context/${ids[3]}`), { query: { limit: 4 } });
    assert.equal(around.event.event_id, ids[3]);
    assert.deepEqual(around.events_before.map(({ event_id }) => event_id), [ids[2], ids[1]]);
    assert.deepEqual(around.events_after.map(({ event_id }) => event_id), [ids[4], ids[5]]);
    const back = await bob.createMessagesRequest(room, around.start, 1, "b");
    assert.equal(back.chunk[0].event_id, ids[0]);
    const on = await bob.createMessagesRequest(room, around.end, 1, "f");
    assert.equal(on.chunk[0].event_id, ids[6]);
});

test("sees the other one typing, and stop", async () => {
    const room = await roomOf(alice, [bob]);
    const typing = (wanted) => until(`bob's typing is ${wanted}`, () =>
        Boolean(alice.getRoom(room).getMember(bob.getUserId()).typing) === wanted);
    await bob.sendTyping(room, true, 30_000);
    await typing(true);
    await bob.sendTyping(room, false, 0);
    await typing(false);
    await bob.sendTyping(room, true, 500);
    await typing(true);
    await typing(false);
});

test("counts what is unread, mentions apart, until it is read", async () => {
    const room = await roomOf(alice, [bob]);
    const counted = (total, highlights) => until(`bob has ${total} unread, ${highlights} to him`, async () => {
        const { rooms } = await syncOnce(bob);
        const counts = rooms.join[room].unread_notifications;
        return counts.notification_count === total && counts.highlight_count === highlights;
    });
    await counted(0, 0);
    const first = await say(alice, room, "one");
    await say(alice, room, "two");
    const { event_id: last } = await alice.sendMessage(room, {
        msgtype: "m.text", body: "three, bob", "m.mentions": { user_ids: [bob.getUserId()] },
    });
    await counted(3, 1);
    await until("bob's client counts them too", () =>
        bob.getRoom(room).getUnreadNotificationCount("total") === 3
        && bob.getRoom(room).getUnreadNotificationCount("highlight") === 1);
    await bob.sendReadReceipt(await hears(bob, room, first));
    await counted(2, 1);
    await bob.sendReadReceipt(await hears(bob, room, last));
    await counted(0, 0);
});

test("shows how far the other one has read, unless that is kept private", async () => {
    const room = await roomOf(alice, [bob]);
    const [first, second, third] = [
        await say(alice, room, "one"), await say(alice, room, "two"), await say(alice, room, "three"),
    ];
    const readUpTo = () => alice.getRoom(room).getEventReadUpTo(bob.getUserId(), true);
    await bob.sendReadReceipt(await hears(bob, room, first));
    await until("alice sees that bob read the first", () => readUpTo() === first);
    const { next_batch: since } = await syncOnce(alice);
    await bob.sendReadReceipt(await hears(bob, room, second), "m.read.private");
    await bob.sendReadReceipt(await hears(bob, room, third));
    await until("alice sees that bob read the third", () => readUpTo() === third);
    const { rooms } = await syncOnce(alice, { since });
    const receipts = rooms.join[room].ephemeral.events.filter(({ type }) => type === "m.receipt");
    assert.deepEqual(receipts.flatMap(({ content }) => Object.keys(content)), [third]);
});

test("talks in a thread, which is listed, counted and read by itself", async () => {
    const [carol, dave] = [await person("carol", { threadSupport: true }), await person("dave", { threadSupport: true })];
    const room = await roomOf(carol, [dave]);
    const root = await say(carol, room, "a topic");
    await hears(dave, room, root);
    const replies = [];
    for (const body of ["one", "two", "three"]) {
        replies.push((await dave.sendMessage(room, root, { msgtype: "m.text", body })).event_id);
    }
    const seen = carol.getRoom(room);
    const thread = await until("carol has the thread", () => {
        const found = seen.getThread(root);
        return found?.length === 3 && found.replyToEvent?.getId() === replies[2] && found;
    });
    const unread = () => seen.getThreadUnreadNotificationCount(root, "total");
    await until("three replies are unread", () => unread() === 3);
    assert.equal(seen.getRoomUnreadNotificationCount("total"), 0);
    await carol.sendReadReceipt(thread.replyToEvent);
    await until("the thread is read", () => unread() === 0);

    // Who comes with an empty store finds it in the list of threads.
    const phone = await start(await signIn(carol.account), { threadSupport: true });
    const listed = phone.getRoom(room);
    await listed.createThreadsTimelineSets();
    await listed.fetchRoomThreads();
    assert.deepEqual(listed.getThreads().map(({ id }) => id), [root]);
    assert.equal(listed.getThread(root).length, 3);
});

test("keeps the place up to which everything was read, on every device", async () => {
    const room = await roomOf(alice, [bob]);
    const [first, second] = [await say(alice, room, "one"), await say(alice, room, "two")];
    const phone = await start(await signIn(bob.account));
    await bob.setRoomReadMarkersHttpRequest(room, first, second);
    await until("the phone knows the place", () =>
        phone.getRoom(room).getAccountData("m.fully_read")?.getContent().event_id === first);
    await until("the phone knows the receipt", () =>
        phone.getRoom(room).getEventReadUpTo(bob.getUserId(), true) === second);
});
