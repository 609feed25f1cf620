/**
 * Messages, as the fifth point has them: writing with Markdown, mentions and emoji;
 * editing, answering, reacting, threads, pins, links; drafts; going to where one wants to be.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Person, send, startBrowser, until } from './support.js';

let browser, alice, bob, room;

before(async () => {
  browser = await startBrowser();
  alice = await Person.at(browser, 'alice', { permissions: ['clipboard-read', 'clipboard-write'] });
  bob = await Person.at(browser, 'bob');
  await alice.register();
  await bob.register();
  room = await alice.createRoom('Workshop');
  await alice.invite(bob);
  await bob.accept('Workshop');
});
after(() => browser?.close());

const latest = (person) => person.log.getByRole('listitem').last();
/** The last event of the room, as the server has it. */
async function lastEvent() {
  const { chunk } = await alice.call('GET', `/rooms/${encodeURIComponent(room)}/messages?dir=b&limit=1`);
  return chunk[0];
}

test('Markdown is sent formatted, after a preview of it', async () => {
  await alice.page.getByRole('button', { name: 'Format and preview' }).click();
  const text = '**bold** *italic* ~~gone~~ `code`\n\n> quote\n\n- one\n- two\n\n```js\nlet a = 1 < 2;\n```\n[a link](https://example.org/)';
  await alice.box.fill(text);
  const preview = alice.page.getByRole('region', { name: 'Preview' });
  for (const tag of ['strong', 'em', 'del', 'blockquote', 'li', 'pre code', 'a[href="https://example.org/"]']) await preview.locator(tag).first().waitFor();
  await alice.shot('composer-preview');
  await alice.box.press('Enter');
  await bob.sees('let a = 1 < 2;');
  for (const tag of ['strong', 'em', 'del', 'code', 'blockquote', 'ul > li', 'pre code.language-js', 'a[rel~=nofollow]']) assert.ok(await bob.log.locator(`.said ${tag}`).count(), tag);
  const { content } = await lastEvent();
  assert.equal(content.body, text);
  assert.equal(content.format, 'org.matrix.custom.html');
  await alice.page.getByRole('button', { name: 'Format and preview' }).click();
});

test('the keys for bold and italic put marks around what is chosen', async () => {
  await alice.box.fill('loud');
  await alice.box.press('Control+a');
  await alice.box.press('Control+b');
  assert.equal(await alice.box.inputValue(), '**loud**');
  await alice.box.press('Control+z');
  assert.equal(await alice.box.inputValue(), 'loud');
  await alice.box.fill('');
});

test('a mention is completed after @, and reaches who is meant', async () => {
  await alice.box.pressSequentially(`Hello @${bob.user.slice(0, 5)}`);
  const list = alice.page.getByRole('listbox', { name: 'Suggestions' });
  await list.getByRole('option', { name: bob.user }).waitFor();
  await alice.shot('mention-completion');
  await alice.box.press('Enter');
  await alice.box.pressSequentially('— lunch?');
  await alice.box.press('Enter');
  await bob.sees('— lunch?');
  const { userId } = await bob.session();
  const { content } = await lastEvent();
  assert.deepEqual(content['m.mentions'], { user_ids: [userId] });
  assert.equal(await latest(bob).locator('.pill').textContent(), `@${bob.user}`);
});

test('emoji by their name after :, and from the picker', async () => {
  await alice.box.pressSequentially(':tad');
  await alice.page.getByRole('option', { name: ':tada:' }).waitFor();
  await alice.box.press('Tab');
  assert.equal(await alice.box.inputValue(), '🎉');
  await alice.page.getByRole('button', { name: 'Emoji', exact: true }).click();
  const picker = alice.page.getByRole('dialog', { name: 'Choose an emoji' });
  await picker.getByRole('button', { name: 'grinning', exact: true }).waitFor();
  await alice.shot('emoji-picker');
  await picker.getByRole('searchbox').fill('rocket');
  await picker.getByRole('button', { name: 'rocket' }).click();
  assert.equal(await alice.box.inputValue(), '🎉🚀');
  await alice.box.press('Enter');
  await bob.sees('🎉🚀');
});

