/**
 * Two people on two servers that federate: they find each other, become friends, talk, see what the
 * other does, and enter each other's public rooms. Also one client that signs in to another server.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { federate, noServer } from './server.js';
import { PASSWORD, Person, freshName, picture, startBrowser } from './support.js';

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

test('they talk, both ways, and each sees that the other is there', { skip }, async () => {
  await listed(alice, bob).getByRole('img', { name: 'Online' }).waitFor();
  await friends(bob);
  await listed(bob, alice).getByRole('img', { name: 'Online' }).waitFor();
  await listed(alice, bob).getByRole('link', { name: /^Chat/ }).click();
  await listed(bob, alice).getByRole('link', { name: /^Chat/ }).click();
  await alice.say('Hello over there');
  await bob.sees('Hello over there');
  await bob.say('And back again');
  await alice.sees('And back again');
  assert.equal(await alice.message('Hello over there').count(), 1);
});

test('each sees what the other has read, and that the other types', { skip }, async () => {
  await bob.message('And back again').getByText(/^Seen/).waitFor();
  await alice.box.pressSequentially('Well');
  await bob.page.getByText(`${alice.user} is typing`).waitFor();
  await alice.box.fill('');
  await bob.page.getByText(/is typing/).waitFor({ state: 'detached' });
});

test('what is edited, answered by an emoji or taken back is so on the other server too', { skip }, async () => {
  await alice.say('See you at sevn');
  await bob.sees('See you at sevn');
  await alice.act(alice.message('See you at sevn'), 'Edit');
  await alice.box.fill('See you at seven');
  await alice.box.press('Enter');
  await bob.message('See you at seven').getByText('edited').waitFor();
  await bob.act(bob.message('See you at seven'), 'React');
  await bob.page.getByRole('dialog', { name: 'Choose an emoji' }).getByRole('button', { name: '+1' }).first().click();
  const given = alice.message('See you at seven').locator('.reaction-count');
  await given.waitFor();
  await bob.message('See you at seven').locator('.reaction.mine').click();
  await given.waitFor({ state: 'detached' });
  await bob.say('Not meant for here');
  await alice.sees('Not meant for here');
  await bob.act(bob.message('Not meant for here'), 'Delete message');
  await bob.page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await alice.message('Not meant for here').waitFor({ state: 'detached' });
});

test('a picture arrives from the other server', { skip }, async () => {
  await alice.page.getByRole('main').locator('input[type=file]').setInputFiles({ name: 'harbour.png', mimeType: 'image/png', buffer: await picture(alice, 160, 90) });
  await alice.say('The harbour');
  const image = bob.log.getByRole('img', { name: 'harbour.png' });
  await image.waitFor();
  await bob.page.waitForFunction((one) => /** @type {HTMLImageElement} */ (one).naturalWidth > 0, await image.elementHandle());
});

test('a public room of another server is found on its list and joined', { skip }, async () => {
  const name = freshName('Market');
  await alice.createRoom(name, { alias: name.toLowerCase() });
  await bob.page.getByRole('link', { name: 'Explore', exact: true }).click();
  await bob.page.getByLabel('Server to look on').fill(here.name);
  await bob.page.getByRole('button', { name: 'Show' }).click();
  await bob.page.getByRole('button', { name: `Join: ${name}` }).click();
  await bob.box.waitFor();
  await bob.say('What a market');
  await alice.sees('What a market');
});

test('a client of one server signs in to another by its address, and polls there', { skip }, async () => {
  const guest = await Person.at(browser, 'guest', { server: here.url });
  guest.user = bob.user;
  await guest.open();
  await guest.page.getByText('Another server').click();
  await guest.page.getByLabel('Server address').fill(there.url);
  await guest.page.getByLabel('Server address').blur();
  await guest.page.getByLabel('Name').fill(bob.user);
  await guest.page.getByLabel('Password').fill(PASSWORD);
  await guest.page.getByRole('button', { name: 'Sign in' }).click();
  await guest.roomRow(alice.user).first().click();
  await guest.sees('Hello over there');
  assert.equal((await guest.session()).base, there.url);
  await guest.say('From a guest’s chair');
  await alice.roomRow(bob.user).first().click();
  await alice.sees('From a guest’s chair');
  await alice.say('Sit down');
  await guest.sees('Sit down');
  guest.noErrors();
  await guest.context.close();
});

test('no console errors', { skip }, () => {
  alice.noErrors();
  bob.noErrors();
});
