/**
 * Point 8 of what a person can do: being told of what comes in, by desktop and by ear, and not
 * being told. The browser's own notifications and sounds are watched, not shown and played.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Person, send, startBrowser, until } from './support.js';

let browser, alice, bob, room;

/** Stands in for what the browser would show and play, and keeps it. */
function watched() {
  globalThis.told = [];
  globalThis.played = [];
  class Notification {
    static permission = sessionStorage.getItem('allowed') ?? 'default';
    static async requestPermission() {
      sessionStorage.setItem('allowed', 'granted');
      return (Notification.permission = 'granted');
    }
    constructor(title, options) {
      globalThis.told.push(`${title}: ${options.body}`);
      globalThis.latest = this;
    }
    close() {}
  }
  globalThis.Notification = Notification;
  const start = OscillatorNode.prototype.start;
  OscillatorNode.prototype.start = function (...args) {
    globalThis.played.push(Math.round(this.frequency.value));
    return start.apply(this, args);
  };
}

before(async () => {
  browser = await startBrowser();
  alice = await Person.at(browser, 'alice');
  bob = await Person.at(browser, 'bob');
  await alice.page.addInitScript(watched);
  await alice.register();
  await bob.register();
  room = await alice.createRoom('Kitchen');
  await alice.invite(bob);
  await bob.roomRow('Kitchen').click();
  await bob.page.getByRole('button', { name: 'Join', exact: true }).click();
  await bob.box.waitFor();
  await alice.page.getByRole('link', { name: 'Hearth' }).click();
});
after(() => browser?.close());

const told = () => alice.page.evaluate(() => globalThis.told);
const played = () => alice.page.evaluate(() => globalThis.played.length);

/** Bob says something, and Alice's list has it. */
async function says(body, content = {}) {
  await send(bob, room, { msgtype: 'm.text', body, ...content });
  await alice.roomRow('Kitchen').filter({ hasText: body }).waitFor();
}

test('the permission is asked for when there is something to be told of', async () => {
  assert.equal(await alice.page.getByText('Be told of new messages').count(), 0);
  await says('Is anybody there?');
  await alice.page.getByText('Be told of new messages').waitFor();
  await alice.shot('ask-permission-light');
  await alice.page.getByRole('button', { name: 'Turn on' }).click();
  await alice.page.getByText('Be told of new messages').waitFor({ state: 'detached' });
});

test('a message is told by desktop and by ear, and leads to its room', async () => {
  const before = await played();
  await says('Dinner at eight');
  await until(async () => (await told()).includes(`Kitchen: ${bob.user}: Dinner at eight`), 'told');
  // Several at once make one sound.
  await until(async () => (await says(`Come ${Math.random()}`), (await played()) > before), 'played');
  await until(async () => /^\(\d+\)/.test(await alice.page.title()), 'counted in the title');
  await alice.page.evaluate(() => globalThis.latest.onclick());
  await alice.page.getByRole('heading', { name: 'Kitchen', level: 1 }).waitFor();
});

test('who looks at the room is not told', async () => {
  // A page behind another is drawn once a second.
  await alice.page.bringToFront();
  const before = (await told()).length;
  await says('You see this anyway');
  await alice.sees('You see this anyway');
  assert.equal((await told()).length, before);
});

test('the sound, its volume and the hours of quiet are chosen, and follow the person', async () => {
  await alice.settings('Notifications');
  const before = await played();
  await alice.page.getByLabel('For messages', { exact: true }).selectOption('Knock');
  await until(async () => (await played()) > before, 'it is heard when it is chosen');
  await alice.page.getByRole('slider', { name: 'Volume' }).fill('30');
  await alice.page.getByRole('button', { name: 'Try it: For mentions' }).click();
  await alice.shot('notifications-light');
  const { userId } = await alice.session();
  const kept = () => alice.call('GET', `/user/${encodeURIComponent(userId)}/account_data/chat.hearth.settings`);
  await until(async () => (await kept()).sounds?.volume === 0.3, 'kept');
  assert.equal((await kept()).sounds.sound, 'knock');

  await alice.page.getByRole('switch', { name: 'Hours of quiet' }).check();
  await alice.page.getByLabel('From', { exact: true }).fill('00:00');
  await alice.page.getByLabel('To', { exact: true }).fill('23:59');
  await until(async () => (await kept()).sounds.ends === '23:59', 'the hours');
  const quiet = (await told()).length;
  await says('Shh');
  assert.equal((await told()).length, quiet, 'not told');
  await alice.page.getByRole('switch', { name: 'Hours of quiet' }).uncheck();
  await until(async () => (await kept()).sounds.quiet === false, 'not quiet any more');
});

