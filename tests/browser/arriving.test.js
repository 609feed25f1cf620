/**
 * A room of another server that is entered before that one has told of all its members: it says so,
 * until they are there. Its servers don't tell each other who is online.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { federate, noServer } from './server.js';
import { Person, freshName, startBrowser } from './support.js';

const skip = noServer;
let browser, here, there, end, alice, bob;
const name = freshName('Harbour');

before(async () => {
  if (skip) return;
  browser = await startBrowser();
  ({ servers: [here, there], end } = await federate(2, { gated: true, presence: false }));
  alice = await Person.at(browser, 'alice', { server: here.url });
  bob = await Person.at(browser, 'bob', { server: there.url });
  for (const person of [alice, bob]) {
    person.page.setDefaultTimeout(30_000);
    await person.register();
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
  await line().waitFor();
  await bob.say('Here before the list');
  await alice.sees('Here before the list');
  await bob.page.getByRole('link', { name: 'Members' }).click();
  await pane().getByText('The rest of its members are being fetched').waitFor();
  assert.equal(await pane().getByRole('alert').count(), 0);
  await bob.shot('arriving-light');
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

test('no console errors', { skip }, () => {
  alice.noErrors();
  bob.noErrors();
});
