/**
 * An account with much of everything: a thousand friends, a room of ten thousand, hundreds of rooms. A stand-in
 * tells of them, as making them would take longer than looking.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { ME, StandIn, event } from './standin.js';
import { Person, startBrowser, until } from './support.js';

const [FRIENDS, MEMBERS, ROOMS] = [1000, 10_000, 300];
const STATES = ['unavailable', 'online', 'offline'];
let browser, standIn, me;

const member = (room, user, displayname) => event(room, 'm.room.member', { membership: 'join', displayname }, { state_key: user, sender: user, event_id: `$in${user}${room}` });
const presence = (user, state) => ({ type: 'm.presence', sender: user, content: { presence: state, last_active_ago: 1000 } });
const friend = (n) => `@friend${n}:stand.in`;
const padded = (n) => String(n).padStart(4, '0');

before(async () => {
  browser = await startBrowser();
  standIn = await StandIn.start();
  const rooms = { '!square': standIn.room('!square', 'Town square', 20) };
  standIn.members.set('!square', Array.from({ length: MEMBERS }, (_, n) => member('!square', `@member${n}:stand.in`, `${n % 2 ? '서준' : 'Ada'} ${padded(n)}`)));
  for (let n = 0; n < ROOMS; n++) rooms[`!r${n}`] = standIn.room(`!r${n}`, `${['Garden', '정원', 'Choir'][n % 3]} ${padded(n)}`, 1);
  const direct = {};
  for (let n = 0; n < FRIENDS; n++) {
    const id = `!d${n}`;
    direct[friend(n)] = [id];
    const state = [event(id, 'm.room.create', { creator: ME, room_version: '11' }, { state_key: '', event_id: `$create${id}` }), member(id, ME, 'Me'), member(id, friend(n), `Friend ${padded(n)}`)];
    rooms[id] = { state: { events: state }, timeline: { events: [event(id, 'm.room.message', { msgtype: 'm.text', body: 'Hello there' }, { sender: friend(n), event_id: `$said${id}` })], prev_batch: 'p' }, summary: { 'm.joined_member_count': 2, 'm.heroes': [friend(n)] } };
  }
  const people = Array.from({ length: FRIENDS }, (_, n) => presence(friend(n), STATES[n % 3]));
  standIn.say(rooms, { account_data: { events: [{ type: 'm.direct', content: direct }] }, presence: { events: people } });
  me = await Person.at(browser, 'me');
  await me.context.addInitScript((session) => localStorage.setItem('hearth.session', JSON.stringify(session)), standIn.session());
  await me.open();
  await me.page.locator('.room-row').first().waitFor();
});
after(async () => {
  await browser?.close();
  standIn?.end();
});

test('a thousand friends: who is here first, some at a time, and no row is made anew when somebody comes', async () => {
  await me.open('#/friends/all');
  const rows = me.page.getByRole('main').getByRole('listitem');
  const names = () => rows.locator('.row-title').allTextContents();
  await until(async () => (await rows.count()) === 50, 'the first of them');
  assert.deepEqual((await names()).slice(0, 2), ['Friend 0001', 'Friend 0004'], 'online before away');
  await me.page.getByRole('button', { name: 'Show more' }).press('Enter');
  await until(async () => (await rows.count()) === 100, 'more of them');
  await until(() => rows.nth(50).evaluate((row) => row.contains(document.activeElement)), 'the focus going on to what came');
  await rows.nth(1).evaluate((row) => (row.dataset.kept = 'yes'));
  await standIn.say({}, { presence: { events: [presence(friend(0), 'online')] } });
  await until(async () => (await names())[0] === 'Friend 0000', 'the one who came');
  assert.equal(await rows.nth(2).getAttribute('data-kept'), 'yes');
});

test('a chat of two is previewed without saying who speaks', async () => {
  await me.page.getByRole('searchbox', { name: 'Find a room' }).fill('Friend 0007');
  await me.roomRow('Friend 0007').getByText('Hello there', { exact: true }).waitFor();
  await me.page.getByRole('searchbox', { name: 'Find a room' }).fill('');
});

test('a filter shows what it found from the top, wherever the list was', async () => {
  const list = me.page.getByRole('navigation', { name: 'Rooms' }).locator('.long-list');
  await list.evaluate((el) => (el.scrollTop = el.scrollHeight));
  await until(() => list.evaluate((el) => el.scrollTop > 0), 'the list’s end');
  await me.page.getByRole('searchbox', { name: 'Find a room' }).pressSequentially('정원');
  await until(() => list.evaluate((el) => el.scrollTop === 0), 'the top');
  await list.getByRole('link', { name: /^정원/ }).first().waitFor();
  await me.page.keyboard.press('Escape');
});

test('ten thousand members: in order, found by name, from the top', async () => {
  await me.open('#/room/!square/members');
  const pane = me.page.getByRole('complementary', { name: 'Members' });
  await pane.getByText('Ada 0000').waitFor();
  const list = pane.locator('.long-list');
  await list.evaluate((el) => (el.scrollTop = el.scrollHeight));
  await pane.getByText('서준 9999').waitFor();
  assert.ok((await pane.getByRole('listitem').count()) < 60, 'only those in sight are in the document');
  await pane.getByRole('searchbox').pressSequentially('서준 123');
  await pane.getByText('서준 1231').waitFor();
  assert.equal(await list.evaluate((el) => el.scrollTop), 0);
});

test('what can be done with a message is in sight, also where the message is at the upper edge', async () => {
  await me.open('#/room/!square');
  const rows = me.log.locator('.message');
  await until(async () => (await rows.count()) >= 20, 'messages');
  await until(() => rows.nth(8).evaluate((row) => (row.scrollIntoView({ block: 'start' }), Math.abs(row.getBoundingClientRect().top - row.closest('.window').getBoundingClientRect().top) < 2)), 'the row at the edge');
  await rows.nth(8).hover();
  const [bar, view] = await Promise.all([rows.nth(8).getByRole('toolbar').boundingBox(), me.log.boundingBox()]);
  assert.ok(bar.y > view.y - 1, `the bar at ${bar.y}, the view from ${view.y} on`);
});

test('what is told in one line takes one, though its time stands behind it under the pointer', async () => {
  await me.page.setViewportSize({ width: 360, height: 740 });
  await standIn.say({ '!hall': { ...standIn.room('!hall', 'Hall', 1), timeline: { events: [1, 2, 3, 4, 5, 6, 7, 8].map((n) => member('!hall', `@${'a'.repeat(20 + n)}:stand.in`, `Somebody ${'a'.repeat(14 + n)}`)), prev_batch: 'p' } } });
  await me.open('#/room/!hall');
  const notices = me.log.locator('.notice');
  await until(async () => (await notices.count()) === 8, 'notices');
  const spare = await notices.evaluateAll((rows) => rows.map((row) => row.clientHeight - row.firstElementChild.getBoundingClientRect().height));
  assert.ok(Math.max(...spare) < 12, `${spare}`);
});

test('no console errors', () => me.noErrors());
