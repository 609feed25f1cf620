/**
 * Every screen, in both themes, before axe-core: no violation of WCAG 2.2 A and AA.
 */
import { after, before, test } from 'node:test';
import { clean as cleanFor } from './axe.js';
import { Person, picture, send, startBrowser } from './support.js';

let browser, alice, bob;

before(async () => {
  browser = await startBrowser();
  alice = await Person.at(browser, 'alice', { reducedMotion: 'reduce' });
  bob = await Person.at(browser, 'bob');
});
after(() => browser?.close());

const clean = (name) => cleanFor(alice, name);

test('the front door', async () => {
  await alice.open();
  await alice.page.getByRole('heading', { name: 'Hearth' }).waitFor();
  await clean('signing in');
  await alice.page.getByRole('tab', { name: 'Create account' }).click();
  await clean('making an account');
});

test('no rooms yet, and the dialogs', async () => {
  await alice.register();
  await alice.page.getByText('No rooms yet').waitFor();
  await clean('empty');
  for (const item of ['Create a room', 'Join a room']) {
    await alice.newRoom(item);
    await alice.page.getByRole('dialog').waitFor();
    await clean(item);
    await alice.page.keyboard.press('Escape');
  }
});

test('a conversation, its members, its menu', async () => {
  const room = await alice.createRoom('In the open');
  await bob.register();
  await alice.invite(bob);
  await bob.roomRow('In the open').click();
  await bob.page.getByRole('button', { name: 'Join' }).click();
  await bob.box.waitFor();
  const id = await send(bob, room, { msgtype: 'm.text', body: 'Look', format: 'org.matrix.custom.html', formatted_body: '<p>Look: <code>code</code>, <a href="https://example.org">link</a></p><blockquote>quote</blockquote><span data-mx-spoiler="end">hidden</span>' });
  await send(alice, room, { 'm.relates_to': { rel_type: 'm.annotation', event_id: id, key: '🎉' } }, 'm.reaction');
  await alice.say('Seen?');
  await alice.sees('Seen?');
  await alice.message('Look').locator('.reaction').waitFor();
  await clean('a conversation');
  await alice.page.getByRole('link', { name: 'Members' }).click();
  await alice.page.getByText('2 members').last().waitFor();
  await clean('members');
  await alice.page.getByRole('button', { name: 'Your account' }).click();
  await clean('the account menu');
});

test('people: finding them, requests, who is blocked, a person’s page', async () => {
  await alice.page.keyboard.press('Escape');
  const { userId } = await bob.session();
  await alice.open(`#/user/${userId}`);
  await alice.page.getByRole('heading', { name: bob.user, level: 2 }).waitFor();
  await clean('a person');
  await bob.call('POST', '/createRoom', { is_direct: true, preset: 'trusted_private_chat', invite: [(await alice.session()).userId] });
  await alice.page.getByRole('img', { name: '1 friend request' }).waitFor();
  for (const [part, ready] of [['requests', 'They ask you'], ['add', 'Names are looked for'], ['blocked', 'You block nobody'], ['all', 'No friends here yet']]) {
    await alice.open(`#/friends/${part}`);
    await alice.page.getByText(ready).waitFor();
    await clean(`friends: ${part}`);
  }
  await alice.roomRow(`${bob.user} wants to be friends`).click();
  await alice.page.getByRole('heading', { name: `${bob.user} wants to be friends` }).waitFor();
  await clean('a request');
});

test('every page of the settings', async () => {
  for (const [part, ready] of [['profile', 'Display name'], ['notifications', 'Play sounds'], ['appearance', 'Like the system'], ['chat', 'Keep to myself what I have read'], ['sessions', 'This session'], ['account', 'Present password']]) {
    await alice.open(`#/settings/${part}`);
    await alice.page.getByText(ready).first().waitFor();
    await clean(`settings: ${part}`);
  }
});

test('exploring, a room’s settings, a member, inviting, all choices for a new room', async () => {
  await alice.open('#/explore');
  await alice.page.getByRole('searchbox', { name: 'Search public rooms' }).waitFor();
  await clean('exploring');
  await alice.roomRow('In the open').click();
  await alice.menu('Room settings');
  await alice.page.getByRole('complementary', { name: 'Room settings' }).getByText('Technical').waitFor();
  await clean('room settings');
  await alice.page.getByRole('link', { name: 'Members' }).click();
  await alice.page.getByRole('complementary', { name: 'Members' }).getByRole('link', { name: bob.user }).click();
  await alice.page.getByRole('button', { name: 'Ban from the room' }).waitFor();
  await clean('a member');
  await alice.page.getByRole('button', { name: 'Invite somebody' }).click();
  await alice.page.getByRole('dialog').waitFor();
  await clean('inviting');
  await alice.page.keyboard.press('Escape');
  await alice.newRoom('Create a room');
  await alice.page.getByText('More choices').click();
  await alice.page.getByLabel('Everybody').check();
  await clean('a new room');
});

