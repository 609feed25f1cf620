/**
 * People for the scenarios: accounts, signed-in clients, rooms that they share, and
 * waiting for something to become true.
 *
 * The only file that knows where the server is (HEARTH_URL). It knows no scenario.
 * Nothing here sleeps to synchronise: `until` asks again and again and has a deadline,
 * which is far shorter than a long-poll (30 s), so that an answer which only comes
 * when a poll times out fails the scenario.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after } from "node:test";

import * as sdk from "matrix-js-sdk";

export { sdk };

// The SDK is written for Node 22; this is the one thing that it misses on Node 20.
Promise.withResolvers ??= () => {
    const parts = {};
    parts.promise = new Promise((resolve, reject) => Object.assign(parts, { resolve, reject }));
    return parts;
};

export const server = (() => {
    const url = process.env.HEARTH_URL;
    if (!url) throw new Error("HEARTH_URL must hold the address of a running server");
    return url.replace(/\/$/, "");
})();

const DEADLINE_MS = 30_000;

// Some of the SDK's parts write to the console whatever logger they are given.
for (const level of ["trace", "debug", "info", "warn"]) console[level] = () => {};

const quiet = { trace() {}, debug() {}, info() {}, warn() {}, error() {}, getChild: () => quiet };

const running = new Set();
after(() => running.forEach((client) => client.stopClient()));

/** The first true answer of `probe`; fails, saying `what` was awaited, after the deadline. */
export async function until(what, probe, deadlineMs = DEADLINE_MS) {
    const end = Date.now() + deadlineMs;
    for (;;) {
        const answer = await probe();
        if (answer) return answer;
        if (Date.now() > end) throw new Error(`waited ${deadlineMs} ms in vain until ${what}`);
        await new Promise((resolve) => setTimeout(resolve, 10));
    }
}

/** That the server refuses, with this status and this Matrix error code (or one of these). */
export async function refused(request, status, ...errcodes) {
    const wanted = `${status} ${errcodes.join(" or ")}`;
    const error = await request.then(
        () => assert.fail(`expected ${wanted}, but the request succeeded`),
        (reason) => reason,
    );
    const found = `expected ${wanted}, but: ${error}`;
    assert.equal(error.httpStatus, status, found);
    assert.ok(errcodes.includes(error.errcode), found);
    return error;
}

/** A client that has no account yet. */
export const stranger = (at = server) => sdk.createClient({ baseUrl: at, logger: quiet });

/** A name that nobody on this server has. */
export const freshName = (name) => `${name}-${randomBytes(5).toString("hex")}`;

/**
 * A new account, on another server if its address is given: `{ name, password, at, session }`, where
 * `session` is the answer of the server with the address `at`.
 */
export async function register(name, at = server) {
    const account = { name: freshName(name), password: randomBytes(12).toString("hex"), at };
    const wish = { username: account.name, password: account.password };
    // spec: c2s#user-interactive-authentication-api: ask, be told the stages, complete them.
    const asked = await stranger(at)
        .registerRequest(wish)
        .then(() => assert.fail("registered without any stage"), (reason) => reason);
    assert.equal(asked.httpStatus, 401);
    assert.ok(asked.data.flows.some(({ stages }) => stages.join() === "m.login.dummy"));
    const auth = { type: "m.login.dummy", session: asked.data.session };
    account.session = { ...await stranger(at).registerRequest({ ...wish, auth }), at };
    return account;
}

/** A new session of an account, on a new device. */
export const signIn = async ({ name, password, at = server }, extra = {}) => {
    const session = await stranger(at).loginRequest({
        type: "m.login.password",
        identifier: { type: "m.id.user", user: name },
        password,
        ...extra,
    });
    return { ...session, at };
};

/** A client with a session which makes requests but does not sync. */
export const clientOf = (session, extra = {}) =>
    sdk.createClient({
        baseUrl: session.at ?? server,
        userId: session.user_id,
        deviceId: session.device_id,
        accessToken: session.access_token,
        timelineSupport: true,
        logger: quiet,
        ...extra,
    });

/** A client that syncs, ready to use; it is stopped when the file's scenarios are over. */
export async function start(session, { encrypted = false, cryptoCallbacks, ...options } = {}) {
    const client = clientOf(session, { cryptoCallbacks });
    if (encrypted) await client.initRustCrypto({ useIndexedDB: false });
    running.add(client);
    await client.startClient({ initialSyncLimit: 20, ...options });
    await until(`${session.user_id} has synced`, () => client.isInitialSyncComplete());
    return client;
}

/** Stops a client, as when its window is closed. */
export function close(client) {
    client.stopClient();
    running.delete(client);
}

