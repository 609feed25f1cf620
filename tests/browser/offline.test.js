/**
 * When things break: the server restarts in the middle of a chat, the network is slow, a page
 * closes with something unsent, one person has two tabs, an account has 300 rooms.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Server, noServer } from './server.js';
import { Person, send, startBrowser, until } from './support.js';

const skip = noServer;
let browser, server, alice, bob, room;

before(async () => {
  if (skip) return;
  [browser, server] = await Promise.all([startBrowser(), Server.start()]);
  alice = await Person.at(browser, 'alice', { server: server.url });
  bob = await Person.at(browser, 'bob', { server: server.url });
  await alice.register();
  await bob.register();
  room = await alice.createRoom('Weather');
  await alice.invite(bob);
  await bob.accept('Weather');
});
after(async () => {
  await browser?.close();
  await server?.end();
});

test('what is written while the server is down arrives after, once and in order', { skip }, async () => {
  alice.expectsTrouble = bob.expectsTrouble = true;
  await alice.say('Before the storm');
  await bob.sees('Before the storm');
  await server.down();
  for (const text of ['In the storm, one', 'In the storm, two']) await alice.say(text);
  await alice.page.getByText('No connection. Trying again').waitFor();
  await alice.message('In the storm, two').waitFor();
  await server.up();
  await bob.sees('In the storm, two');
  const storm = (person) => person.log.locator('.message .said', { hasText: 'In the storm' }).allTextContents();
  assert.deepEqual(await storm(bob), ['In the storm, one', 'In the storm, two']);
  await until(async () => (await alice.log.locator('.message.sending, .message.failed').count()) === 0, 'sent');
  assert.deepEqual(await storm(alice), ['In the storm, one', 'In the storm, two']);
  await bob.say('The sun is back');
  await alice.sees('The sun is back');
  alice.expectsTrouble = bob.expectsTrouble = false;
});

test('a page that closes with something unsent sends it when it opens again', { skip }, async () => {
  alice.expectsTrouble = true;
  await alice.context.route('**/_matrix/**', (route) => route.abort());
  await alice.context.routeWebSocket(/.*/, (socket) => socket.close());
  await alice.page.reload();
  await alice.say('Written in the tunnel');
  await alice.message('Written in the tunnel').waitFor();
  await alice.page.reload();
  await alice.message('Written in the tunnel').waitFor();
  await alice.context.unroute('**/_matrix/**');
  await bob.sees('Written in the tunnel');
  assert.equal(await bob.message('Written in the tunnel').count(), 1);
  await until(async () => (await alice.message('Written in the tunnel').getByText(/Waiting|Not sent/).count()) === 0, 'sent');
  assert.equal(await alice.message('Written in the tunnel').count(), 1);
  alice.expectsTrouble = false;
});

test('on a slow network the page shows what it knows at once, and the rest as it comes', { skip }, async () => {
  const chrome = await bob.context.newCDPSession(bob.page);
  await chrome.send('Network.enable');
  await chrome.send('Network.emulateNetworkConditions', { offline: false, latency: 400, downloadThroughput: 50_000, uploadThroughput: 20_000 });
  await bob.say('Slowly but surely');
  assert.ok(await bob.message('Slowly but surely').isVisible(), 'shown before it is there');
  await alice.sees('Slowly but surely');
  await alice.say('I hear you');
  await bob.sees('I hear you');
  await chrome.send('Network.emulateNetworkConditions', { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
  await chrome.detach();
});

test('two tabs of one person see the same, and what one leaves the next start finds', { skip }, async () => {
  const second = await bob.context.newPage();
  bob.watch(second);
  await second.goto(bob.page.url());
  const sees = (page, text) => page.getByRole('log').getByRole('listitem').filter({ hasText: text }).first().waitFor();
  await sees(second, 'I hear you');
  await second.getByRole('textbox', { name: /^Message to/ }).fill('From the second tab');
  await second.getByRole('textbox', { name: /^Message to/ }).press('Enter');
  await bob.sees('From the second tab');
  await alice.sees('From the second tab');
  assert.equal(await bob.message('From the second tab').count(), 1);
  // The first tab wrote; when it closes, the other goes on from there.
  await bob.page.close();
  bob.page = second;
  await alice.say('Only one tab now');
  await bob.sees('Only one tab now');
  await alice.page.getByRole('link', { name: 'Hearth' }).click();
  bob.expectsTrouble = true;
  await bob.context.route('**/_matrix/**', (route) => route.abort());
  await until(async () => {
    await second.reload();
    return (await bob.message('Only one tab now').count()) > 0 || (await sees(second, 'Only one tab now').then(() => true, () => false));
  }, 'the last state, from the disk');
  await bob.context.unroute('**/_matrix/**');
  bob.expectsTrouble = false;
});

test('signing out in one tab ends the other, and leaves nothing', { skip }, async () => {
  const carol = await Person.at(browser, 'carol', { server: server.url });
  await carol.register();
  const second = await carol.context.newPage();
  await second.goto(carol.page.url());
  await second.getByRole('navigation', { name: 'Rooms' }).waitFor();
  carol.expectsTrouble = true;
  await carol.page.getByRole('button', { name: 'Your account' }).click();
  await carol.page.getByRole('menuitem', { name: 'Sign out' }).click();
  await carol.page.getByRole('button', { name: 'Sign in' }).waitFor();
  await second.getByRole('button', { name: 'Sign in' }).waitFor({ timeout: 40_000 });
  assert.equal(await second.evaluate(() => localStorage.getItem('hearth.session')), null);
  await until(async () => (await second.evaluate(async () => (await indexedDB.databases()).length)) === 0, 'no database');
  await carol.context.close();
});

test('an account with 300 rooms opens, filters and scrolls', { skip }, async () => {
  const dora = await Person.at(browser, 'dora', { server: server.url });
  await dora.register();
  for (let n = 1; n <= 300; n += 10) {
    await Promise.all(Array.from({ length: 10 }, (_, at) => dora.call('POST', '/createRoom', { name: `Room number ${n + at}`, preset: 'private_chat' })));
  }
  await dora.page.reload();
  await dora.roomRow('Room number').first().waitFor();
  assert.ok((await dora.page.locator('.room-row').count()) < 60, 'only rows in sight are in the document');
  await dora.page.keyboard.press('Control+k');
  await dora.page.keyboard.type('number 217');
  await dora.roomRow('Room number 217').waitFor();
  await dora.page.keyboard.press('Enter');
  await dora.page.getByRole('heading', { name: 'Room number 217', level: 1 }).waitFor();
  await dora.shot('many-rooms');
  dora.noErrors();
  await dora.context.close();
});

test('no console errors', { skip }, () => {
  alice.noErrors();
  bob.noErrors();
});
