/**
 * Every screen, in both themes, before axe-core: no violation of WCAG 2.2 A and AA.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { Person, send, startBrowser } from './support.js';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
let browser, alice, bob;

before(async () => {
  browser = await startBrowser();
  alice = await Person.at(browser, 'alice', { reducedMotion: 'reduce' });
  bob = await Person.at(browser, 'bob');
});
after(() => browser?.close());

async function clean(name) {
  for (const colorScheme of ['light', 'dark']) {
    await alice.page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    await alice.page.evaluate(axe);
    const { violations } = await alice.page.evaluate(() => globalThis.axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
    const told = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} (${failureSummary})`).join('; ')}`);
    assert.deepEqual(told, [], `${name}, ${colorScheme}`);
  }
}

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