test('one’s own message is edited, and its history can be read', async () => {
  await alice.say('See you at sevn');
  await bob.sees('See you at sevn');
  await alice.act(alice.message('See you at sevn'), 'Edit');
  assert.equal(await alice.box.inputValue(), 'See you at sevn');
  await alice.box.fill('See you at *seven*');
  await alice.box.press('Enter');
  await bob.message('See you at seven').getByText('edited').waitFor();
  assert.equal(await bob.message('sevn').count(), 0);
  // The list of rooms tells it as it reads now.
  for (const person of [alice, bob]) await person.page.locator('.room-row-preview', { hasText: 'See you at seven' }).waitFor();
  assert.equal(await bob.message('See you at seven').locator('em').textContent(), 'seven');
  await bob.message('See you at seven').getByRole('button', { name: 'edited' }).click();
  const dialog = bob.page.getByRole('dialog', { name: 'Earlier versions' });
  await dialog.getByText('See you at sevn').waitFor();
  await dialog.getByText('See you at seven').waitFor();
  await bob.page.keyboard.press('Escape');
  // The arrow up in an empty field edits what was said last; Escape leaves it.
  await alice.box.press('ArrowUp');
  await until(async () => (await alice.box.inputValue()) === 'See you at *seven*', 'the last message');
  await alice.box.press('Escape');
  await until(async () => (await alice.box.inputValue()) === '', 'the empty draft');
});

test('a very long message shows its beginning, and all of it to who wants it', async () => {
  const lines = Array.from({ length: 120 }, (_, at) => `verse ${at}`);
  await alice.box.fill(lines.join('\n'));
  await alice.box.press('Enter');
  const long = bob.message('verse 0');
  const [more, less] = ['Show all', 'Show less'].map((name) => long.getByRole('button', { name }));
  await more.waitFor();
  const height = async () => (await long.boundingBox()).height;
  assert.ok((await height()) < 420, 'folded');
  const top = async () => (await long.boundingBox()).y;
  const before = await top();
  await more.click();
  await less.waitFor();
  assert.ok((await height()) > 1500, 'whole');
  // Who reads at the end of the conversation stays where they are, and is told of more below.
  await bob.page.getByRole('button', { name: 'To the newest message' }).waitFor();
  assert.ok(Math.abs((await top()) - before) < 4, 'nothing moves');
  await alice.say('And so on');
  await bob.page.getByRole('button', { name: 'To the newest message' }).click();
  await bob.sees('And so on');
  await less.click();
  await more.waitFor();
  assert.ok((await height()) < 420, 'folded again');
});

test('an answer shows what it answers, and leads there', async () => {
  await bob.act(bob.message('See you at seven'), 'Reply');
  await bob.page.getByText('Reply to').waitFor();
  await bob.say('I will be late');
  const quote = alice.message('I will be late').getByRole('button', { name: /In reply to .*: See you at/ });
  await quote.waitFor();
  const { content } = await lastEvent();
  assert.ok(content['m.relates_to']['m.in_reply_to'].event_id);
  assert.deepEqual(content['m.mentions'].user_ids, [(await alice.session()).userId]);
  await quote.click();
  await alice.log.locator('.message.sought', { hasText: 'See you at seven' }).waitFor();
});

test('reactions are given, counted and taken back', async () => {
  await bob.act(bob.message('See you at seven').first(), 'React');
  await bob.page.getByRole('dialog', { name: 'Choose an emoji' }).getByRole('button', { name: '+1' }).first().click();
  const given = alice.message('See you at seven').first().getByRole('button', { name: `👍 1: ${bob.user}` });
  await given.waitFor();
  await given.click();
  await until(async () => (await bob.message('See you at seven').first().locator('.reaction-count').textContent()) === '2', 'both');
  await alice.message('See you at seven').first().locator('.reaction.mine').click();
  await until(async () => (await bob.message('See you at seven').first().locator('.reaction-count').textContent()) === '1', 'one again');
});

test('others’ messages are deleted by who has the power to', async () => {
  await bob.say('Rude words');
  await alice.sees('Rude words');
  await alice.act(alice.message('Rude words'), 'Delete message');
  await alice.page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await bob.message(`Message deleted by ${alice.user}`).waitFor();
});

