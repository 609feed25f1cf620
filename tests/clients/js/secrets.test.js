/** Trust and keys: cross-signing, verification by emoji, key backup, and who joins an encrypted room later. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { encryptedRoom, membership, person, reads, request, say, signIn, start, until, vault, verifyEachOther } from "./common.js";

/** Cross-signing, secret storage and a key backup, all new. Gives the recovery key. */
async function bootstrap(client, { name, password }) {
    const crypto = client.getCrypto();
    const authUploadDeviceSigningKeys = async (makeRequest) =>
        makeRequest(null).catch(() => makeRequest({
            type: "m.login.password", identifier: { type: "m.id.user", user: name }, password,
        }));
    await crypto.bootstrapCrossSigning({ authUploadDeviceSigningKeys });
    const recovery = await crypto.createRecoveryKeyFromPassphrase();
    await crypto.bootstrapSecretStorage({
        createSecretStorageKey: async () => recovery, setupNewSecretStorage: true, setupNewKeyBackup: true,
    });
    return recovery;
}

test("sets up cross-signing without a password, and each device is signed", async () => {
    const alice = await person("alice", { encrypted: true, cryptoCallbacks: vault() });
    await alice.getCrypto().bootstrapCrossSigning({ authUploadDeviceSigningKeys: (upload) => upload(null) });
    assert.ok(await alice.getCrypto().isCrossSigningReady());
    const status = await alice.getCrypto().getDeviceVerificationStatus(alice.getUserId(), alice.getDeviceId());
    assert.ok(status.signedByOwner);
});

test("backs keys up, and a new session reads old messages with the recovery key alone", async () => {
    const alice = await person("alice", { encrypted: true, cryptoCallbacks: vault() });
    const bob = await person("bob", { encrypted: true });
    const recovery = await bootstrap(alice, alice.account);
    const room = await encryptedRoom(alice, [bob]);
    const old = await say(bob, room, "written before the new phone");
    await reads(alice, room, old, "written before the new phone");
    // The SDK waits for up to ten seconds, by chance, before it sends keys.
    await until("the key is in the backup", async () =>
        (await request(alice, "GET", "/room_keys/version")).count > 0, 30_000);

    const phoneVault = vault();
    const phone = await start(await signIn(alice.account), { encrypted: true, cryptoCallbacks: phoneVault });
    const keyId = await phone.secretStorage.getDefaultKeyId();
    phoneVault.kept.set(keyId, recovery.privateKey);
    assert.ok(await phone.getCrypto().userHasCrossSigningKeys(phone.getUserId(), true));
    await phone.getCrypto().bootstrapCrossSigning({});
    await phone.getCrypto().loadSessionBackupPrivateKeyFromSecretStorage();
    const restored = await phone.getCrypto().restoreKeyBackup();
    assert.ok(restored.imported > 0);
    await reads(phone, room, old, "written before the new phone");
    const trusted = await alice.getCrypto().getDeviceVerificationStatus(alice.getUserId(), alice.getDeviceId());
    assert.ok(trusted.crossSigningVerified);
});

test("two people verify each other by comparing emoji", async () => {
    const alice = await person("alice", { encrypted: true, cryptoCallbacks: vault() });
    const bob = await person("bob", { encrypted: true, cryptoCallbacks: vault() });
    await bootstrap(alice, alice.account);
    await bootstrap(bob, bob.account);
    const room = await encryptedRoom(alice, [bob]);
    await reads(bob, room, await say(alice, room, "hello"), "hello");
    await reads(alice, room, await say(bob, room, "hello"), "hello");

    await verifyEachOther(alice, bob, room);
});

test("who joins an encrypted room later reads what is written from then on, and is read", async () => {
    const alice = await person("alice", { encrypted: true });
    const bob = await person("bob", { encrypted: true });
    const room = await encryptedRoom(alice, [bob]);
    await reads(bob, room, await say(alice, room, "just us"), "just us");
    const carol = await person("carol", { encrypted: true });
    await alice.invite(room, carol.getUserId());
    await carol.joinRoom(room);
    for (const viewer of [alice, bob, carol]) await membership(viewer, room, carol, "join");
    const later = await say(bob, room, "welcome, carol");
    for (const client of [alice, carol]) await reads(client, room, later, "welcome, carol");
    const reply = await say(carol, room, "thank you");
    for (const client of [alice, bob]) await reads(client, room, reply, "thank you");
});
