/**
 * Searching, as the ninth point has it: in all rooms or in one, hits marked, and from
 * each to its place; nothing of it where the server doesn't search.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Person, send, startBrowser, until } from './support.js';

let browser, alice, kitchen, garden, offered;

before(async () => {
  browser = await startBrowser();
  alice = await Person.at(browser, 'alice');
  await alice.register();
  garden = await alice.createRoom('Garden');
  kitchen = await alice.createRoom('Kitchen');
  await send(alice, garden, { msgtype: 'm.text', body: 'The leek grows well this year' });
  await send(alice, kitchen, { msgtype: 'm.text', body: 'Leek soup tonight? <b>Bring bread</b>' });
  for (let n = 1; n <= 60; n++) await send(alice, kitchen, { msgtype: 'm.text', body: `Something else, number ${n}.` });
  offered = await alice.call('POST', '/search', { search_categories: {} }).then(() => true, () => false);
});
after(() => browser?.close());

test('where the server doesn’t search, nothing offers it', async () => {
  await alice.page.route('**/v3/search', (route) => route.fulfill({ status: 404, contentType: 'application/json', body: '{"errcode":"M_UNRECOGNIZED","error":"?"}' }));
  await Promise.all([alice.page.waitForResponse('**/v3/search'), alice.page.reload()]);
  await alice.box.waitFor();
  assert.equal(await alice.page.getByRole('link', { name: 'Search' }).count(), 0);
  await alice.page.unroute('**/v3/search');
});

/** Plays a server that searches, until this one does. */
async function searching() {
  if (offered) return;
  const all = [];
  for (const room of [garden, kitchen]) {
    const { chunk } = await alice.call('GET', `/rooms/${encodeURIComponent(room)}/messages?dir=b&limit=100`);
    all.push(...chunk.map((event) => ({ ...event, room_id: room })));
  }
  await alice.page.route('**/v3/search*', (route) => {
    const { search_term: term = '', filter } = route.request().postDataJSON().search_categories.room_events ?? {};
    const found = all.filter((event) => event.content.body?.toLowerCase().includes(term.toLowerCase()) && (!filter?.rooms || filter.rooms.includes(event.room_id)));
    route.fulfill({ json: { search_categories: { room_events: { count: found.length, highlights: [term], results: found.map((result) => ({ rank: 1, result })) } } } });
  });
}

test('in all rooms, with the words marked, and from a result to its place', async () => {
  await searching();
  await alice.page.reload();
  await alice.page.getByRole('link', { name: 'Search', exact: true }).click();
  await alice.page.getByRole('searchbox', { name: 'Search messages' }).fill('leek');
  const results = alice.page.getByRole('main').getByRole('list');
  await results.getByRole('link', { name: /Garden/ }).waitFor();
  await results.getByRole('link', { name: /Kitchen/ }).waitFor();
  await until(async () => (await alice.page.locator('mark').allTextContents()).join().toLowerCase() === 'leek,leek', 'the marks');
  await alice.shot('search');
  await results.getByRole('link', { name: /Kitchen/ }).click();
  await alice.log.locator('.message.sought', { hasText: 'Leek soup tonight?' }).waitFor();
});

test('in one room', async () => {
  await alice.roomMenu('Search in this room');
  const pane = alice.page.getByRole('complementary', { name: 'Search in this room' });
  await pane.getByRole('searchbox').fill('leek');
  await pane.getByRole('link', { name: /soup/ }).waitFor();
  assert.equal(await pane.getByRole('link', { name: /grows/ }).count(), 0);
  await pane.getByRole('searchbox').fill('nowhere to be found');
  await pane.getByText('Nothing found').waitFor();
});

test('no console errors', () => alice.noErrors());
