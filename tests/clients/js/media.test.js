/** Files: uploading, and downloading what was uploaded. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { before, test } from "node:test";

import { clientOf, hears, person, register, roomOf, server } from "./common.js";

let alice, bob;

before(async () => {
    [alice, bob] = [await person("alice"), await person("bob")];
});

const download = (client, mxc, token = client.getAccessToken()) =>
    fetch(client.mxcUrlToHttp(mxc, undefined, undefined, undefined, false, true, true),
        { headers: token ? { Authorization: `Bearer ${token}` } : {} });

test("sends a file to a room, and the other one gets it to the byte", async () => {
    const room = await roomOf(alice, [bob]);
    const bytes = randomBytes(300_000);
    const { content_uri: mxc } = await alice.uploadContent(new Blob([bytes]), {
        name: "Überraschung.bin", type: "application/octet-stream",
    });
    assert.match(mxc, /^mxc:\/\/localhost\/[A-Za-z0-9_-]+$/);
    const { event_id: id } = await alice.sendMessage(room, { msgtype: "m.file", body: "a surprise", url: mxc });
    const { url } = (await hears(bob, room, id)).getContent();
    const answer = await download(bob, url);
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get("content-type"), "application/octet-stream");
    assert.match(answer.headers.get("content-disposition"), /^attachment; .*filename\*=utf-8''%C3%9Cberraschung\.bin/i);
    assert.deepEqual(Buffer.from(await answer.arrayBuffer()), bytes);
});

test("downloads nothing without being signed in", async () => {
    const { content_uri: mxc } = await alice.uploadContent(new Blob(["hello"]), { type: "text/plain" });
    assert.equal((await download(alice, mxc, null)).status, 401);
    assert.equal((await download(alice, mxc, "made-up")).status, 401);
    const carol = clientOf((await register("carol")).session);
    const answer = await download(carol, mxc);
    assert.equal(await answer.text(), "hello");
});

test("asks for a file that does not exist", async () => {
    const answer = await download(alice, "mxc://localhost/neverUploaded");
    assert.equal(answer.status, 404);
    assert.equal((await answer.json()).errcode, "M_NOT_FOUND");
});

test("is told how large a file may be", async () => {
    const { "m.upload.size": limit } = await alice.getMediaConfig(true);
    assert.ok(Number.isInteger(limit) && limit >= 1_000_000);
});

test("cannot make the browser run an uploaded page", async () => {
    const page = new Blob(["<script>alert(1)</script>"]);
    const { content_uri: mxc } = await alice.uploadContent(page, { type: "text/html", name: "page.html" });
    const answer = await download(alice, mxc);
    assert.match(answer.headers.get("content-disposition"), /^attachment/);
    assert.match(answer.headers.get("content-security-policy"), /sandbox/);
    assert.ok(answer.url.startsWith(server));
});
