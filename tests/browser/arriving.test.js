/**
 * A room of another server that is entered before that one has told of all its members: it says so,
 * until they are there. Its servers don't tell each other who is online.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { clean } from './axe.js';
import { federate, noServer } from './server.js';
import { Person, freshName, startBrowser } from './support.js';

const skip = noServer;
let room, browser, here, there, end, alice, bob;
const name = freshName('Harbour');

before(async () => {
  if (skip) return;
  browser = await startBrowser();
  ({ servers: [here, there], end } = await federate(2, { gated: true, presence: false, isNew: true }));
  alice = await Person.at(browser, 'alice', { server: here.url });
  bob = await Person.at(browser, 'bob', { server: there.url });
  for (const person of [alice, bob]) {
    person.page.setDefaultTimeout(30_000);
    await person.register();
    // Each is the first of a server.
    await person.page.getByRole('dialog').getByRole('button', { name: 'Later' }).click();
  }
});
after(async () => {
  await browser?.close();
  await end?.();
});

const line = () => bob.page.getByRole('main').getByText('Members are still arriving');
const pane = () => bob.page.getByRole('complementary', { name: 'Members' });

test('a room is used at once, and says that its members are still arriving', { skip }, async () => {
  await alice.createRoom(name, { alias: name.toLowerCase(), topic: 'Boats and tides' });
  here.shut = /\/federation\/v1\/state\//;
  await bob.newRoom('Join a room');
  const dialog = bob.page.getByRole('dialog');
  await dialog.getByLabel('Address').fill(`#${name.toLowerCase()}:${here.name}`);
  await dialog.getByRole('button', { name: 'Join', exact: true }).click();
  await bob.box.waitFor();
  room = bob.roomId();
  await line().waitFor();
  await bob.say('Here before the list');
  await alice.sees('Here before the list');
  await bob.page.getByRole('link', { name: 'Members' }).click();
  await pane().getByText('The rest of its members are being fetched').waitFor();
  assert.equal(await pane().getByRole('alert').count(), 0);
  await bob.shot('arriving-light');
  await clean(bob, 'members are arriving');
});

test('it goes on saying so after a reload', { skip }, async () => {
  await bob.page.reload();
  await line().waitFor();
});

test('once they are there the line goes, and all are listed', { skip }, async () => {
  here.open();
  await line().waitFor({ state: 'detached' });
  await bob.page.getByTitle('Boats and tides').waitFor();
  await pane().getByText('2 members').waitFor();
  await pane().getByRole('link', { name: alice.user }).waitFor();
  assert.equal(await pane().getByText('The rest of its members').count(), 0);
});

test('where servers don’t tell who is online, nobody of the other server has a dot, and one’s own is as one says', { skip }, async () => {
  assert.equal(await pane().getByRole('link', { name: alice.user }).getByRole('img').count(), 0);
  await bob.settings('Profile');
  await bob.page.getByRole('radio', { name: 'Invisible' }).check();
  await bob.page.getByText('people on other servers, if the servers tell each other').waitFor();
});

test('the administrator sees the other server, and whether it answers', { skip }, async () => {
  const peer = bob.page.getByRole('main').getByRole('listitem').filter({ hasText: here.name });
  await bob.open('#/admin/health');
  await peer.getByText('In touch').waitFor();
  await bob.page.getByText('Clients connected').waitFor();
  await bob.page.getByText(/^Others find this server at localhost:/).waitFor();
  alice.noErrors();
  await alice.context.close();
  await here.down();
  await bob.open(`#/room/${room}`);
  await bob.say('Is anybody there?');
  // The page keeps up by itself.
  await bob.open('#/admin/health');
  await peer.getByText('First failed').waitFor({ timeout: 60_000 });
  await peer.getByText('the connection was closed').waitFor();
  await bob.page.emulateMedia({ colorScheme: 'light' });
  await bob.shot('admin-peers-light');
  await clean(bob, 'a server that does not answer');
  await here.up();
  await peer.getByRole('button', { name: 'Try now' }).click();
  await peer.getByText('In touch').waitFor({ timeout: 60_000 });
});

test('no console errors', { skip }, () => bob.noErrors());
