/**
 * Point 10 of what a person can do: running the server. On a server of its own, since the
 * first account of one is its administrator.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { clean } from './axe.js';
import { Server, noServer } from './server.js';
import { PASSWORD, Person, freshName, send, startBrowser, until } from './support.js';

const skip = noServer;
let browser, server, ada, bob;

before(async () => {
  if (skip) return;
  [browser, server] = await Promise.all([startBrowser(), Server.start('', { isNew: true })]);
  ada = await Person.at(browser, 'ada', { server: server.url });
  bob = await Person.at(browser, 'bob', { server: server.url });
});
after(async () => {
  await browser?.close();
  await server?.end();
});

const part = (name) => ada.page.getByRole('navigation', { name: 'Parts of the administration' }).getByRole('link', { name }).click();
const row = (text) => ada.page.getByRole('main').getByRole('listitem').filter({ hasText: text });
const dialog = () => ada.page.getByRole('dialog');

test('the first account is told that it is the administrator’s', { skip }, async () => {
  await ada.register();
  await dialog().getByText('You run this server').waitFor();
  await ada.shot('first-admin-light');
  await dialog().getByRole('button', { name: 'Open the administration' }).click();
  await ada.page.getByRole('heading', { name: 'Administration' }).waitFor();
});

test('an invitation link is made and copied, and leads to an account', { skip }, async () => {
  await ada.context.grantPermissions(['clipboard-read', 'clipboard-write']);
  await ada.page.getByRole('button', { name: 'Create a link' }).click();
  await dialog().getByLabel('How many accounts').fill('1');
  await dialog().getByLabel('Valid for').selectOption('1 day');
  await dialog().getByRole('button', { name: 'Create a link' }).click();
  await ada.page.getByText('Used 0 of 1').waitFor();
  await ada.shot('admin-invitations-light');
  await ada.page.getByRole('button', { name: 'Copy' }).click();
  await ada.page.getByText('Copied').waitFor();
  const copied = await ada.page.evaluate(() => navigator.clipboard.readText());
  assert.match(copied, /\/#\/register\?token=\w+$/);
  const token = copied.split('=')[1];
  await bob.page.goto(copied);
  await bob.page.getByRole('tab', { name: 'Create account', selected: true }).waitFor();
  await bob.page.getByLabel('Name').fill(bob.user);
  await bob.page.getByLabel('Password').fill(PASSWORD);
  await bob.page.getByRole('button', { name: 'Create account' }).click();
  await bob.page.getByRole('navigation', { name: 'Rooms' }).waitFor();
  assert.equal(await bob.page.getByRole('dialog').count(), 0, 'the second account is nobody’s administrator');
  await row(token).getByRole('button', { name: 'Revoke' }).click();
  await ada.page.getByText('No invitation links').waitFor();
});

test('who is no administrator sees nothing of it', { skip }, async () => {
  await bob.page.getByRole('button', { name: 'Your account' }).click();
  await bob.page.getByRole('menuitem', { name: 'Settings' }).waitFor();
  assert.equal(await bob.page.getByRole('menuitem', { name: 'Administration' }).count(), 0);
  await bob.page.goto(`${server.url}/admin`);
  await bob.page.getByText('Only for administrators').waitFor();
});

test('/admin is its address', { skip }, async () => {
  await ada.page.goto(`${server.url}/admin`);
  await ada.page.getByRole('term').filter({ hasText: 'Memory' }).waitFor();
  assert.equal(new URL(ada.page.url()).hash, '#/admin');
  await ada.page.getByRole('definition').filter({ hasText: /^Hearth \d/ }).waitFor();
  await ada.shot('admin-health-light');
});

test('how the server does is kept up to date by itself', { skip }, async () => {
  const accounts = ada.page.locator('.tile', { has: ada.page.getByRole('term').filter({ hasText: 'Accounts' }) }).getByRole('definition');
  const before = Number(await accounts.innerText());
  await ada.call('PUT', `/../../../_synapse/admin/v2/users/${encodeURIComponent(`@${freshName('dora')}:localhost`)}`, { password: PASSWORD });
  await accounts.filter({ hasText: String(before + 1) }).waitFor();
});

test('accounts: made, locked, unlocked, made administrator, given a new password, deactivated', { skip }, async () => {
  await part('Accounts');
  await row(bob.user).waitFor();
  const carol = freshName('carol');
  await ada.page.getByRole('button', { name: 'Create account' }).click();
  await dialog().getByLabel('Name', { exact: true }).fill(carol);
  await dialog().getByLabel('Display name').fill('Carol of the choir');
  await dialog().getByLabel('Password').fill(PASSWORD);
  await dialog().getByRole('button', { name: 'Create account' }).click();
  await row('Carol of the choir').waitFor();
  const deed = async (who, name) => {
    await row(who).getByRole('button', { name: /^More/ }).click();
    await ada.page.getByRole('menuitem', { name, exact: true }).click();
  };
  await deed('Carol of the choir', 'Lock');
  await row('Carol of the choir').getByText('Locked').waitFor();
  await ada.shot('admin-accounts-light');
  await deed('Carol of the choir', 'Unlock');
  await row('Carol of the choir').getByText('Locked').waitFor({ state: 'detached' });
  await deed('Carol of the choir', 'Make administrator');
  await dialog().getByRole('button', { name: 'Make administrator' }).click();
  await row('Carol of the choir').getByText('Admin', { exact: true }).waitFor();
  await deed('Carol of the choir', 'No administrator any more');
  await row('Carol of the choir').getByText('Admin', { exact: true }).waitFor({ state: 'detached' });
  await deed('Carol of the choir', 'Reset password');
  await dialog().getByLabel('New password').fill('quite another password');
  await dialog().getByRole('button', { name: 'Reset password' }).click();
  await ada.page.getByText('The password is changed').waitFor();
  await ada.call('POST', '/login', { type: 'm.login.password', identifier: { type: 'm.id.user', user: carol }, password: 'quite another password' });
  await deed('Carol of the choir', 'Deactivate');
  await dialog().getByRole('button', { name: 'Deactivate' }).click();
  await row(carol).getByText('Deactivated').waitFor();
  await ada.page.getByRole('searchbox', { name: 'Find an account' }).fill(bob.user);
  await until(async () => (await row('').count()) === 1, 'one account');
});

test('#admins: the administrators have a room of their own, and who is one no more is out of it', { skip }, async () => {
  const theirs = (person) => person.roomRow('Administrators');
  await theirs(ada).waitFor();
  assert.equal(await theirs(bob).count(), 0);
  const deed = async (name) => {
    await row(bob.user).getByRole('button', { name: /^More/ }).click();
    await ada.page.getByRole('menuitem', { name, exact: true }).click();
  };
  await deed('Make administrator');
  await dialog().getByRole('button', { name: 'Make administrator' }).click();
  await theirs(bob).click();
  await bob.box.waitFor();
  await bob.say('Here to help');
  await theirs(ada).filter({ hasText: 'Here to help' }).waitFor();
  await deed('No administrator any more');
  await theirs(bob).waitFor({ state: 'detached' });
});

test('a report is read and dismissed; rooms are listed with their size, and one is deleted', { skip }, async () => {
  await bob.page.getByRole('link', { name: 'Hearth' }).click();
  const room = await bob.createRoom('Loud corner');
  const id = await send(bob, room, { msgtype: 'm.text', body: 'Something that should not be said' });
  await bob.call('POST', `/rooms/${encodeURIComponent(room)}/report/${encodeURIComponent(id)}`, { reason: 'Rude' });
  await part('Reports');
  await row('Something that should not be said').getByText('Rude').waitFor();
  await ada.shot('admin-reports-light');
  await row('Something that should not be said').getByRole('button', { name: /^Dismiss/ }).click();
  await ada.page.getByText('No reports').waitFor();
  await part('Rooms');
  await row('Loud corner').getByText('1 member · 1 of them here').waitFor();
  await row('Loud corner').getByText('Federated').waitFor();
  await ada.shot('admin-rooms-light');
  await row('Loud corner').getByRole('button', { name: /^Members/ }).click();
  await dialog().getByText(bob.user).waitFor();
  await ada.page.keyboard.press('Escape');
  await row('Loud corner').getByRole('button', { name: /^Delete the room/ }).click();
  await dialog().getByRole('button', { name: 'Delete' }).click();
  await bob.roomRow('Loud corner').waitFor({ state: 'detached' });
});

test('a locked account is at the door, with its draft kept for when it is let in again', { skip }, async () => {
  await bob.createRoom('Diary');
  await bob.box.fill('Half a thought');
  const { userId } = await bob.session();
  await ada.call('PUT', `/../../../_synapse/admin/v2/users/${encodeURIComponent(userId)}`, { locked: true });
  await bob.page.getByRole('tab', { name: 'Sign in' }).waitFor({ timeout: 60_000 });
  await bob.page.getByText('This account is locked').waitFor();
  await ada.call('PUT', `/../../../_synapse/admin/v2/users/${encodeURIComponent(userId)}`, { locked: false });
  await bob.page.getByLabel('Password').fill(PASSWORD);
  await bob.page.getByRole('button', { name: 'Sign in' }).click();
  await bob.roomRow('Diary').click();
  await until(async () => (await bob.box.inputValue()) === 'Half a thought', 'the draft');
});

test('every page of it before axe-core', { skip }, async () => {
  for (const [name, ready] of [['health', 'Memory'], ['users', bob.user], ['invitations', 'No invitation links'], ['rooms', 'Diary'], ['reports', 'No reports']]) {
    await ada.page.goto(`${server.url}/#/admin/${name}`);
    await ada.page.getByText(ready).first().waitFor();
    await clean(ada, `administration: ${name}`);
  }
});

test('no console errors', { skip }, () => {
  ada.noErrors();
  bob.noErrors();
});
