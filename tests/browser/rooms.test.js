/**
 * Point 4 of what a person can do: making rooms, finding them, setting them up, ordering them.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Person, freshName, picture, startBrowser, until } from './support.js';

let browser, alice, bob;
const garden = freshName('Garden');

before(async () => {
  browser = await startBrowser();
  alice = await Person.at(browser, 'alice');
  bob = await Person.at(browser, 'bob');
  await alice.register();
  await bob.register();
});
after(() => browser?.close());

test('a public room with a picture and an address, for announcements, for this server alone', async () => {
  await alice.newRoom('Create a room');
  const dialog = alice.page.getByRole('dialog', { name: 'Create a room' });
  await dialog.getByLabel('Choose a picture').setInputFiles({ name: 'garden.png', mimeType: 'image/png', buffer: await picture(alice, 200, 200) });
  await alice.page.getByRole('button', { name: 'Use this part' }).click();
  await dialog.locator('.avatar img').waitFor();
  await dialog.getByLabel('Name').fill(garden);
  await dialog.getByLabel('Topic').fill('Who waters when');
  await dialog.getByLabel('Everybody').check();
  await dialog.getByLabel('Address').fill(garden.toLowerCase());
  await dialog.getByText('More choices').click();
  await dialog.getByRole('switch', { name: 'For announcements' }).check();
  await dialog.getByRole('switch', { name: 'Open to people on other servers' }).uncheck();
  await alice.shot('create-light');
  await dialog.getByRole('button', { name: 'Create room' }).click();
  await alice.page.getByRole('heading', { name: garden, level: 1 }).waitFor();
  await alice.page.locator('.room-head .avatar img').waitFor();
  const id = alice.roomId();
  const state = await alice.call('GET', `/rooms/${encodeURIComponent(id)}/state`);
  assert.equal(state.find(({ type }) => type === 'm.room.create').content['m.federate'], false);
  assert.equal(state.find(({ type }) => type === 'm.room.canonical_alias').content.alias.split(':')[0], `#${garden.toLowerCase()}`);
});

test('another finds it by exploring and joins, but can’t write there', async () => {
  await bob.page.getByRole('link', { name: 'Explore' }).click();
  await bob.page.getByRole('searchbox', { name: 'Search public rooms' }).fill(garden.toLowerCase());
  const row = bob.page.getByRole('listitem').filter({ hasText: 'Who waters when' });
  await until(async () => (await row.count()) === 1, 'one room');
  await bob.shot('explore-light');
  await row.getByRole('button', { name: 'Join' }).click();
  await bob.page.getByRole('heading', { name: garden, level: 1 }).waitFor();
  await bob.page.getByText('You can read here, but not write.').waitFor();
  await alice.sees(`${bob.user} joined`);
});

test('a server that can’t be asked for its rooms is told of', async () => {
  await bob.page.getByRole('link', { name: 'Explore' }).click();
  await bob.page.getByLabel('Server to look on').fill('nowhere.invalid');
  await bob.page.getByRole('button', { name: 'Show' }).click();
  await bob.page.getByRole('button', { name: 'Try again' }).waitFor();
});

test('rooms stand in sections that can be folded, by activity and by what they are tagged', async () => {
  const favourite = await alice.createRoom('Favourite of all');
  await alice.createRoom('Ordinary');
  await alice.page.getByRole('button', { name: 'More' }).click();
  await alice.page.getByRole('menuitemcheckbox', { name: 'Low priority' }).click();
  await alice.roomRow('Favourite of all').click();
  await alice.page.getByRole('button', { name: 'More' }).click();
  await alice.page.getByRole('menuitemcheckbox', { name: 'Favourite' }).click();
  const names = () => alice.page.locator('.room-section-name, .room-row-name').allTextContents();
  await until(async () => (await names()).join() === ['Favourites', 'Favourite of all', 'Rooms', garden, 'Low priority', 'Ordinary'].join(), 'sections');
  await alice.shot('sections-light');
  const { tags } = await alice.call('GET', `/user/${encodeURIComponent((await alice.session()).userId)}/rooms/${encodeURIComponent(favourite)}/tags`);
  assert.ok(tags['m.favourite']);
  await alice.page.getByRole('button', { name: /^Low priority/ }).click();
  await alice.roomRow('Ordinary').waitFor({ state: 'detached' });
  await alice.page.reload();
  await alice.roomRow('Favourite of all').waitFor();
  assert.equal(await alice.roomRow('Ordinary').count(), 0, 'it stays folded');
  await alice.page.getByRole('button', { name: /^Low priority/ }).click();
  await alice.roomRow('Ordinary').waitFor();
});

test('Ctrl+K filters as one types, and Enter opens the first', async () => {
  await alice.page.keyboard.press('Control+k');
  await alice.page.keyboard.type('ordin');
  await until(async () => (await alice.page.locator('.room-row').count()) === 1, 'one room');
  await alice.page.keyboard.press('Enter');
  await alice.page.getByRole('heading', { name: 'Ordinary', level: 1 }).waitFor();
  await until(async () => (await alice.page.locator('.room-row').count()) === 3, 'all rooms again');
});

test('no console errors', () => {
  alice.noErrors();
  bob.noErrors();
});
