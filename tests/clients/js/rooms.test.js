/** Rooms and who is in them: creating, inviting, joining, leaving, moderating, finding. */
import assert from "node:assert/strict";
import { before, test } from "node:test";

import { freshName, hears, membership, person, refused, register, clientOf, request, roomOf, say, until }
    from "./common.js";

let alice, bob, carol;

before(async () => {
    [alice, bob, carol] = [await person("alice"), await person("bob"), await person("carol")];
});

const invitation = (client, room) =>
    until(`${client.getUserId()} is invited`, () => {
        const found = client.getRoom(room);
        return found?.getMyMembership() === "invite" && found;
    });

const outOf = (client, room, state) =>
    until(`${client.getUserId()} is out of the room`, () =>
        client.getRoom(room)?.getMyMembership() === state);

test("creates a room with a name and a topic, and administers it", async () => {
    const room = await roomOf(alice, [bob], { name: "Hearth", topic: "Warm talk" });
    const state = (type) => alice.getStateEvent(room, type, "");
    assert.equal((await state("m.room.name")).name, "Hearth");
    assert.equal((await state("m.room.topic")).topic, "Warm talk");
    assert.equal((await state("m.room.join_rules")).join_rule, "invite");
    await refused(bob.setRoomName(room, "Bob's"), 403, "M_FORBIDDEN");
    await alice.setRoomName(room, "Hearth and home");
    await until("bob sees the new name", () => bob.getRoom(room).name === "Hearth and home");
});

test("creates a room of each supported version", async () => {
    const { available } = (await alice.getCapabilities())["m.room_versions"];
    for (const version of ["6", "7", "8", "9", "10", "11", "12"]) {
        assert.equal(available[version], "stable");
        const { room_id: room } = await alice.createRoom({ room_version: version });
        const create = (await alice.roomState(room)).find(({ type }) => type === "m.room.create");
        assert.equal(create.content.room_version, version);
        assert.ok(await say(alice, room, `hello, version ${version}`));
    }
    await refused(alice.createRoom({ room_version: "never" }), 400, "M_UNSUPPORTED_ROOM_VERSION");
});

test("invites a friend, who sees by whom and to what, and joins", async () => {
    const { room_id: room } = await alice.createRoom({ preset: "private_chat", name: "Tea" });
    await refused(bob.joinRoom(room), 403, "M_FORBIDDEN");
    await alice.invite(room, bob.getUserId());
    const invited = await invitation(bob, room);
    assert.equal(invited.name, "Tea");
    assert.equal(invited.getMember(bob.getUserId()).events.member.getSender(), alice.getUserId());
    await bob.joinRoom(room);
    await membership(alice, room, bob, "join");
    await membership(bob, room, alice, "join");
    assert.ok((await bob.getJoinedRooms()).joined_rooms.includes(room));
    const { joined } = await bob.getJoinedRoomMembers(room);
    assert.deepEqual(Object.keys(joined).sort(), [alice, bob].map((one) => one.getUserId()).sort());
});

test("declines an invitation", async () => {
    const { room_id: room } = await alice.createRoom({ invite: [bob.getUserId()] });
    await invitation(bob, room);
    await bob.leave(room);
    await outOf(bob, room, "leave");
    await membership(alice, room, bob, "leave");
    await refused(bob.joinRoom(room), 403, "M_FORBIDDEN");
});

test("leaves, and from then on neither hears nor speaks", async () => {
    const room = await roomOf(alice, [bob]);
    const before = await say(alice, room, "stay a while");
    await hears(bob, room, before);
    await bob.leave(room);
    await outOf(bob, room, "leave");
    await membership(alice, room, bob, "leave");
    const after = await say(alice, room, "now we are alone");
    await refused(request(bob, "PUT", `/rooms/${encodeURIComponent(room)}/send/m.room.message/one`,
        { body: { msgtype: "m.text", body: "am I here?" } }), 403, "M_FORBIDDEN");
    await refused(bob.fetchRoomEvent(room, after), 404, "M_NOT_FOUND");
    assert.equal((await bob.fetchRoomEvent(room, before)).content.body, "stay a while");
});

test("kicks somebody, who may be invited again", async () => {
    const room = await roomOf(alice, [bob]);
    await refused(bob.kick(room, alice.getUserId()), 403, "M_FORBIDDEN");
    await alice.kick(room, bob.getUserId(), "please calm down");
    await outOf(bob, room, "leave");
    const kicked = bob.getRoom(room).getMember(bob.getUserId()).events.member;
    assert.equal(kicked.getContent().reason, "please calm down");
    assert.equal(kicked.getSender(), alice.getUserId());
    await alice.invite(room, bob.getUserId());
    await invitation(bob, room);
    await bob.joinRoom(room);
    await membership(alice, room, bob, "join");
});

test("bans somebody, who cannot come back until forgiven", async () => {
    const room = await roomOf(alice, [bob], { preset: "public_chat" });
    await alice.ban(room, bob.getUserId(), "spam");
    await outOf(bob, room, "ban");
    await refused(bob.joinRoom(room), 403, "M_FORBIDDEN", "M_BAD_STATE");
    await refused(alice.invite(room, bob.getUserId()), 403, "M_FORBIDDEN", "M_BAD_STATE");
    await alice.unban(room, bob.getUserId());
    await membership(alice, room, bob, "leave");
    await bob.joinRoom(room);
    await membership(alice, room, bob, "join");
});

