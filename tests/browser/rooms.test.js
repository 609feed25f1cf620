/**
 * Point 4 of what a person can do: making rooms, finding them, setting them up, ordering them.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Person, freshName, picture, startBrowser, until } from './support.js';

let browser, alice, bob;
const garden = freshName('Garden');
const shop = freshName('Wood shop');

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
  await bob.page.getByRole('link', { name: 'Explore', exact: true }).click();
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
  bob.expectsTrouble = true;
  await bob.page.getByRole('link', { name: 'Explore', exact: true }).click();
  await bob.page.getByLabel('Server to look on').fill('nowhere.invalid');
  await bob.page.getByRole('button', { name: 'Show' }).click();
  await bob.page.getByRole('button', { name: 'Try again' }).waitFor();
  bob.expectsTrouble = false;
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
  // It shows before the server has it.
  const path = `/user/${encodeURIComponent((await alice.session()).userId)}/rooms/${encodeURIComponent(favourite)}/tags`;
  await until(async () => (await alice.call('GET', path)).tags['m.favourite'], 'the server’s knowing');
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

test('a room’s settings: name, topic, picture, address, who gets in, who reads, what is told of', async () => {
  const room = await alice.createRoom('Workshop');
  await alice.menu('Room settings');
  const pane = alice.page.getByRole('complementary', { name: 'Room settings' });
  await pane.getByLabel('Name').fill(shop);
  await pane.getByLabel('Topic').fill('Chairs and tables');
  await pane.getByRole('button', { name: 'Save' }).first().click();
  await alice.page.getByRole('heading', { name: shop, level: 1 }).waitFor();
  await alice.page.getByText('Chairs and tables').first().waitFor();
  await pane.getByLabel('Choose a picture').setInputFiles({ name: 'shop.png', mimeType: 'image/png', buffer: await picture(alice, 200, 200) });
  await alice.page.getByRole('button', { name: 'Use this part' }).click();
  await alice.page.locator('.room-head .avatar img').waitFor();
  const alias = freshName('shop');
  await pane.getByLabel('Address on this server').fill(alias);
  await pane.getByRole('button', { name: 'Save' }).last().click();
  await pane.getByText(`It is #${alias}:localhost now.`).waitFor();
  await pane.getByRole('switch', { name: 'In the list of public rooms' }).check();
  await pane.getByLabel('Who can join').selectOption('public');
  await pane.getByLabel('Who can read what was said').selectOption('joined');
  await pane.getByLabel('Tell me of').selectOption('mute');
  await alice.shot('room-settings-light');
  const state = async (type, key) => (await alice.call('GET', `/rooms/${encodeURIComponent(room)}/state/${type}`))[key];
  await until(async () => (await state('m.room.join_rules', 'join_rule')) === 'public' && (await state('m.room.history_visibility', 'history_visibility')) === 'joined', 'both are set');
  await until(async () => (await alice.call('GET', '/pushrules/global')).override.some(({ rule_id: id }) => id === room), 'muted');
  assert.equal((await alice.call('GET', `/directory/list/room/${encodeURIComponent(room)}`)).visibility, 'public');
  await pane.getByLabel('Tell me of').selectOption('mentions');
  await until(async () => (await alice.call('GET', '/pushrules/global')).room.some(({ rule_id: id }) => id === room), 'mentions only');
});

test('members: promoted, demoted, removed, banned, unbanned', async () => {
  await bob.newRoom('Join a room');
  await bob.page.getByRole('dialog').getByLabel('Address, link or ID').fill(alice.roomId());
  await bob.page.getByRole('dialog').getByRole('button', { name: 'Join' }).click();
  await bob.box.waitFor();
  const members = alice.page.getByRole('complementary', { name: 'Members' });
  const one = alice.page.getByRole('complementary', { name: 'Member', exact: true });
  await alice.page.getByRole('link', { name: 'Members' }).click();
  await members.getByRole('link', { name: bob.user }).click();
  await one.getByLabel('Role').selectOption('Moderator');
  await one.getByRole('link', { name: 'Back' }).click();
  await members.getByRole('listitem').filter({ hasText: bob.user }).getByText('Moderator').waitFor();
  await alice.shot('members-roles-light');
  await members.getByRole('link', { name: bob.user }).click();
  await one.getByLabel('Role').selectOption('Member');
  await alice.shot('member-light');
  await one.getByRole('button', { name: 'Remove from the room' }).click();
  await alice.page.getByRole('dialog').getByRole('button', { name: 'Remove from the room' }).click();
  await bob.roomRow(shop).waitFor({ state: 'detached' });
  await one.getByRole('button', { name: 'Ban from the room' }).click();
  await alice.page.getByRole('dialog').getByRole('button', { name: 'Ban from the room' }).click();
  await one.getByText('Banned').waitFor();
  await assert.rejects(bob.call('POST', `/join/${encodeURIComponent(alice.roomId())}`, {}), /403/);
  await one.getByRole('button', { name: 'Unban' }).click();
  await one.getByText('Not in the room').waitFor();
});

test('a room that people ask to join: one knocks, and is let in', async () => {
  await alice.menu('Room settings');
  await alice.page.getByRole('complementary', { name: 'Room settings' }).getByLabel('Who can join').selectOption('knock');
  await alice.sees(shop);
  await bob.page.getByRole('link', { name: 'Explore', exact: true }).click();
  await bob.page.getByRole('searchbox', { name: 'Search public rooms' }).fill(shop);
  await bob.page.getByRole('button', { name: `Ask to join: ${shop}` }).click();
  await bob.page.getByText('You have asked to be let in').first().waitFor();
  // What is asked for is listed as long as it waits, and can be taken back.
  await bob.roomRow(shop).click();
  await bob.page.getByRole('heading', { name: 'You have asked to be let in' }).waitFor();
  await bob.shot('knocking');
  await bob.page.reload();
  await bob.page.getByRole('button', { name: 'Take the request back' }).click();
  await bob.roomRow(shop).waitFor({ state: 'detached' });
  await bob.page.getByRole('link', { name: 'Explore', exact: true }).click();
  await bob.page.getByRole('searchbox', { name: 'Search public rooms' }).fill(shop);
  await bob.page.getByRole('button', { name: `Ask to join: ${shop}` }).click();
  await bob.roomRow(shop).waitFor();
  await alice.page.getByRole('link', { name: 'Members' }).click();
  await alice.page.getByRole('complementary', { name: 'Members' }).getByRole('link', { name: bob.user }).click();
  await alice.page.getByRole('button', { name: 'Let in' }).click();
  await bob.roomRow(shop).click();
  await bob.page.getByRole('button', { name: 'Join', exact: true }).click();
  await bob.box.waitFor();
});

test('a room is upgraded, and its people are led to the new one', async () => {
  const room = await alice.createRoom('Old house');
  await alice.invite(bob);
  await bob.roomRow('Old house').click();
  await bob.page.getByRole('button', { name: 'Join', exact: true }).click();
  await bob.box.waitFor();
  await alice.menu('Room settings');
  await alice.page.getByRole('button', { name: 'Upgrade the room…' }).click();
  const dialog = alice.page.getByRole('dialog', { name: 'Upgrade the room…' });
  await dialog.getByLabel('New version').selectOption({ index: 0 });
  await dialog.getByRole('button', { name: 'Upgrade' }).click();
  await until(async () => alice.roomId() !== room, 'another room');
  await bob.page.getByText('This room has moved.').waitFor();
  await bob.page.getByRole('link', { name: 'Go to the new one' }).waitFor();
  // One row is left of the two, and the way back is where the new one begins.
  await until(async () => (await alice.roomRow('Old house').count()) === 1, 'one room of that name');
  await alice.page.getByRole('link', { name: 'What was said before' }).click();
  await until(async () => alice.roomId() === room, 'the old room');
});

test('a friend is picked to be invited', async () => {
  const { userId } = await bob.session();
  const { room_id: direct } = await alice.call('POST', '/createRoom', { is_direct: true, preset: 'trusted_private_chat', invite: [userId] });
  await alice.call('PUT', `/user/${encodeURIComponent((await alice.session()).userId)}/account_data/m.direct`, { [userId]: [direct] });
  await bob.call('POST', `/join/${encodeURIComponent(direct)}`, {});
  await alice.createRoom('Just us');
  await alice.page.getByRole('button', { name: 'Invite somebody' }).click();
  const dialog = alice.page.getByRole('dialog');
  await dialog.getByRole('checkbox', { name: bob.user }).check();
  await alice.shot('invite-light');
  await dialog.getByRole('button', { name: 'Invite', exact: true }).click();
  await bob.roomRow('Just us').waitFor();
});

test('a room is left and forgotten', async () => {
  const id = alice.roomId();
  await alice.menu('Leave room');
  await alice.page.getByRole('switch', { name: 'Forget it as well' }).check();
  await alice.page.getByRole('dialog').getByRole('button', { name: 'Leave' }).click();
  await alice.roomRow('Just us').waitFor({ state: 'detached' });
  await until(async () => (await alice.call('GET', `/rooms/${encodeURIComponent(id)}/messages?dir=b`).then(() => false, () => true)), 'forgotten');
});

test('a link to a person and to a room leads there, and back by the browser', async () => {
  const { userId } = await bob.session();
  await alice.open(`#/user/${userId}`);
  await alice.page.getByRole('heading', { name: bob.user, level: 2 }).waitFor();
  await alice.page.getByRole('main').getByRole('link', { name: shop }).click();
  await alice.page.getByRole('heading', { name: shop, level: 1 }).waitFor();
  await alice.page.goBack();
  await alice.page.getByRole('heading', { name: bob.user, level: 2 }).waitFor();
});

test('who goes back by the browser has left the dialog too', async () => {
  await alice.page.goto(`${alice.client}/#/explore`);
  await alice.page.goto(`${alice.client}/#/friends`);
  await alice.newRoom('Create a room');
  const dialog = alice.page.getByRole('dialog');
  await dialog.waitFor();
  await alice.page.goBack();
  await dialog.waitFor({ state: 'detached' });
  await alice.page.getByRole('heading', { name: 'Explore', level: 1 }).waitFor();
});

test('no console errors', () => {
  alice.noErrors();
  bob.noErrors();
});