test('mention-only: other messages are counted but not told, mentions are', async () => {
  await alice.roomRow('Kitchen').click();
  await alice.menu('Room settings');
  await alice.page.getByLabel('Tell me of').selectOption('Mentions only');
  await until(async () => (await alice.call('GET', '/pushrules/global')).room.some(({ rule_id: id }) => id === room), 'the rule');
  await alice.page.getByRole('link', { name: 'Hearth' }).click();
  await says('Just talk');
  const { userId } = await alice.session();
  await says(`${alice.user}, come`, { 'm.mentions': { user_ids: [userId] } });
  await until(async () => (await told()).some((one) => one.endsWith(`${alice.user}, come`)), 'the mention');
  assert.ok(!(await told()).some((one) => one.endsWith('Just talk')));
});

test('a room has a sound of its own, or none', async () => {
  await alice.roomRow('Kitchen').click();
  await alice.menu('Room settings');
  await alice.page.getByLabel('Tell me of').selectOption('Every message');
  await alice.page.getByRole('complementary').getByLabel('Sound').selectOption('No sound');
  const { userId } = await alice.session();
  await until(async () => (await alice.call('GET', `/user/${encodeURIComponent(userId)}/rooms/${encodeURIComponent(room)}/account_data/chat.hearth.room`).catch(() => ({}))).sound === 'none', 'kept with the room');
  await alice.page.getByRole('link', { name: 'Hearth' }).click();
  const before = await played();
  await says('Silently');
  await until(async () => (await told()).some((one) => one.endsWith('Silently')), 'told');
  assert.equal(await played(), before);
});

test('two tabs of one person: both show it once, one tells of it, and the other takes over', async () => {
  const second = await alice.context.newPage();
  alice.watch(second);
  await second.addInitScript(() => sessionStorage.setItem('allowed', 'granted'));
  await second.addInitScript(watched);
  await second.goto(alice.page.url());
  const row = second.getByRole('navigation', { name: 'Rooms' }).getByRole('link', { name: 'Kitchen' });
  await row.filter({ hasText: 'Silently' }).waitFor();
  await says('To both tabs');
  await row.filter({ hasText: 'To both tabs' }).waitFor();
  await until(async () => (await told()).some((one) => one.endsWith('To both tabs')), 'the first tells');
  assert.deepEqual(await second.evaluate(() => globalThis.told), [], 'the second keeps still');
  // What one says in one tab is in the other, once.
  await row.click();
  await second.getByRole('main').getByRole('textbox', { name: /^Message to/ }).fill('From the second');
  await second.keyboard.press('Enter');
  await alice.roomRow('Kitchen').filter({ hasText: 'From the second' }).waitFor();
  await alice.page.bringToFront();
  await alice.roomRow('Kitchen').click();
  await alice.sees('From the second');
  assert.equal(await alice.message('From the second').count(), 1);
  await second.getByRole('link', { name: 'Hearth' }).click();
  await alice.page.close();
  await until(async () => {
    await send(bob, room, { msgtype: 'm.text', body: 'To the one that is left' });
    return (await second.evaluate(() => globalThis.told.length)) > 0;
  }, 'the second tells now');
  alice.page = second;
});

test('signing out in one tab leads both to the door, and signing in both back', async () => {
  const first = await alice.context.newPage();
  alice.watch(first);
  await first.goto(alice.page.url());
  await first.locator('.app').waitFor();
  await alice.page.bringToFront();
  await alice.page.getByRole('button', { name: 'Your account' }).click();
  await alice.page.getByRole('menuitem', { name: 'Sign out' }).click();
  await alice.page.getByRole('tab', { name: 'Sign in' }).waitFor();
  await first.getByRole('tab', { name: 'Sign in' }).waitFor();
  await alice.signIn();
  await first.locator('.app').waitFor();
  await first.close();
});

test('no console errors', () => {
  alice.noErrors();
  bob.noErrors();
});

test('other apps that are told are listed, with what came of it', async () => {
  // Nobody is at home there, and the server may not call it either.
  const data = { url: 'https://localhost:9/_matrix/push/v1/notify' };
  await alice.call('POST', '/pushers/set', { kind: 'http', app_id: 'org.example.phone', pushkey: 'never-shown', app_display_name: 'Pocket', device_display_name: 'My phone', lang: 'en', data });
  // Not in the room, where it would be read at once.
  await alice.settings('Profile');
  await says('Are you on the way?');
  const log = () => alice.call('GET', '/../unstable/chat.hearth.push/pushers');
  await until(async () => (await log()).pushers[0].log.length > 0, 'it was tried');
  await alice.settings('Notifications');
  const row = alice.page.getByRole('listitem').filter({ hasText: 'Pocket · My phone' });
  await row.getByText('Can’t be reached since').waitFor();
  await row.getByText('What came of it lately').click();
  await row.getByText('Failed').first().waitFor();
  assert.equal(await alice.page.getByText('never-shown').count(), 0);
  await alice.shot('pushers-light');
  await alice.call('POST', '/pushers/set', { kind: null, app_id: 'org.example.phone', pushkey: 'never-shown' });
});
