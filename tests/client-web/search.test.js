/** Searching: whether it is offered, the question, the hits in a text. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Api } from '../../client-web/matrix/api.js';
import { Search, marked } from '../../client-web/matrix/search.js';
import { message, scripted } from './support.js';

const search = (...script) => {
  const { fetch, calls } = scripted(...script);
  return { it: new Search(new Api({ base: 'https://here.example', token: 't', fetch })), calls };
};

test('a server that has no search is asked once, and shows none', async () => {
  const { it, calls } = search([404, { errcode: 'M_UNRECOGNIZED' }]);
  await it.probe();
  await it.probe();
  assert.equal(calls.length, 1);
  assert.equal(it.offered.value, false);
  for (const answer of [[200, { search_categories: {} }], [400, { errcode: 'M_BAD_JSON' }]]) {
    const { it: other } = search(answer);
    await other.probe();
    assert.equal(other.offered.value, true);
  }
});

test('a question about one room, and its further pages', async () => {
  const results = [{ rank: 1, result: { ...message('a leek soup'), room_id: '!r' } }, { result: null }, { result: message('without a room') }];
  const { it, calls } = search([200, { search_categories: { room_events: { count: 30, highlights: ['soup', 7], results, next_batch: 'n1' } } }]);
  const found = await it.find('soup', { roomId: '!r', next: 'n0' });
  assert.ok(calls[0].url.endsWith('/search?next_batch=n0'));
  assert.deepEqual(calls[0].body.search_categories.room_events.filter, { limit: 20, rooms: ['!r'] });
  assert.deepEqual([found.count, found.results.length, found.words, found.next], [30, 1, ['soup'], 'n1']);
});

test('hits are marked, wherever they stand', () => {
  const shown = (text, words) => marked(text, words).map(({ text: part, hit }) => (hit ? `[${part}]` : part)).join('');
  assert.equal(shown('Leek soup and SOUP', ['soup']), 'Leek [soup] and [SOUP]');
  assert.equal(shown('a+b (c)', ['a+b', '(c)']), '[a+b] [(c)]');
  assert.equal(shown('nothing here', ['soup']), 'nothing here');
  const long = shown(`${'word '.repeat(100)}soup${' word'.repeat(100)}`, ['soup']);
  assert.ok(long.startsWith('…') && long.endsWith('…') && long.includes('[soup]') && long.length < 200, long);
  assert.equal(shown('된장국 끓이기', ['된장']), '[된장]국 끓이기');
});
