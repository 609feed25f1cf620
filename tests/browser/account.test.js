/**
 * Point 1 and 2 of what a person can do: the account and how others see its person.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { PASSWORD, Person, call, picture, startBrowser, until } from './support.js';

let browser, alice, bob;

before(async () => {
  browser = await startBrowser();
  alice = await Person.at(browser, 'alice');
  bob = await Person.at(browser, 'bob');
  await alice.register();
  await bob.register();
  await alice.createRoom('Portraits');
  await alice.invite(bob);
  await bob.roomRow('Portraits').click();
  await bob.page.getByRole('button', { name: 'Join' }).click();
  await bob.box.waitFor();
});
after(() => browser?.close());

test('a display name and a picture that is cut are seen by others', async () => {
  await alice.settings('Profile');
  await alice.page.getByLabel('Display name').fill('Alice in Chains');
  await alice.page.getByLabel('Display name').press('Enter');
  await alice.page.getByText('Saved').waitFor();
  await alice.page.getByLabel('Choose a picture').setInputFiles({ name: 'me.png', mimeType: 'image/png', buffer: await picture(alice, 300, 200) });
  const dialog = alice.page.getByRole('dialog', { name: 'Cut the picture' });
  await dialog.getByRole('slider', { name: 'Enlarge' }).fill('2');
  await dialog.getByRole('img', { name: /arrow keys/ }).press('ArrowLeft');
  await alice.shot('cut-picture-light');
  await dialog.getByRole('button', { name: 'Use this part' }).click();
  await dialog.waitFor({ state: 'detached' });
  await bob.page.getByRole('link', { name: 'Members' }).click();
  const row = bob.page.getByRole('complementary', { name: 'Members' }).getByRole('listitem').filter({ hasText: 'Alice in Chains' });
  await row.locator('.avatar img').waitFor();
  assert.match(await row.locator('.avatar img').getAttribute('src'), /^blob:/);
});

test('a file that is no picture is refused with a word', async () => {
  await alice.page.getByLabel('Choose a picture').setInputFiles({ name: 'me.png', mimeType: 'image/png', buffer: Buffer.from('not a picture') });
  await alice.page.getByText('That file is no picture').waitFor();
});

test('a status message and presence: online, away, invisible', async () => {
  const { userId } = await alice.session();
  const seen = () => bob.call('GET', `/presence/${encodeURIComponent(userId)}/status`);
  await alice.page.getByLabel('Status').fill('Reading in the garden');
  await alice.page.getByLabel('Status').press('Enter');
  await until(async () => (await seen()).status_msg === 'Reading in the garden', 'the status');
  await alice.page.getByRole('radio', { name: 'Away' }).check();
  await until(async () => (await seen()).presence === 'unavailable', 'away');
  await alice.shot('profile-light');
  await alice.page.getByRole('button', { name: 'Your account' }).click();
  await alice.page.getByRole('menuitemradio', { name: 'Invisible' }).click();
  await until(async () => (await seen()).presence === 'offline', 'invisible');
  // Also after a reload, from the first sync on.
  await alice.page.reload();
  await alice.page.getByRole('radio', { name: 'Invisible' }).and(alice.page.locator(':checked')).waitFor();
  assert.equal((await seen()).presence, 'offline');
  await alice.page.getByRole('radio', { name: 'Online' }).check();
  await until(async () => (await seen()).presence === 'online', 'online again');
  assert.equal((await seen()).status_msg, 'Reading in the garden');
});

test('the sessions are listed, one is renamed, another signed out', async () => {
  const other = await call('POST', '/login', { type: 'm.login.password', identifier: { type: 'm.id.user', user: alice.user }, password: PASSWORD, initial_device_display_name: 'Old telephone' });
  await alice.settings('Sessions');
  const row = alice.page.getByRole('listitem').filter({ hasText: 'Old telephone' });
  await row.getByText('Last seen').waitFor();
  await alice.page.getByText(/^Hearth in a browser \(.+\)$/).waitFor();
  await alice.page.getByRole('listitem').filter({ hasText: 'Active now' }).getByRole('button', { name: 'Rename' }).click();
  await alice.page.getByRole('dialog').getByLabel('Name of the session').fill('Desk');
  await alice.page.getByRole('dialog').getByRole('button', { name: 'Save' }).click();
  await alice.page.getByRole('listitem').filter({ hasText: 'Desk' }).getByText('Active now').waitFor();
  await alice.shot('sessions-light');
  await row.getByRole('button', { name: 'Sign out' }).click();
  const dialog = alice.page.getByRole('dialog');
  await dialog.getByLabel('Your password').fill('wrong');
  await dialog.getByRole('button', { name: 'Sign out' }).click();
  await dialog.getByRole('alert').getByText('Name or password is wrong').waitFor();
  await dialog.getByLabel('Your password').fill(PASSWORD);
  await dialog.getByRole('button', { name: 'Sign out' }).click();
  await row.waitFor({ state: 'detached' });
  await assert.rejects(call('GET', '/account/whoami', undefined, other.access_token), /401/);
});

test('the password is changed', async () => {
  await alice.settings('Account');
  await alice.page.getByLabel('Present password').fill(PASSWORD);
  await alice.page.getByLabel('New password', { exact: true }).fill('another few good words');
  await alice.page.getByLabel('New password again').fill('another few words');
  await alice.page.getByRole('button', { name: 'Change password' }).click();
  await alice.page.getByText('The two new passwords differ.').waitFor();
  await alice.page.getByLabel('New password again').fill('another few good words');
  await alice.page.getByRole('button', { name: 'Change password' }).click();
  await alice.page.getByText('The password is changed').waitFor();
  await call('POST', '/login', { type: 'm.login.password', identifier: { type: 'm.id.user', user: alice.user }, password: 'another few good words' });
});

test('the account is deactivated, and its person is at the door', async () => {
  await bob.settings('Account');
  await bob.page.getByRole('button', { name: 'Deactivate…' }).click();
  const dialog = bob.page.getByRole('dialog');
  await dialog.getByLabel('Your password').fill(PASSWORD);
  await dialog.getByRole('button', { name: 'Deactivate for good' }).click();
  await bob.page.getByRole('tab', { name: 'Sign in' }).waitFor();
  await assert.rejects(call('POST', '/login', { type: 'm.login.password', identifier: { type: 'm.id.user', user: bob.user }, password: PASSWORD }), /403/);
});

test('no console errors', () => {
  alice.noErrors();
  bob.noErrors();
});
