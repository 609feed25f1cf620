/**
 * What a client must bear: long rooms, reloads, a lost network, an ended session, a phone.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { CLIENT, Person, SERVER, send, startBrowser, until } from './support.js';

const MESSAGES = 230;
let browser, alice, bob, room;

before(async () => {
  browser = await startBrowser();
  alice = await Person.at(browser, 'alice');
  bob = await Person.at(browser, 'bob');
  await alice.register();
  await bob.register();
  room = await alice.createRoom('Long talk');
  await alice.invite(bob);
  await bob.roomRow('Long talk').click();
  await bob.page.getByRole('button', { name: 'Join' }).click();
  await bob.box.waitFor();
  for (let n = 1; n <= MESSAGES; n++) await send(n % 7 < 4 ? alice : bob, room, { msgtype: 'm.text', body: `Message number ${n}.` });
});
after(() => browser?.close());

test('scrolling back reaches the first of more than 200 messages, in order', async () => {
  await bob.page.reload();
  await bob.sees(`Message number ${MESSAGES}.`);
  const log = bob.log;
  const seen = new Set();
  let most = 0;
  await log.hover();
  await until(
    async () => {
      // Asked before the rows are read, so that the last rows are read too.
      const begins = await log.getByText('This is where Long talk begins').isVisible();
      await bob.page.mouse.wheel(0, -700);
      const numbers = await log.evaluate((el) => [...el.querySelectorAll('.message')].map((row) => Number(row.textContent.match(/number (\d+)\./)?.[1])).filter(Boolean));
      for (const [at, number] of numbers.entries()) if (at) assert.equal(number, numbers[at - 1] + 1, 'rows stand in order, without holes');
      numbers.forEach((number) => seen.add(number));
      most = Math.max(most, await log.locator('li').count());
      return begins;
    },
    'the room’s start',
    60,
  );
  assert.equal(seen.size, MESSAGES);
  assert.ok(most <= 200, `${most} rows in the document`);
  await log.evaluate((el) => (el.scrollTop = 0));
  await bob.shot('room-start');
});

test('reading further back leaves what is being read in its place', async () => {
  await bob.page.getByRole('button', { name: 'To the newest message' }).click();
  await bob.sees(`Message number ${MESSAGES}.`);
  // Slow answers, so that the rows come while nothing else moves.
  await bob.page.route('**/messages?*', async (route) => {
    await new Promise((resolve) => setTimeout(resolve, 600));
    await route.continue();
  });
  await bob.page.reload();
  await bob.sees(`Message number ${MESSAGES}.`);
  // Up to where the next page is being fetched; rows that are here already come at once.
  const busy = () => bob.log.evaluate((el) => el.getAttribute('aria-busy') === 'true');
  await until(async () => !(await busy()), 'rest');
  await until(async () => {
    await bob.log.evaluate(async (el) => {
      el.scrollTop = 0;
      for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
    });
    return busy();
  }, 'a page being fetched');
  const before = await bob.log.evaluate(inSight);
  await until(async () => (await bob.log.evaluate(inSight, before.id)).lowest < before.lowest, 'older messages');
  await bob.page.evaluate(() => new Promise(requestAnimationFrame));
  const now = await bob.log.evaluate(inSight, before.id);
  assert.ok(Math.abs(now.top - before.top) < 2, `moved by ${now.top - before.top} pixels`);
  await bob.page.unroute('**/messages?*');
});

/** A row in sight (or the one asked for), not the first, which may lose its head to the one before. */
function inSight(el, id) {
  const edge = el.getBoundingClientRect().top;
  const row = [...el.querySelectorAll('.message')].find((one) => (id ? one.dataset.eventId === id : one.getBoundingClientRect().top > edge + 350));
  const lowest = Number(el.textContent.match(/number (\d+)\./)[1]);
  return { id: row.dataset.eventId, top: row.getBoundingClientRect().top, lowest };
}

test('new messages come in while reading above, without moving it', async () => {
  const before = await bob.log.evaluate(inSight);
  await send(alice, room, { msgtype: 'm.text', body: 'While you were reading' });
  await until(async () => (await bob.roomRow('Long talk').textContent()).includes('While you were reading'), 'the new message');
  const now = await bob.log.evaluate(inSight, before.id);
  assert.ok(Math.abs(now.top - before.top) < 2, `moved by ${now.top - before.top} pixels`);
  await bob.page.getByRole('button', { name: 'To the newest message' }).click();
  await bob.sees('While you were reading');
});

test('a reload shows the last state at once, even without the server', async () => {
  bob.expectsTrouble = true;
  await bob.context.route('**/_matrix/**', (route) => route.abort());
  await bob.page.reload();
  await bob.sees('While you were reading');
  await bob.page.getByText('No connection. Trying again').waitFor();
  await send(alice, room, { msgtype: 'm.text', body: 'Said meanwhile' });
  await bob.context.unroute('**/_matrix/**');
  await bob.sees('Said meanwhile');
  bob.expectsTrouble = false;
});

test('a draft survives a reload', async () => {
  await bob.box.fill('Half a thought');
  await bob.page.reload();
  await until(async () => (await bob.box.inputValue()) === 'Half a thought', 'the draft');
  await bob.box.fill('');
});