test('what opens around a conversation: thread, pins, search, emoji, preview, a picture, a day', async () => {
  const { page } = alice;
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  await alice.roomRow('In the open').click();
  await alice.sees('Seen?');
  const room = alice.roomId();
  const row = alice.message('Seen?').first();
  await row.hover();
  await row.getByRole('toolbar').waitFor();
  await clean('the tools of a message');
  await alice.act(row, 'React');
  await page.getByRole('dialog', { name: 'Choose an emoji' }).getByRole('button', { name: 'grinning', exact: true }).waitFor();
  await clean('the emoji picker');
  await page.keyboard.press('Escape');
  await page.getByRole('button', { name: 'Format and preview' }).click();
  await alice.box.fill('**bold** and a list\n\n- one');
  await page.getByRole('region', { name: 'Preview' }).locator('strong').waitFor();
  await clean('the preview');
  await page.getByRole('button', { name: 'Format and preview' }).click();
  await alice.box.fill('');
  await alice.box.pressSequentially(`@${bob.user.slice(0, 4)}`);
  await page.getByRole('option', { name: bob.user }).waitFor();
  await clean('completion');
  await page.keyboard.press('Escape');
  await alice.box.fill('');
  await page.getByRole('main').locator('input[type=file]').setInputFiles([{ name: 'sky.png', mimeType: 'image/png', buffer: await picture(alice, 160, 100) }, { name: 'plan.pdf', mimeType: 'application/pdf', buffer: Buffer.from('plan') }]);
  await page.getByRole('list', { name: 'Files to be sent' }).getByText('plan.pdf').waitFor();
  await clean('files to be sent');
  await page.getByRole('button', { name: 'Send' }).click();
  await alice.message('plan.pdf').waitFor();
  await alice.log.getByRole('img', { name: 'sky.png' }).waitFor();
  await clean('files');
  await alice.log.getByRole('button', { name: 'Open sky.png' }).click();
  await page.getByRole('dialog', { name: 'Picture' }).getByRole('img', { name: 'sky.png' }).waitFor();
  await clean('a picture by itself');
  await page.keyboard.press('Escape');
  await alice.act(row, 'Reply in a thread');
  const thread = page.getByRole('complementary', { name: 'Thread' });
  await thread.getByRole('textbox').fill('In the thread');
  await thread.getByRole('textbox').press('Enter');
  await thread.getByText('In the thread').waitFor();
  await row.getByRole('link', { name: /1 reply/ }).waitFor();
  await clean('a thread');
  await alice.call('PUT', `/rooms/${encodeURIComponent(room)}/state/m.room.pinned_events/`, { pinned: [await row.getAttribute('data-event-id')] });
  for (const [place, name] of [['threads', 'Threads'], ['pins', 'Pinned messages'], ['search', 'Search in this room']]) {
    await alice.open(`#/room/${room}/${place}`);
    await page.getByRole('complementary', { name }).waitFor();
    await clean(name);
  }
  await alice.open('#/search');
  await page.getByRole('searchbox', { name: 'Search messages' }).fill('thread');
  await page.locator('mark').first().waitFor();
  await clean('search');
  await alice.roomRow('In the open').click();
  await alice.act(row, 'Reply');
  await clean('answering');
  await alice.roomMenu('Jump to a day');
  await page.getByRole('dialog').waitFor();
  await clean('jumping to a day');
});

test('what is unread in a thread, and a room that one has asked to be let into', async () => {
  const { page } = alice;
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  const root = await alice.message('Seen?').first().getAttribute('data-event-id');
  await send(bob, alice.roomId(), { msgtype: 'm.text', body: 'Unread', 'm.relates_to': { rel_type: 'm.thread', event_id: root } });
  await page.getByRole('link', { name: '1 unread message in threads' }).waitFor();
  await clean('unread in a thread');
  const { room_id: closed } = await bob.call('POST', '/createRoom', { name: 'Behind a door', initial_state: [{ type: 'm.room.join_rules', state_key: '', content: { join_rule: 'knock' } }] });
  await alice.call('POST', `/knock/${encodeURIComponent(closed)}`, {});
  await alice.roomRow('Behind a door').click();
  await page.getByRole('button', { name: 'Take the request back' }).waitFor();
  await clean('asked to be let in');
});
