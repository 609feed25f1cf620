/** End-to-end encryption: what the server must carry for it, seen from two people's devices. */
import assert from "node:assert/strict";
import { before, test } from "node:test";

import { devicesOf, encryptedRoom, person, reads, request, say, signIn, start, syncOnce, until } from "./common.js";

let alice, bob;

before(async () => {
    [alice, bob] = [await person("alice", { encrypted: true }), await person("bob", { encrypted: true })];
});

const secretRoom = () => encryptedRoom(alice, [bob]);

test("two people write to each other in secret, both ways", async () => {
    const room = await secretRoom();
    const question = await say(alice, room, "can anybody hear us?");
    await reads(bob, room, question, "can anybody hear us?");
    await reads(alice, room, await say(bob, room, "nobody"), "nobody");
    const { content } = await alice.fetchRoomEvent(room, question);
    assert.equal(content.algorithm, "m.megolm.v1.aes-sha2");
    assert.ok(!JSON.stringify(content).includes("anybody"), "the server sees only ciphertext");
});

test("a device signed in later reads what is written from then on", async () => {
    const room = await secretRoom();
    await reads(bob, room, await say(alice, room, "before the phone"), "before the phone");
    const phone = await start(await signIn(bob.account), { encrypted: true });
    await until("alice's device knows of the phone", async () =>
        (await devicesOf(alice, bob.getUserId()))?.has(phone.getDeviceId()));
    const later = await say(alice, room, "welcome, phone");
    for (const client of [phone, bob]) await reads(client, room, later, "welcome, phone");
    const fromPhone = await say(phone, room, "thanks");
    for (const client of [alice, bob]) await reads(client, room, fromPhone, "thanks");
});

test("a device that signs out gets no more keys", async () => {
    const room = await secretRoom();
    const tablet = await start(await signIn(bob.account), { encrypted: true });
    const device = tablet.getDeviceId();
    await until("alice's device knows of the tablet", async () =>
        (await devicesOf(alice, bob.getUserId()))?.has(device));
    await tablet.logout(true);
    await until("alice's device forgets the tablet", async () => {
        const { device_keys: keys } = await request(alice, "POST", "/keys/query",
            { body: { device_keys: { [bob.getUserId()]: [] } } });
        return !keys[bob.getUserId()][device];
    });
    await reads(bob, room, await say(alice, room, "still you"), "still you");
});

test("keeps one-time keys in store, gives each of them once, and says how many are left", async () => {
    const carol = await person("carol", { encrypted: true });
    const count = async () => (await syncOnce(carol)).device_one_time_keys_count.signed_curve25519 ?? 0;
    const full = await until("carol's keys are in store", async () => {
        const stored = await count();
        return stored >= 50 && stored;
    });
    carol.stopClient();
    const claim = async () => {
        const { one_time_keys: keys } = await request(alice, "POST", "/keys/claim", {
            body: { one_time_keys: { [carol.getUserId()]: { [carol.getDeviceId()]: "signed_curve25519" } } },
        });
        return Object.keys(keys[carol.getUserId()][carol.getDeviceId()])[0];
    };
    const claimed = [];
    for (let at = 0; at < 3; at++) claimed.push(await claim());
    assert.equal(new Set(claimed).size, 3);
    assert.equal(await count(), full - 3);
});