test('what could not be sent waits for the connection, and is said once', async () => {
  bob.expectsTrouble = true;
  await bob.context.setOffline(true);
  await bob.say('Through thick and thin');
  const row = bob.message('Through thick and thin');
  await row.getByRole('img', { name: 'Sending' }).waitFor();
  await row.getByText('Waiting for the connection').waitFor({ timeout: 40_000 });
  await bob.shot('not-sent');
  await bob.context.setOffline(false);
  await alice.sees('Through thick and thin');
  await row.getByText('Waiting for the connection').waitFor({ state: 'detached' });
  assert.equal(await alice.message('Through thick and thin').count(), 1);
  assert.equal(await row.count(), 1);
  bob.expectsTrouble = false;
});

test('what the server refused is tried again by hand, or given up', async () => {
  bob.expectsTrouble = true;
  await bob.context.routeWebSocket(/.*/, (socket) => socket.close());
  await bob.page.reload();
  await bob.context.route('**/send/m.room.message/**', (route) => route.fulfill({ status: 403, json: { errcode: 'M_FORBIDDEN', error: 'no' } }));
  for (const text of ['Refused at first', 'Refused for good']) await bob.say(text);
  await bob.message('Refused for good').getByText('Not sent').waitFor();
  await bob.context.unroute('**/send/m.room.message/**');
  await bob.message('Refused at first').getByRole('button', { name: 'Try again' }).click();
  await alice.sees('Refused at first');
  await bob.message('Refused for good').getByRole('button', { name: 'Discard' }).click();
  await bob.message('Refused for good').waitFor({ state: 'detached' });
  assert.equal(await alice.message('Refused for good').count(), 0);
  bob.expectsTrouble = false;
});

test('an answer that was lost does not make the message twice', async () => {
  bob.expectsTrouble = true;
  let lost = 0;
  await bob.context.route('**/send/m.room.message/**', async (route) => {
    if (lost++) return route.continue();
    await route.fetch();
    await route.abort();
  });
  await bob.say('Only once');
  await alice.sees('Only once');
  await until(async () => !(await bob.message('Only once').getByRole('img', { name: 'Sending' }).count()), 'sent');
  assert.equal(await alice.message('Only once').count(), 1);
  assert.equal(await bob.message('Only once').count(), 1);
  await bob.context.unroute('**/send/m.room.message/**');
  bob.expectsTrouble = false;
});

test('on a phone one pane at a time, and back by the browser', async () => {
  const phone = await Person.at(browser, 'phone', { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true });
  phone.user = bob.user;
  await phone.open(`#/room/${room}`);
  await phone.signIn();
  await phone.sees('Only once');
  assert.ok(await phone.roomRow('Long talk').isHidden(), 'the link leads to the room itself');
  await phone.shot('phone-room');
  await phone.page.getByRole('link', { name: 'Back' }).click();
  await phone.roomRow('Long talk').waitFor();
  assert.ok(await phone.box.isHidden());
  await phone.shot('phone-rooms');
  await phone.page.goBack();
  await phone.box.waitFor();
  await phone.page.getByRole('link', { name: 'Members' }).click();
  await phone.page.getByText('2 members').last().waitFor();
  await phone.page.goBack();
  await phone.box.waitFor();
  assert.equal(await phone.page.evaluate(() => document.documentElement.scrollWidth), 360, 'nothing sticks out');
  phone.noErrors();
  await phone.context.close();
});

test('everything works by keyboard', async () => {
  const { page } = bob;
  await page.reload();
  await bob.box.waitFor();
  await bob.box.focus();
  await page.keyboard.type('By keyboard');
  await page.keyboard.press('Enter');
  await alice.sees('By keyboard');
  await page.getByRole('button', { name: 'Your account' }).focus();
  await page.keyboard.press('Enter');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('Escape');
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), 'Your account', 'focus comes back');
  await page.getByRole('button', { name: 'Invite somebody' }).focus();
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').waitFor();
  await alice.call('PUT', `/rooms/${encodeURIComponent(room)}/state/m.room.topic/`, { topic: 'What changes meanwhile' });
  await page.getByText('What changes meanwhile').first().waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), 'Invite somebody');
});

test('Korean, switched at once and kept', async () => {
  await alice.settings('Appearance');
  await alice.page.getByRole('radio', { name: '한국어' }).check();
  await alice.page.getByRole('navigation', { name: '대화방' }).waitFor();
  await alice.page.goBack();
  await alice.page.goBack();
  await alice.page.getByRole('log', { name: '메시지' }).waitFor();
  await alice.shot('korean');
  await alice.page.reload();
  await alice.page.getByRole('navigation', { name: '대화방' }).waitFor();
  assert.equal(await alice.page.evaluate(() => document.documentElement.lang), 'ko');
});

test('a session that has ended leads to the door, and back to the same place', async () => {
  const { token } = await bob.session();
  await fetch(`${SERVER}/_matrix/client/v3/logout`, { method: 'POST', headers: { Authorization: `Bearer ${token}` } });
  await bob.page.getByText('Your session has ended').waitFor({ timeout: 40_000 });
  await bob.page.getByLabel('Password').fill('a few words make a good one');
  await bob.page.getByRole('button', { name: 'Sign in' }).click();
  await bob.page.getByRole('heading', { name: 'Long talk', level: 1 }).waitFor();
  assert.ok(bob.page.url().startsWith(`${CLIENT}/#/room/`));
});

test('no console errors', () => {
  alice.noErrors();
  bob.noErrors();
});
