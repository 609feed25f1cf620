/**
 * Two people on two servers that federate: they find each other, become friends, and enter each
 * other's public rooms.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { federate, noServer } from './server.js';
import { Person, freshName, startBrowser } from './support.js';

const skip = noServer;
let browser, here, there, end, alice, bob;

before(async () => {
  if (skip) return;
  browser = await startBrowser();
  ({ servers: [here, there], end } = await federate(2));
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

const friends = (person) => person.page.getByRole('navigation', { name: 'Rooms' }).getByRole('link', { name: /^Friends/ }).click();
const listed = (at, other) => at.page.getByRole('main').getByRole('listitem').filter({ hasText: other.user });

test('somebody on another server is found by their address, asked with a note, and accepts', { skip }, async () => {
  const { userId } = await bob.session();
  assert.ok(userId.endsWith(there.name));
  await friends(alice);
  await alice.page.getByRole('navigation', { name: 'Parts of the friends page' }).getByRole('link', { name: 'Add a friend' }).click();
  await alice.page.getByRole('searchbox', { name: 'Name or full address' }).fill(userId);
  await alice.page.getByRole('button', { name: /^Ask to be friends/ }).first().click();
  await alice.page.getByRole('dialog').getByLabel('Note').fill('From the other town');
  await alice.page.getByRole('dialog').getByRole('button', { name: 'Send request' }).click();
  await bob.page.getByRole('img', { name: '1 friend request' }).waitFor();
  await bob.roomRow('wants to be friends').click();
  await bob.page.getByText('From the other town').waitFor();
  await bob.page.getByRole('button', { name: 'Accept' }).click();
  await bob.box.waitFor();
  await alice.page.getByRole('navigation', { name: 'Parts of the friends page' }).getByRole('link', { name: 'Friends' }).click();
  await listed(alice, bob).getByRole('link', { name: /^Chat/ }).waitFor();
});

test('a public room of another server is found on its list and joined', { skip }, async () => {
  const name = freshName('Market');
  await alice.createRoom(name, { alias: name.toLowerCase() });
  await bob.page.getByRole('link', { name: 'Explore' }).click();
  await bob.page.getByLabel('Server to look on').fill(here.name);
  await bob.page.getByRole('button', { name: 'Show' }).click();
  await bob.page.getByRole('button', { name: `Join: ${name}` }).click();
  await bob.box.waitFor();
  await bob.say('What a market');
  await alice.sees('What a market');
});

test('no console errors', { skip }, () => {
  alice.noErrors();
  bob.noErrors();
});
