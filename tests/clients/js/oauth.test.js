/**
 * Signing in by OAuth 2.0, as Element does it: the SDK registers the application, sends the
 * person to the server's own page, and exchanges what comes back. The browser is played by
 * `fetch`: it fills in the page's form.
 */
import assert from "node:assert/strict";
import { test } from "node:test";

import { clientOf, person, refused, register, roomOf, sdk, server, stranger, until } from "./common.js";

const HOME = "https://app.example.com/";
const REDIRECT = `${HOME}signed-in`;

const quiet = { trace() {}, debug() {}, info() {}, warn() {}, error() {}, getChild: () => quiet };

/** Whether the server that is tested has it: it need not. */
const offered = await stranger().getAuthMetadata().then(() => true, () => false);

/** An application that has found the server and registered with it. */
async function application(more = {}) {
    const metadata = await stranger().getAuthMetadata();
    const described = { client_name: "Scenarios", client_uri: HOME, application_type: "web", redirect_uris: [REDIRECT] };
    const clientId = await sdk.OAuth2.registerClient(metadata, described, quiet);
    return new sdk.OAuth2(metadata, { clientId, ...more }, quiet);
}

/** What the fields of a page's first form hold. */
const hidden = (page) => Object.fromEntries([...page.matchAll(/type="hidden" name="(\w+)" value="([^"]*)"/g)].map(([, name, value]) => [name, value]));

/** Opens a page of the server, fills its form in, and answers where that leads. */
async function fillIn(url, fields) {
    const page = await fetch(url, { redirect: "manual" });
    const text = await page.text();
    assert.equal(page.status, 200, text);
    const action = new URL(/action="([^"]+)"/.exec(text)[1], server);
    const body = new URLSearchParams({ ...hidden(text.split("</form>")[0]), decision: "allow", ...fields });
    return fetch(action, { method: "POST", body, redirect: "manual" });
}

/** A session that somebody has allowed an application. */
async function signIn(app, account) {
    const url = await app.generateAuthorizationCodeGrantUrl("a state", REDIRECT);
    const sent = await fillIn(url, { name: account.name, password: account.password });
    assert.equal(sent.status, 303, await sent.text());
    const answer = new URLSearchParams(new URL(sent.headers.get("location")).hash.slice(1));
    assert.equal(answer.get("state"), "a state");
    return app.completeAuthorizationCodeGrant(answer.get("code"), REDIRECT);
}

test("somebody signs in on the server's page, chats, and signs out", { skip: !offered }, async () => {
    const friend = await person("friend");
    const account = await register("alice");
    const app = await application();
    const tokens = await signIn(app, account);
    const me = await clientOf({ access_token: tokens.access_token }).whoami();
    assert.equal(me.user_id, account.session.user_id);
    assert.equal(me.device_id, app.context.deviceId);
    const alice = clientOf({ ...me, access_token: tokens.access_token });
    const room = await roomOf(friend, []);
    await friend.invite(room, me.user_id);
    await alice.joinRoom(room);
    await alice.sendTextMessage(room, "hello from a page");
    await until("the friend reads it", () => friend.getRoom(room).getLiveTimeline().getEvents().some((event) => event.getContent().body === "hello from a page"));

    const renewed = await app.performRefreshTokenGrant(tokens.refresh_token);
    assert.notEqual(renewed.access_token, tokens.access_token);
    const again = clientOf({ ...me, access_token: renewed.access_token });
    await again.whoami();
    await refused(alice.whoami(), 401, "M_UNKNOWN_TOKEN");
    await app.revokeToken(renewed.access_token);
    await refused(again.whoami(), 401, "M_UNKNOWN_TOKEN");
});

test("a device without a browser is let in elsewhere", { skip: !offered }, async () => {
    const account = await register("bob");
    const app = await application();
    const begun = await app.startDeviceAuthorizationGrant();
    const waiting = app.waitForDeviceAuthorizationGrant({ ...begun, interval: 5 });
    const done = await fillIn(begun.verification_uri_complete, { name: account.name, password: account.password });
    assert.equal(done.status, 200);
    const tokens = await waiting;
    assert.equal((await clientOf({ access_token: tokens.access_token }).whoami()).user_id, account.session.user_id);
});
