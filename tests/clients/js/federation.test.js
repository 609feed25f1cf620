/**
 * End-to-end encryption between people of two servers, of Hearth both or one of Synapse: what each server must carry
 * to the other.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { close, devicesOf, encryptedRoom, person, reads, say, signIn, start, until, vault, verifyEachOther }
    from "./common.js";
import { Hearth, Synapse, federate, noServers, noSynapse } from "./servers.js";

for (const [name, other, skip] of [["Hearth", Hearth, noServers], ["Synapse", Synapse, noSynapse]]) {
    describe(`people of Hearth and of ${name}`, { skip }, () => {
        let here, there, end, alice, bob;

        before(async () => {
            if (skip) return;
            ({ servers: [here, there], end } = await federate(Hearth, other));
            alice = await person("alice", { at: here.url, encrypted: true, cryptoCallbacks: vault() });
            bob = await person("bob", { at: there.url, encrypted: true, cryptoCallbacks: vault() });
        });
        after(async () => {
            for (const client of [alice, bob]) if (client) close(client);
            await end?.();
        });

        test("two people of two servers write to each other in secret, whoever made the room", async () => {
            assert.ok(alice.getUserId().endsWith(here.name) && bob.getUserId().endsWith(there.name));
            for (const [one, friend] of [[alice, bob], [bob, alice]]) {
                const room = await encryptedRoom(one, [friend]);
                await reads(friend, room, await say(one, room, "can anybody hear us?"), "can anybody hear us?");
                await reads(one, room, await say(friend, room, "nobody"), "nobody");
            }
        });

        test("a device signed in later is seen by the other server's people, and reads what they write", async () => {
            const room = await encryptedRoom(alice, [bob]);
            await reads(bob, room, await say(alice, room, "before the phone"), "before the phone");
            const phone = await start(await signIn(bob.account), { encrypted: true });
            await until("alice's device knows of the phone", async () =>
                (await devicesOf(alice, bob.getUserId()))?.has(phone.getDeviceId()));
            const later = await say(alice, room, "welcome, phone");
            for (const client of [phone, bob]) await reads(client, room, later, "welcome, phone");
            const fromPhone = await say(phone, room, "thanks");
            for (const client of [alice, bob]) await reads(client, room, fromPhone, "thanks");
            await phone.logout(true);
            await until("alice's device forgets the phone", async () =>
                !(await devicesOf(alice, bob.getUserId()))?.has(phone.getDeviceId()));
            await reads(bob, room, await say(alice, room, "just us"), "just us");
        });

        test("people of two servers see whose device is signed, and verify each other by emoji", async () => {
            const room = await encryptedRoom(alice, [bob]);
            await reads(bob, room, await say(alice, room, "hello"), "hello");
            for (const one of [alice, bob]) {
                await one.getCrypto().bootstrapCrossSigning({ authUploadDeviceSigningKeys: (upload) => upload(null) });
            }
            for (const [one, friend] of [[alice, bob], [bob, alice]]) {
                const them = friend.getUserId();
                await until(`${one.getUserId()} sees that ${them} has signed their device`, async () => {
                    await one.getCrypto().getUserDeviceInfo([them], true);
                    const status = await one.getCrypto().getDeviceVerificationStatus(them, friend.getDeviceId());
                    return status?.signedByOwner;
                });
            }
            await verifyEachOther(alice, bob, room);
        });

        test("what is written in secret while the other server is gone is read when it is back", async () => {
            const room = await encryptedRoom(alice, [bob]);
            await reads(bob, room, await say(alice, room, "before"), "before");
            await there.kill();
            const said = [];
            for (let n = 0; n < 5; n++) said.push(await say(alice, room, `meanwhile ${n}`));
            await there.up();
            // Its people's clients go on by themselves, and what they ask shows the other server that it is back.
            await until("bob's server is heard", () => bob.getProfileInfo(alice.getUserId()).catch(() => false));
            await until("the last of it", () => bob.getRoom(room)?.findEventById(said.at(-1)), 60_000);
            for (const [n, id] of said.entries()) await reads(bob, room, id, `meanwhile ${n}`);
        });
    });
}
