/**
 * Point 3 of what a person can do: finding people, asking them, answering, and ending it.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Person, startBrowser, until } from './support.js';

let browser, alice, bob, carol;

before(async () => {
  browser = await startBrowser();
  [alice, bob, carol] = await Promise.all(['alice', 'bob', 'carol'].map((name) => Person.at(browser, name)));
  await Promise.all([alice, bob, carol].map((person) => person.register()));
});
after(() => browser?.close());

/** Finds somebody and asks them. */
async function ask(person, other, note) {
  await person.page.getByRole('link', { name: /^Friends/ }).first().click();
  await person.page.getByRole('navigation', { name: 'Parts of the friends page' }).getByRole('link', { name: 'Add a friend' }).click();
  await person.page.getByRole('searchbox', { name: 'Name or full address' }).fill(other);
  await person.page.getByRole('button', { name: /^Ask to be friends/ }).first().click();
  await person.page.getByRole('dialog').getByLabel('Note').fill(note);
  await person.page.getByRole('dialog').getByRole('button', { name: 'Send request' }).click();
  await person.page.getByRole('dialog').waitFor({ state: 'detached' });
}

async function part(person, name) {
  await person.page.getByRole('navigation', { name: 'Rooms' }).getByRole('link', { name: /^Friends/ }).click();
  await person.page.getByRole('navigation', { name: 'Parts of the friends page' }).getByRole('link', { name }).click();
}
const person = (at, other) => at.page.getByRole('main').getByRole('listitem').filter({ hasText: other.user });

test('a person is found by name and asked with a note', async () => {
  await ask(alice, bob.user, 'We met at the fair');
  await alice.page.getByText('Asked', { exact: true }).waitFor();
  await part(alice, 'Requests');
  await person(alice, bob).getByText('We met at the fair').waitFor();
});

test('the request is counted, shown with its note, and accepted', async () => {
  await bob.page.getByRole('img', { name: '1 friend request' }).waitFor();
  await part(bob, 'Requests');
  await person(bob, alice).getByText('We met at the fair').waitFor();
  await bob.shot('friend-request-light');
  await person(bob, alice).getByRole('button', { name: /^Accept/ }).click();
  await bob.box.waitFor();
  await bob.page.getByRole('img', { name: '1 friend request' }).waitFor({ state: 'detached' });
});

test('both are friends now, see that the other is there, and are one click from the chat', async () => {
  for (const [one, other] of [[alice, bob], [bob, alice]]) {
    await part(one, 'Friends');
    await person(one, other).getByText('Online').waitFor();
    await person(one, other).getByRole('img', { name: 'Online' }).waitFor();
  }
  await alice.shot('friends-light');
  await person(alice, bob).getByRole('link', { name: /^Chat/ }).click();
  await alice.say('There you are');
  await person(bob, alice).getByRole('link', { name: /^Chat/ }).click();
  await bob.sees('There you are');
  await alice.page.locator('.room-section-name', { hasText: 'Friends' }).waitFor();
});

test('a friend who goes is away, with when they were last seen', async () => {
  await part(alice, 'Friends');
  const { userId } = await bob.session();
  await bob.page.goto('about:blank');
  await person(alice, bob).getByText(/Last seen/).waitFor({ timeout: 60_000 });
  await bob.open();
  await bob.page.locator('.app').waitFor();
  await person(alice, bob).getByText('Online').waitFor();
  assert.ok(userId);
});

test('an address that leads to nobody says why', async () => {
  const box = alice.page.getByRole('searchbox', { name: 'Name or full address' });
  const { userId } = await alice.session();
  await alice.page.goto(`${alice.client}/#/friends/add`);
  await box.fill(`@nobody:${userId.slice(userId.indexOf(':') + 1)}`);
  await alice.page.getByText('There is nobody of that name on').waitFor();
  // Nor is anything offered at the page that such an address names.
  await alice.page.goto(`${alice.client}/#/user/@nobody-else:${userId.slice(userId.indexOf(':') + 1)}`);
  await alice.page.getByText('There is nobody of that name on').waitFor();
  assert.equal(await alice.page.getByRole('main').getByRole('button', { name: /^Ask to be friends/ }).count(), 0);
  await alice.page.goto(`${alice.client}/#/friends/add`);
  // The browser reports the server's 502.
  alice.expectsTrouble = true;
  await box.fill('@bob:nowhere.invalid');
  await alice.page.getByText('nowhere.invalid can’t be reached').waitFor();
  await alice.page.getByRole('button', { name: 'Try again' }).waitFor();
  alice.expectsTrouble = false;
  await box.fill('');
});

test('by full address; rejected by one, taken back by the other', async () => {
  const { userId } = await carol.session();
  await ask(alice, userId, 'Hello Carol');
  const row = carol.roomRow(`${alice.user} wants to be friends`);
  await row.click();
  await carol.page.getByText('Hello Carol').waitFor();
  await carol.shot('friend-invitation-light');
  await carol.page.getByRole('button', { name: 'Decline' }).click();
  await row.waitFor({ state: 'detached' });
  await part(alice, 'Requests');
  await person(alice, carol).waitFor({ state: 'detached' });

  await ask(carol, alice.user, 'Changed my mind');
  await alice.page.getByRole('img', { name: '1 friend request' }).waitFor();
  await part(carol, 'Requests');
  await person(carol, alice).getByRole('button', { name: /^Cancel request/ }).click();
  await alice.page.getByRole('img', { name: '1 friend request' }).waitFor({ state: 'detached' });
});

test('a person’s page, unfriending, blocking and unblocking', async () => {
  await part(alice, 'Friends');
  await person(alice, bob).getByRole('link', { name: bob.user, exact: true }).click();
  await alice.page.getByRole('heading', { name: bob.user, level: 2 }).waitFor();
  await alice.shot('person-light');
  const main = alice.page.getByRole('main');
  await main.getByRole('button', { name: /^More/ }).click();
  await alice.page.getByRole('menuitem', { name: 'Unfriend' }).click();
  await alice.page.getByRole('dialog').getByRole('button', { name: 'Unfriend' }).click();
  await main.getByRole('button', { name: /^Ask to be friends/ }).waitFor();
  await part(bob, 'Friends');
  await bob.page.getByText('No friends here yet').waitFor();

  await alice.page.getByRole('main').getByRole('button', { name: /^More/ }).click();
  await alice.page.getByRole('menuitem', { name: 'Block' }).click();
  await alice.page.getByRole('dialog').getByRole('button', { name: 'Block' }).click();
  await part(alice, 'Blocked');
  await person(alice, bob).waitFor();
  const { userId } = await alice.session();
  await bob.call('POST', '/createRoom', { is_direct: true, preset: 'trusted_private_chat', invite: [userId] });
  await carol.call('POST', '/createRoom', { is_direct: true, preset: 'trusted_private_chat', invite: [userId] });
  await alice.page.getByRole('img', { name: '1 friend request' }).waitFor();
  await part(alice, 'Requests');
  await person(alice, carol).waitFor();
  assert.equal(await person(alice, bob).count(), 0, 'nothing comes from who is blocked');
  await part(alice, 'Blocked');
  await person(alice, bob).getByRole('button', { name: 'Unblock' }).click();
  await until(async () => (await person(alice, bob).count()) === 0, 'unblocked');
});

test('no console errors', () => {
  for (const one of [alice, bob, carol]) one.noErrors();
});
