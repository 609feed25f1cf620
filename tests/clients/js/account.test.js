/** Having an account: registering, signing in, sessions, signing out. */
import assert from "node:assert/strict";
import { before, test } from "node:test";

import { clientOf, freshName, refused, register, signIn, stranger } from "./common.js";

let alice;

before(async () => {
    alice = await register("alice");
});

test("registers, and is told who they are", async () => {
    const account = await register("carol");
    assert.equal(account.session.user_id, `@${account.name}:localhost`);
    const me = await clientOf(account.session).whoami();
    assert.equal(me.user_id, account.session.user_id);
    assert.equal(me.device_id, account.session.device_id);
    assert.notEqual(me.is_guest, true);
});

test("learns whether a name is free, and cannot take a taken one", async () => {
    assert.equal(await stranger().isUsernameAvailable(freshName("nobody")), true);
    assert.equal(await stranger().isUsernameAvailable(alice.name), false);
    const wish = { username: alice.name, password: "a password of somebody else" };
    await refused(stranger().registerRequest(wish), 400, "M_USER_IN_USE");
});

test("sees what the server offers", async () => {
    const { flows } = await stranger().loginFlows();
    assert.ok(flows.some(({ type }) => type === "m.login.password"));
    assert.equal(await stranger().isVersionSupported("v1.11"), true);
    const capabilities = await clientOf(alice.session).getCapabilities();
    const versions = capabilities["m.room_versions"];
    assert.equal(versions.available[versions.default], "stable");
});

test("signs in with the password, on a device of its own", async () => {
    const session = await signIn(alice, { initial_device_display_name: "phone" });
    assert.equal(session.user_id, alice.session.user_id);
    assert.notEqual(session.device_id, alice.session.device_id);
    assert.notEqual(session.access_token, alice.session.access_token);
    assert.equal((await clientOf(session).whoami()).device_id, session.device_id);
});

test("signs in with the full user ID", async () => {
    const session = await signIn({ ...alice, name: alice.session.user_id });
    assert.equal(session.user_id, alice.session.user_id);
});

test("signs in again on the same device, which ends its earlier token", async () => {
    const first = await signIn(alice);
    const again = await signIn(alice, { device_id: first.device_id });
    assert.equal(again.device_id, first.device_id);
    assert.equal((await clientOf(again).whoami()).device_id, first.device_id);
    // spec: c2s#relationship-between-access-tokens-and-devices (Synapse 1.163 keeps it)
    await refused(clientOf(first).whoami(), 401, "M_UNKNOWN_TOKEN");
});

test("cannot sign in with a wrong password, which sounds the same as an unknown name", async () => {
    const wrong = await refused(signIn({ ...alice, password: "wrong" }), 403, "M_FORBIDDEN");
    const unknown = await refused(
        signIn({ name: freshName("nobody"), password: "wrong" }), 403, "M_FORBIDDEN",
    );
    assert.deepEqual(wrong.data, unknown.data);
});

test("refreshes a session, for which a refresh token serves once", async () => {
    const old = await signIn(alice, { refresh_token: true });
    assert.ok(old.refresh_token && old.expires_in_ms > 0);
    const fresh = await stranger().refreshToken(old.refresh_token);
    assert.notEqual(fresh.access_token, old.access_token);
    const me = await clientOf({ ...old, access_token: fresh.access_token }).whoami();
    assert.equal(me.device_id, old.device_id);
    // spec: c2s#post_matrixclientv3refresh: used up once what it gave is in use (Synapse 1.163: 403)
    await refused(stranger().refreshToken(old.refresh_token), 401, "M_UNKNOWN_TOKEN");
    const next = await stranger().refreshToken(fresh.refresh_token);
    assert.ok(next.access_token);
});

test("signs out of one session, and the others stay", async () => {
    const [phone, laptop] = [await signIn(alice), await signIn(alice)];
    await clientOf(phone).logout();
    const dead = await refused(clientOf(phone).whoami(), 401, "M_UNKNOWN_TOKEN");
    assert.notEqual(dead.data.soft_logout, true);
    assert.equal((await clientOf(laptop).whoami()).device_id, laptop.device_id);
});

test("signs out everywhere", async () => {
    const dora = await register("dora");
    const phone = await signIn(dora);
    const laptop = clientOf(await signIn(dora));
    await laptop.http.authedRequest("POST", "/logout/all");
    for (const session of [dora.session, phone]) {
        await refused(clientOf(session).whoami(), 401, "M_UNKNOWN_TOKEN");
    }
    await refused(laptop.whoami(), 401, "M_UNKNOWN_TOKEN");
    assert.equal((await signIn(dora)).user_id, dora.session.user_id);
});

test("gets nowhere without a token or with a made-up one", async () => {
    await refused(stranger().http.request("GET", "/account/whoami"), 401, "M_MISSING_TOKEN");
    const forged = clientOf({ ...alice.session, access_token: "made-up" });
    await refused(forged.whoami(), 401, "M_UNKNOWN_TOKEN");
});