test('a thread opens beside the conversation and stays out of it', async () => {
  await alice.act(alice.message('See you at seven').first(), 'Reply in a thread');
  const thread = alice.page.getByRole('complementary', { name: 'Thread' });
  await thread.getByText('See you at seven').waitFor();
  const box = thread.getByRole('textbox', { name: 'Message to the thread' });
  await box.fill('About the place');
  await box.press('Enter');
  await thread.getByText('About the place').waitFor();
  const line = bob.message('See you at seven').first().getByRole('link', { name: /1 reply/ });
  await line.waitFor();
  assert.equal(await bob.log.locator('.message-main .said', { hasText: 'About the place' }).count(), 0, 'not among the room’s messages');
  await line.click();
  const other = bob.page.getByRole('complementary', { name: 'Thread' });
  await other.getByText('About the place').first().waitFor();
  await other.getByRole('textbox').fill('The old mill?');
  await other.getByRole('textbox').press('Enter');
  await thread.getByText('The old mill?').waitFor();
  await alice.log.getByRole('link', { name: /2 replies/ }).waitFor();
  const { content } = await lastEvent();
  assert.equal(content['m.relates_to'].rel_type, 'm.thread');
  await alice.shot('thread');
  await bob.page.reload();
  await other.getByText('The old mill?').first().waitFor();
  await other.getByText('See you at').first().waitFor();
  await other.getByRole('link', { name: 'Threads' }).click();
  const all = bob.page.getByRole('complementary', { name: 'Threads' });
  await all.getByRole('link', { name: /See you at/ }).waitFor();
  await all.getByRole('link', { name: 'Close' }).click();
  // What is said there now is unread until it is looked at there.
  await thread.getByRole('textbox').fill('At eight, then');
  await thread.getByRole('textbox').press('Enter');
  const unread = bob.message('See you at seven').first().getByRole('link', { name: /3 replies/ }).getByRole('img', { name: '1 unread message' });
  await unread.waitFor();
  await bob.shot('thread-unread');
  await bob.page.getByRole('link', { name: '1 unread message in threads' }).click();
  await all.getByRole('link', { name: /See you at/ }).click();
  await other.getByText('At eight, then').first().waitFor();
  await unread.waitFor({ state: 'detached' });
  await other.getByRole('link', { name: 'Close' }).click();
  await bob.hasRead(room);
  await bob.page.reload();
  await bob.sees('See you at seven');
  assert.equal(await bob.page.getByLabel(/unread/).count(), 0);
  await thread.getByRole('link', { name: 'Close' }).click();
});

test('messages are pinned, listed and gone to', async () => {
  await alice.act(alice.message('See you at seven').first().first(), 'Pin');
  await alice.message('See you at seven').first().first().getByRole('img', { name: 'Pinned' }).waitFor();
  await bob.roomMenu('Pinned messages');
  const pane = bob.page.getByRole('complementary', { name: 'Pinned messages' });
  await pane.getByRole('link', { name: /See you at/ }).click();
  await bob.log.locator('.message.sought', { hasText: 'See you at seven' }).waitFor();
});