test("knocks, and is let in", async () => {
    const { room_id: room } = await alice.createRoom({
        name: "Knock first",
        initial_state: [{ type: "m.room.join_rules", state_key: "", content: { join_rule: "knock" } }],
    });
    await refused(bob.joinRoom(room), 403, "M_FORBIDDEN");
    await bob.knockRoom(room, { reason: "may I?" });
    await outOf(bob, room, "knock");
    assert.equal(bob.getRoom(room).name, "Knock first");
    const knocking = await membership(alice, room, bob, "knock");
    assert.equal(knocking.events.member.getContent().reason, "may I?");
    await alice.invite(room, bob.getUserId());
    await invitation(bob, room);
    await bob.joinRoom(room);
    await membership(alice, room, bob, "join");
});

test("joins a restricted room by being in the one that it trusts", async () => {
    const club = await roomOf(alice, [bob]);
    const { room_id: room } = await alice.createRoom({
        initial_state: [{
            type: "m.room.join_rules",
            state_key: "",
            content: { join_rule: "restricted", allow: [{ type: "m.room_membership", room_id: club }] },
        }],
    });
    await refused(carol.joinRoom(room), 403, "M_FORBIDDEN");
    await bob.joinRoom(room);
    await membership(alice, room, bob, "join");
});

test("finds a room by its alias and joins it by the alias", async () => {
    const name = freshName("kitchen");
    const alias = `#${name}:localhost`;
    const { room_id: room } = await alice.createRoom({ preset: "public_chat", room_alias_name: name });
    assert.equal((await carol.getRoomIdForAlias(alias)).room_id, room);
    const joined = await carol.joinRoom(alias);
    assert.equal(joined.roomId, room);
    await membership(alice, room, carol, "join");
    assert.equal((await carol.getStateEvent(room, "m.room.canonical_alias", "")).alias, alias);
    await refused(alice.createRoom({ room_alias_name: name }), 400, "M_ROOM_IN_USE");
});

test("gives a room a second alias and takes it away", async () => {
    const alias = `#${freshName("cellar")}:localhost`;
    const room = await roomOf(alice, [bob]);
    await refused(bob.getRoomIdForAlias(alias), 404, "M_NOT_FOUND");
    await alice.createAlias(alias, room);
    assert.equal((await bob.getRoomIdForAlias(alias)).room_id, room);
    await refused(alice.createAlias(alias, room), 409, "M_UNKNOWN");
    await alice.deleteAlias(alias);
    await refused(bob.getRoomIdForAlias(alias), 404, "M_NOT_FOUND");
});

test("changes name and picture, and the others in the room see it", async () => {
    const dora = await person("dora");
    const room = await roomOf(alice, [dora]);
    await dora.setDisplayName("Dora the Doer");
    await dora.setAvatarUrl("mxc://localhost/doras-face");
    await until("alice sees dora's new face", () => {
        const member = alice.getRoom(room).getMember(dora.getUserId());
        return member.rawDisplayName === "Dora the Doer"
            && member.getMxcAvatarUrl() === "mxc://localhost/doras-face";
    });
    assert.deepEqual(await alice.getProfileInfo(dora.getUserId()), {
        displayname: "Dora the Doer",
        avatar_url: "mxc://localhost/doras-face",
    });
});

test("cannot change somebody else's name", async () => {
    // spec: c2s#put_matrixclientv3profileuseridkeyname (Synapse 1.163 answers 400)
    await refused(request(alice, "PUT", `/profile/${encodeURIComponent(bob.getUserId())}/displayname`,
        { body: { displayname: "not my name" } }), 403, "M_FORBIDDEN");
});

test("comes late, and sees the past only where it is shared", async () => {
    const withHistory = (history_visibility) => roomOf(alice, [], {
        preset: "public_chat",
        initial_state: [{ type: "m.room.history_visibility", state_key: "", content: { history_visibility } }],
    });
    const [open, shut] = [await withHistory("shared"), await withHistory("joined")];
    for (const room of [open, shut]) await say(alice, room, "before bob");
    for (const room of [open, shut]) await bob.joinRoom(room);
    const heard = async (room) => {
        const { chunk } = await bob.createMessagesRequest(room, null, 50, "b");
        return chunk.map(({ content }) => content.body).filter(Boolean);
    };
    assert.deepEqual(await heard(open), ["before bob"]);
    assert.deepEqual(await heard(shut), []);
});

test("moves a room to a newer version, and everybody is told where it went", async () => {
    const old = await roomOf(alice, [bob], { room_version: "10", name: "Old house" });
    const { replacement_room: fresh } = await alice.upgradeRoom(old, "12");
    const tombstone = await until("bob sees the tombstone", () =>
        bob.getRoom(old).currentState.getStateEvents("m.room.tombstone", ""));
    assert.equal(tombstone.getContent().replacement_room, fresh);
    const state = await alice.roomState(fresh);
    const content = (wanted) => state.find(({ type }) => type === wanted)?.content;
    assert.equal(content("m.room.create").predecessor.room_id, old);
    assert.equal(content("m.room.create").room_version, "12");
    assert.equal(content("m.room.name").name, "Old house");
    await refused(say(bob, old, "echo?"), 403, "M_FORBIDDEN");
});

test("is a stranger to a room, and learns nothing of it", async () => {
    const room = await roomOf(alice, [bob]);
    const event = await say(alice, room, "between us");
    const eve = clientOf((await register("eve")).session);
    await refused(eve.roomState(room), 403, "M_FORBIDDEN");
    await refused(eve.createMessagesRequest(room, null, 10, "b"), 403, "M_FORBIDDEN");
    const peek = await eve.fetchRoomEvent(room, event).then(() => null, (reason) => reason);
    assert.ok([403, 404].includes(peek?.httpStatus), String(peek));
});