/** A new person with a syncing client, at `at` if it is given. The account is kept as `client.account`. */
export async function person(name, { at, ...options } = {}) {
    const account = await register(name, at);
    return Object.assign(await start(account.session, options), { account });
}

/** A room of `owner`'s that all `guests` have joined, as everybody's client sees. */
export async function roomOf(owner, guests = [], options = {}) {
    const { room_id: room } = await owner.createRoom({
        preset: "private_chat",
        invite: guests.map((guest) => guest.getUserId()),
        ...options,
    });
    for (const guest of guests) await guest.joinRoom(room);
    const people = [owner, ...guests];
    for (const viewer of people) {
        for (const member of people) await membership(viewer, room, member, "join");
    }
    return room;
}

/** Until `viewer`'s client shows `member` with this membership. */
export const membership = (viewer, room, member, wanted) =>
    until(`${viewer.getUserId()} sees ${member.getUserId()} as ${wanted}`, () => {
        const found = viewer.getRoom(room)?.getMember(member.getUserId());
        return found?.membership === wanted && found;
    });

/** Sends a text and gives its event ID. */
export const say = async (client, room, body) =>
    (await client.sendTextMessage(room, body)).event_id;

/** Until a client's live timeline holds the event; gives the event. */
export const hears = (client, room, eventId) =>
    until(`${client.getUserId()} hears ${eventId}`, () =>
        client.getRoom(room)?.getLiveTimeline().getEvents().find((event) => event.getId() === eventId),
    );

/** Until a client has an encrypted event and reads it. */
export const reads = async (client, room, id, text) => {
    const event = await hears(client, room, id);
    assert.equal(event.getWireType(), "m.room.encrypted");
    await until(`${client.getUserId()} decrypts ${id}`, () => event.getContent().body === text);
};

/** The secrets of a person, as an app would ask them for their recovery key. */
export const vault = () => {
    const kept = new Map();
    return {
        getSecretStorageKey: async ({ keys }) => {
            const id = Object.keys(keys).find((key) => kept.has(key));
            return id ? [id, kept.get(id)] : null;
        },
        cacheSecretStorageKey: (id, _, key) => kept.set(id, key),
        kept,
    };
};

/** Two people with cross-signing verify each other in a room of theirs, by comparing emoji. */
export async function verifyEachOther(alice, bob, room) {
    const incoming = new Promise((resolve) => bob.once(sdk.Crypto?.CryptoEvent?.VerificationRequestReceived
        ?? "crypto.verificationRequestReceived", resolve));
    const asked = await alice.getCrypto().requestVerificationDM(bob.getUserId(), room);
    const answered = await incoming;
    await answered.accept();
    await until("alice sees that bob is ready", () => asked.phase >= 3);
    const [mine, theirs] = [await asked.startVerification("m.sas.v1"), until("bob is asked to compare", () => answered.verifier)];
    const sas = (verifier) => new Promise((resolve) => {
        const shown = verifier.getShowSasCallbacks();
        if (shown) resolve(shown);
        else verifier.once("show_sas", resolve);
    });
    const verifier = await theirs;
    const [hers, his] = [sas(mine), sas(verifier)];
    const done = [mine.verify(), verifier.verify()];
    const [one, two] = await Promise.all([hers, his]);
    assert.deepEqual(one.sas.emoji, two.sas.emoji);
    await Promise.all([one.confirm(), two.confirm()]);
    await Promise.all(done);
    for (const [client, other] of [[alice, bob], [bob, alice]]) {
        await until(`${client.getUserId()} trusts ${other.getUserId()}`, async () =>
            (await client.getCrypto().getUserVerificationStatus(other.getUserId())).isCrossSigningVerified());
    }
}

/** One request of the client API, below the SDK's own state. */
export const request = (client, method, path, { query, body, ...options } = {}) =>
    client.http.authedRequest(method, path, query, body, options);

/** One answer of `/sync`, below the SDK's own state; by default without waiting. */
export const syncOnce = (client, { since, filter, timeout = 0, ...rest } = {}) =>
    request(client, "GET", "/sync", {
        query: {
            timeout,
            ...(since && { since }),
            ...(filter && { filter: typeof filter === "string" ? filter : JSON.stringify(filter) }),
            ...rest,
        },
    });

/** A room of `owner`'s that is encrypted from its first message on. */
export const encryptedRoom = (owner, guests) => roomOf(owner, guests, {
    initial_state: [{
        type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" },
    }],
});

/** Somebody's devices, as a client sees them when it asks anew. */
export const devicesOf = async (client, user) =>
    (await client.getCrypto().getUserDeviceInfo([user], true)).get(user);
