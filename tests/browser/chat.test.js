/**
 * Two people, two browsers, one conversation: from making accounts to reading receipts.
 * The tests follow one another, as the evening does.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Person, freshName, send, startBrowser, until } from './support.js';

let browser, alice, bob, room;

before(async () => {
  browser = await startBrowser();
  alice = await Person.at(browser, 'alice');
  bob = await Person.at(browser, 'bob');
});
after(() => browser?.close());

test('two people make accounts', async () => {
  await alice.open();
  await alice.page.getByRole('heading', { name: 'Hearth' }).waitFor();
  await alice.shot('door-light');
  await alice.register();
  await alice.page.getByText('No rooms yet').waitFor();
  await alice.shot('empty-light');
  await bob.register();
});

test('a taken name is told where it was typed', async () => {
  const other = await Person.at(browser, 'other');
  other.user = alice.user;
  await other.open();
  await other.useServer();
  await other.page.getByRole('tab', { name: 'Create account' }).click();
  await other.page.getByLabel('Name').fill(other.user);
  await other.page.getByLabel('Password').fill('whatever words');
  await other.page.getByRole('button', { name: 'Create account' }).click();
  await other.page.getByRole('alert').getByText('That name is taken.').waitFor();
  await other.context.close();
});

test('one creates a room and invites the other, who accepts', async () => {
  room = await alice.createRoom('Kitchen table', { topic: 'What we eat, and when' });
  await alice.invite(bob);
  const row = bob.roomRow('Kitchen table');
  await row.getByLabel('Invitations').waitFor();
  await row.click();
  await bob.page.getByRole('heading', { name: `${alice.user} invites you` }).waitFor();
  await bob.shot('invitation-light');
  await bob.page.getByRole('button', { name: 'Join' }).click();
  await bob.box.waitFor();
  await alice.sees(`${bob.user} joined`);
});

test('they talk in real time, both ways', async () => {
  await alice.say('Shall we cook on Friday?');
  await bob.sees('Shall we cook on Friday?');
  await bob.say('Yes! I bring the bread.');
  await alice.sees('Yes! I bring the bread.');
  assert.equal(await alice.message('Shall we cook on Friday?').count(), 1, 'the echo became the message');
});

test('typing is seen, and ends with the message', async () => {
  await bob.box.pressSequentially('and the che');
  await alice.page.getByText(`${bob.user} is typing`).waitFor();
  await alice.shot('typing-light');
  await bob.box.fill('and the cheese');
  await bob.box.press('Enter');
  await alice.sees('and the cheese');
  await alice.page.getByText(`${bob.user} is typing`).waitFor({ state: 'detached' });
});

test('who has read it is shown at the message', async () => {
  await alice.say('Perfect.');
  await bob.sees('Perfect.');
  await alice.message('Perfect.').getByRole('button', { name: `Read by ${bob.user}` }).waitFor();
});

test('what was not read is counted, mentions apart', async () => {
  await bob.page.getByRole('link', { name: 'Hearth' }).click();
  for (const text of ['One', 'Two', 'Three']) await alice.say(text);
  const row = bob.roomRow('Kitchen table');
  await row.getByLabel('3 unread messages').waitFor();
  await until(async () => (await bob.page.title()).startsWith('(3)'), 'the title counts');
  const { userId } = await bob.session();
  await send(alice, room, { msgtype: 'm.text', body: `${bob.user}: are you there?`, 'm.mentions': { user_ids: [userId] } });
  await row.getByLabel('4 unread messages, 1 mention').waitFor();
  await bob.shot('unread-light');
  await row.click();
  await bob.sees('are you there?');
  await row.getByLabel(/unread/).waitFor({ state: 'detached' });
  await bob.page.getByText('New', { exact: true }).waitFor();
});

test('edits, reactions and deletions are shown as they come', async () => {
  const id = await send(alice, room, { msgtype: 'm.text', body: 'At seven' });
  await bob.sees('At seven');
  await send(alice, room, { msgtype: 'm.text', body: '* At eight', 'm.new_content': { msgtype: 'm.text', body: 'At eight' }, 'm.relates_to': { rel_type: 'm.replace', event_id: id } });
  await bob.message('At eight').getByText('edited').waitFor();
  assert.equal(await bob.message('At seven').count(), 0);
  await send(alice, room, { 'm.relates_to': { rel_type: 'm.annotation', event_id: id, key: '👍' } }, 'm.reaction');
  await send(bob, room, { 'm.relates_to': { rel_type: 'm.annotation', event_id: id, key: '👍' } }, 'm.reaction');
  await until(async () => (await bob.message('At eight').locator('.reaction-count').textContent().catch(() => '')) === '2', 'two reactions');
  assert.equal(await bob.message('At eight').locator('.reaction.mine').count(), 1);
  await alice.call('PUT', `/rooms/${encodeURIComponent(room)}/redact/${encodeURIComponent(id)}/${freshName('r')}`, {});
  await bob.message('Message deleted').waitFor();
  assert.equal(await bob.message('At eight').count(), 0);
});

test('one’s own message can be deleted', async () => {
  await bob.say('Oops, wrong room');
  await alice.sees('Oops, wrong room');
  const row = bob.message('Oops, wrong room');
  await bob.act(row, 'Delete message');
  await bob.page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await alice.message('Oops, wrong room').waitFor({ state: 'detached' });
  await bob.message('Oops, wrong room').waitFor({ state: 'detached' });
  await bob.message('Shall we').hover();
  await bob.message('Shall we').getByRole('toolbar').waitFor();
  assert.equal(await bob.message('Shall we').getByRole('menuitem', { name: 'Delete message', includeHidden: true }).count(), 0, 'others’ messages stay theirs');
});

test('an encrypted message says that it is one', async () => {
  await send(alice, room, { algorithm: 'm.megolm.v1.aes-sha2', ciphertext: 'AwgAEnB', session_id: 's', sender_key: 'k', device_id: 'D' }, 'm.room.encrypted');
  await bob.sees('This message is end-to-end encrypted');
});

test('a formatted message is shown formatted', async () => {
  await send(alice, room, {
    msgtype: 'm.text',
    body: 'Soup: leek, potato',
    format: 'org.matrix.custom.html',
    formatted_body: '<h3>Soup</h3><ul><li><strong>leek</strong></li><li>potato, <del>cold</del></li></ul><pre><code class="language-sh">make soup</code></pre><blockquote>Enjoy, from https://example.org/leek.</blockquote>',
  });
  await bob.sees('make soup');
  assert.equal(await bob.log.locator('.said strong', { hasText: 'leek' }).count(), 1);
  assert.equal(await bob.log.getByRole('link', { name: 'https://example.org/leek', exact: true }).getAttribute('href'), 'https://example.org/leek');
  await bob.roomRow(/Soup leek potato, cold make soup/).waitFor();
  await bob.shot('chat-light');
  await bob.page.emulateMedia({ colorScheme: 'dark' });
  await bob.shot('chat-dark');
  await bob.page.emulateMedia({ colorScheme: 'light' });
});

test('the members are listed', async () => {
  await bob.page.getByRole('link', { name: 'Members' }).click();
  const pane = bob.page.getByRole('complementary', { name: 'Members' });
  await pane.getByText('2 members').waitFor();
  await pane.getByText(alice.user, { exact: true }).waitFor();
  await pane.getByText('Creator').waitFor();
  await bob.shot('members-light');
  await pane.getByRole('link', { name: 'Close' }).click();
  await pane.waitFor({ state: 'detached' });
});

test('a public room is joined by its address, and an invitation declined', async () => {
  const alias = freshName('garden');
  const other = await alice.createRoom('The garden', { alias });
  await bob.newRoom('Join a room');
  const dialog = bob.page.getByRole('dialog');
  await dialog.getByLabel('Address, link or ID').fill('not an address');
  await dialog.getByRole('button', { name: 'Join' }).click();
  await dialog.getByRole('alert').waitFor();
  await dialog.getByLabel('Address, link or ID').fill(`${alias}-of-nobody`);
  await dialog.getByRole('button', { name: 'Join' }).click();
  await dialog.getByText('There is no room of that address.').waitFor();
  await dialog.getByLabel('Address, link or ID').fill(alias);
  await dialog.getByRole('button', { name: 'Join' }).click();
  await bob.page.getByRole('heading', { name: 'The garden', level: 1 }).waitFor();
  await bob.box.waitFor();
  assert.ok(other.startsWith('!'));

  await alice.createRoom('Not for bob');
  await alice.invite(bob);
  await bob.roomRow('Not for bob').click();
  await bob.page.getByRole('button', { name: 'Decline' }).click();
  await bob.roomRow('Not for bob').waitFor({ state: 'detached' });
  await bob.page.getByRole('button', { name: 'More' }).count();
});

test('a room is left', async () => {
  await bob.roomRow('The garden').click();
  await bob.page.getByRole('button', { name: 'More' }).click();
  await bob.page.getByRole('menuitem', { name: 'Leave room' }).click();
  await bob.page.getByRole('dialog').getByRole('button', { name: 'Leave' }).click();
  await bob.roomRow('The garden').waitFor({ state: 'detached' });
});

test('signing out and in again leads back to the same rooms', async () => {
  await bob.page.getByRole('button', { name: 'Your account' }).click();
  await bob.page.getByRole('menuitem', { name: 'Sign out' }).click();
  await bob.page.getByRole('button', { name: 'Sign in' }).waitFor();
  assert.equal(await bob.page.evaluate(() => localStorage.getItem('hearth.session')), null);
  assert.deepEqual(await bob.page.evaluate(async () => (await indexedDB.databases()).map((one) => one.name)), []);
  await bob.page.getByLabel('Name').fill(bob.user);
  await bob.page.getByLabel('Password').fill('not the password');
  await bob.page.getByRole('button', { name: 'Sign in' }).click();
  await bob.page.getByText('Name or password is wrong.').waitFor();
  await bob.signIn();
  await bob.roomRow('Kitchen table').click();
  await bob.sees('make soup');
});

test('no console errors', () => {
  alice.noErrors();
  bob.noErrors();
});