test('a link to a message is copied, and leads to it', async () => {
  await alice.act(alice.message('I will be late'), 'Copy link');
  await alice.page.getByText('Link copied').waitFor();
  const link = await alice.page.evaluate(() => navigator.clipboard.readText());
  assert.match(link, /^https:\/\/matrix\.to\/#\/.+\?via=/);
  await bob.say(`Look: ${link}`);
  await alice.message('Look:').locator('a[href*="%24"], a[href*="$"]').click();
  await alice.log.locator('.message.sought', { hasText: 'I will be late' }).waitFor();
});

test('a draft survives a reload, with its mentions and what it answers', async () => {
  await alice.act(alice.message('I will be late'), 'Reply');
  await alice.box.pressSequentially(`Fine @${bob.user.slice(0, 6)}`);
  await alice.page.getByRole('option', { name: bob.user }).waitFor();
  await alice.box.press('Enter');
  await alice.page.reload();
  await until(async () => (await alice.box.inputValue()) === `Fine @${bob.user} `, 'the draft');
  await alice.page.getByText('Reply to').waitFor();
  await alice.box.press('Enter');
  await bob.message('Fine').getByRole('button', { name: /In reply to/ }).waitFor();
  assert.equal((await lastEvent()).content['m.mentions'].user_ids[0], (await bob.session()).userId);
});

test('from a link deep in the past one reads on to the present', async () => {
  const ids = [];
  for (let n = 1; n <= 260; n++) ids.push(await send(n % 9 < 5 ? alice : bob, room, { msgtype: 'm.text', body: `Line ${n}.` }));
  const { origin } = new URL(bob.page.url());
  await bob.page.goto('about:blank');
  await bob.page.goto(`${origin}/#/room/${room}/${ids[20]}`);
  await bob.log.locator('.message.sought', { hasText: 'Line 21.' }).waitFor();
  assert.equal(await bob.message('Line 260.').count(), 0);
  const seen = new Set();
  await bob.log.hover();
  await until(async () => {
    const numbers = await bob.log.evaluate((el) => [...el.querySelectorAll('.message')].map((row) => Number(row.textContent.match(/Line (\d+)\./)?.[1])).filter(Boolean));
    for (const [at, number] of numbers.entries()) if (at) assert.equal(number, numbers[at - 1] + 1, 'in order, without holes');
    numbers.forEach((number) => seen.add(number));
    await bob.page.mouse.wheel(0, 1200);
    return numbers.includes(260);
  }, 'the present', 60);
  for (let n = 21; n <= 260; n++) assert.ok(seen.has(n), `line ${n}`);
  // Nothing is missing between the past and the present: it goes on as it comes.
  await until(async () => (await bob.page.mouse.wheel(0, 1200), bob.page.getByRole('button', { name: 'To the newest message' }).isHidden()), 'the end');
  await alice.say('And now');
  await bob.sees('And now');
});

test('one jumps to a day', async () => {
  const { chunk } = await alice.call('GET', `/rooms/${encodeURIComponent(room)}/messages?dir=f&limit=60`);
  const first = chunk.find(({ content }) => content.body?.startsWith('Line 1.'));
  let asked;
  // The day of all these messages is today: the answer is given here, and the question looked at.
  await bob.page.route('**/timestamp_to_event*', (route) => {
    asked = new URL(route.request().url()).searchParams;
    route.fulfill({ json: { event_id: first.event_id, origin_server_ts: first.origin_server_ts } });
  });
  await bob.roomMenu('Jump to a day');
  await bob.page.getByLabel('Day', { exact: true }).fill('2026-01-02');
  await bob.page.getByRole('dialog').getByRole('button', { name: 'Jump' }).click();
  await bob.log.locator('.message.sought', { hasText: 'Line 1.' }).waitFor();
  assert.deepEqual([asked.get('dir'), Number(asked.get('ts'))], ['f', await bob.page.evaluate(() => new Date('2026-01-02T00:00:00').getTime())]);
  await bob.page.unroute('**/timestamp_to_event*');
  await bob.page.route('**/timestamp_to_event*', (route) => route.fulfill({ status: 404, json: { errcode: 'M_UNRECOGNIZED', error: '' } }));
  await bob.roomMenu('Jump to a day');
  await bob.page.getByLabel('Day', { exact: true }).fill('2026-01-02');
  await bob.page.getByRole('dialog').getByRole('button', { name: 'Jump' }).click();
  await bob.page.getByText('This server can’t find messages by their day.').waitFor();
  await bob.page.keyboard.press('Escape');
  await bob.page.unroute('**/timestamp_to_event*');
  await bob.page.getByRole('button', { name: 'To the newest message' }).click();
  await bob.sees('And now');
  // And with the server's own answer: the room is of today.
  await bob.roomMenu('Jump to a day');
  await bob.page.getByLabel('Day', { exact: true }).fill(await bob.page.evaluate(() => new Date().toLocaleDateString('sv')));
  await bob.page.getByRole('dialog').getByRole('button', { name: 'Jump' }).click();
  await bob.log.getByText(/^This is where/).waitFor();
  await bob.page.getByRole('button', { name: 'To the newest message' }).click();
  await bob.sees('And now');
});

test('the first unread message is one click away', async () => {
  await bob.page.getByRole('link', { name: 'Hearth' }).click();
  for (let n = 1; n <= 60; n++) await send(alice, room, { msgtype: 'm.text', body: `News ${n}.` });
  await bob.roomRow('Workshop').getByLabel('60 unread messages').waitFor();
  await bob.roomRow('Workshop').click();
  await bob.sees('News 60.');
  const jump = bob.page.getByRole('button', { name: '60 new messages' });
  await jump.click();
  await bob.page.locator('.new-line').getByText('New', { exact: true }).waitFor();
  await bob.sees('News 1.');
  await bob.page.getByRole('button', { name: 'To the newest message' }).click();
  await bob.sees('News 60.');
});

test('the ear hears messages in order, each with its sender', async () => {
  const heard = await bob.log.evaluate((el) => [...el.querySelectorAll('.message')].slice(-3).map((row) => row.textContent));
  for (const text of heard) assert.match(text, /alice-|bob-/);
  assert.equal(await bob.log.getAttribute('aria-label'), 'Messages');
});

test('by keyboard: to a message, and an answer to it', async () => {
  await bob.log.focus();
  await bob.page.keyboard.press('ArrowUp');
  await bob.page.keyboard.press('ArrowUp');
  assert.match(await bob.page.evaluate(() => document.activeElement.textContent), /News 59\./);
  await bob.page.keyboard.press('r');
  // At once: none of these keys is an order to the message any more.
  await bob.page.keyboard.type('Answered by keyboard');
  await bob.page.keyboard.press('Enter');
  await alice.message('Answered by keyboard').getByRole('button', { name: /In reply to .*: News 59/ }).waitFor();
});

test('no console errors', () => {
  alice.noErrors();
  bob.noErrors();
});
