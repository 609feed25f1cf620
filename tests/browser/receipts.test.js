/**
 * Who read what and who is typing, as the seventh point has it: pictures at messages,
 * names and times when asked, seen and delivered in a chat of two, reading in private.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Person, send, startBrowser, until } from './support.js';

let browser, alice, bob, carol, room;

before(async () => {
  browser = await startBrowser();
  [alice, bob, carol] = await Promise.all(['alice', 'bob', 'carol'].map((name) => Person.at(browser, name)));
  for (const person of [alice, bob, carol]) await person.register();
  room = await alice.createRoom('Readers');
  for (const person of [bob, carol]) {
    await alice.invite(person);
    await person.accept('Readers');
  }
});
after(() => browser?.close());

test('small pictures show who has read up to where, with names and times when asked', async () => {
  await alice.say('Read this');
  await bob.sees('Read this');
  await carol.sees('Read this');
  const faces = alice.message('Read this').getByRole('button', { name: new RegExp(`^Read by (${bob.user} and ${carol.user}|${carol.user} and ${bob.user})$`) });
  await faces.waitFor();
  assert.equal(await faces.locator('.avatar').count(), 2);
  await faces.click();
  const dialog = alice.page.getByRole('dialog', { name: 'Read by 2 people' });
  await dialog.getByText(bob.user).waitFor();
  await dialog.locator('time').first().waitFor();
  await alice.shot('read-by');
  await alice.page.keyboard.press('Escape');
});

test('one who has not looked has not read', async () => {
  await carol.page.getByRole('link', { name: 'Hearth' }).click();
  await alice.say('And this');
  await bob.sees('And this');
  await alice.message('And this').getByRole('button', { name: `Read by ${bob.user}` }).waitFor();
  await alice.message('Read this').getByRole('button', { name: `Read by ${carol.user}` }).waitFor();
});

test('who types is told, also when there are several', async () => {
  await bob.box.pressSequentially('I');
  await alice.page.getByText(`${bob.user} is typing`).waitFor();
  await carol.roomRow('Readers').click();
  // Who pauses types no more: on a slow machine one must go on until both are seen.
  await until(
    async () => {
      for (const person of [bob, carol]) await person.box.press('x');
      return alice.page.getByText(/and .* are typing/).isVisible();
    },
    'both',
    60,
  );
  for (const person of [bob, carol]) await person.box.fill('');
  await alice.page.getByText(/typing/).waitFor({ state: 'detached' });
});

test('in a chat of two a message is delivered, then seen', async () => {
  const { userId } = await bob.session();
  const { room_id: direct } = await alice.call('POST', '/createRoom', { preset: 'trusted_private_chat', is_direct: true, invite: [userId] });
  await bob.call('POST', `/join/${encodeURIComponent(direct)}`, {});
  await alice.page.goto(`${new URL(alice.page.url()).origin}/#/room/${direct}`);
  await alice.say('Only for you');
  await alice.message('Only for you').getByText('Delivered').waitFor();
  await bob.page.goto(`${new URL(bob.page.url()).origin}/#/room/${direct}`);
  await bob.sees('Only for you');
  await alice.message('Only for you').getByText(/^Seen/).waitFor();
  await alice.shot('direct-seen');
  await alice.say('And one more');
  await alice.message('And one more').getByText(/^Seen/).waitFor();
  assert.equal(await alice.message('Only for you').getByText(/^Seen/).count(), 0, 'only at the latest');
});

test('who reads in private isn’t shown, and no longer unread to oneself', async () => {
  await carol.page.goto(`${new URL(carol.page.url()).origin}/#/settings/chat`);
  await carol.page.getByRole('switch', { name: 'Keep to myself what I have read' }).check();
  await until(async () => (await carol.call('GET', `/user/${encodeURIComponent((await carol.session()).userId)}/account_data/chat.hearth.settings`).catch(() => ({}))).privateReceipts, 'the choice at the server');
  await send(alice, room, { msgtype: 'm.text', body: 'In private?' });
  await carol.roomRow('Readers').getByLabel('1 unread message').waitFor();
  await carol.roomRow('Readers').click();
  await carol.sees('In private?');
  await carol.roomRow('Readers').getByLabel(/unread/).waitFor({ state: 'detached' });
  await bob.page.goto(`${new URL(bob.page.url()).origin}/#/room/${room}`);
  await bob.sees('In private?');
  await alice.page.goto(`${new URL(alice.page.url()).origin}/#/room/${room}`);
  await alice.message('In private?').getByRole('button', { name: `Read by ${bob.user}` }).waitFor();
  await alice.message('And this').getByRole('button', { name: `Read by ${carol.user}` }).waitFor();
  // After a reload it is still read, and still private.
  await carol.hasRead(room);
  await carol.page.reload();
  await carol.sees('In private?');
  assert.equal(await carol.roomRow('Readers').getByLabel(/unread/).count(), 0);
});

test('no console errors', () => {
  for (const person of [alice, bob, carol]) person.noErrors();
});
