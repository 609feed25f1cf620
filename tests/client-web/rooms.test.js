/** Rooms: making them, their settings, their sections in the list. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { edges, firstWhere, lastAbove } from '../../client-web/kit/list.js';
import { Api } from '../../client-web/matrix/api.js';
import { inMemory } from '../../client-web/matrix/disk.js';
import { isAnnouncements, Rooms } from '../../client-web/matrix/rooms.js';
import { sections } from '../../client-web/matrix/sections.js';
import { Store } from '../../client-web/matrix/store.js';
import { event, joined, scripted } from './support.js';

const ME = '@me:h';

function house(...answers) {
  const { fetch, calls } = scripted(...answers);
  const store = new Store(ME, inMemory());
  return { calls, store, rooms: new Rooms({ api: new Api({ base: 'https://h', token: 't', fetch }), store, me: ME }) };
}
const state = (type, content, key = '') => event(type, content, { state_key: key });

test('a room is made as it was wanted', async () => {
  const { rooms, calls } = house([200, { room_id: '!new' }], [200, { room_id: '!small' }]);
  assert.equal(await rooms.create({ name: 'News', topic: 'What is new', open: true, alias: 'news', picture: 'mxc://h/p', federated: false, announcements: true, invite: ['@bob:h'] }), '!new');
  const { body } = calls[0];
  assert.deepEqual([body.preset, body.visibility, body.room_alias_name, body.topic, body.creation_content, body.invite], ['public_chat', 'public', 'news', 'What is new', { 'm.federate': false }, ['@bob:h']]);
  assert.equal(body.power_level_content_override.events_default, 100);
  assert.equal(body.power_level_content_override.events['m.reaction'], 0);
  assert.deepEqual(body.initial_state[0].content, { url: 'mxc://h/p' });
  await rooms.create({ name: 'Den', topic: '', open: false, alias: 'ignored' });
  assert.deepEqual(calls[1].body, { name: 'Den', preset: 'private_chat', visibility: 'private' });
});

test('roles are set on the newest levels', async () => {
  const { rooms, store, calls } = house([200, { users: { [ME]: 100, '@bob:h': 50 }, ban: 60 }], [200, {}], [200, { users: { [ME]: 100, '@bob:h': 50 } }], [200, {}]);
  store.apply(joined('!r'));
  await rooms.setPower(store.room('!r'), '@bob:h', 100);
  assert.deepEqual(calls[1].body, { users: { [ME]: 100, '@bob:h': 100 }, ban: 60 });
  await rooms.setPower(store.room('!r'), '@bob:h', 0);
  assert.deepEqual(calls[3].body, { users: { [ME]: 100 } });
});

test('a room for announcements is one where others can’t write', async () => {
  const { rooms, store, calls } = house([200, { events: { 'm.room.name': 50 } }], [200, {}]);
  store.apply(joined('!r', { state: [state('m.room.power_levels', { events_default: 100 })] }));
  assert.ok(isAnnouncements(store.room('!r')));
  await rooms.setAnnouncements(store.room('!r'), false);
  assert.deepEqual(calls[1].body, { events: { 'm.room.name': 50 }, events_default: 0 });
});

test('an address: made, if it isn’t the room’s already, and the old one kept beside it', async () => {
  const { rooms, store, calls } = house([404, { errcode: 'M_NOT_FOUND' }], [200, {}], [200, {}]);
  store.apply(joined('!r', { state: [state('m.room.canonical_alias', { alias: '#old:h' })] }));
  await rooms.setAlias(store.room('!r'), '#new:h');
  assert.deepEqual(calls[2].body, { alias: '#new:h', alt_aliases: ['#old:h'] });
  await rooms.setAlias(store.room('!r'), '#old:h');
  assert.equal(calls.length, 3, 'nothing to do');
});

test('public rooms of another server, page by page', async () => {
  const { rooms, calls } = house([200, { chunk: [{ room_id: '!a' }, { odd: 1 }], next_batch: 'n' }]);
  assert.deepEqual(await rooms.explore({ server: 'other.example', search: 'tea' }), { rooms: [{ room_id: '!a' }], next: 'n', total: undefined });
  assert.ok(calls[0].url.endsWith('/publicRooms?server=other.example'));
  assert.deepEqual(calls[0].body, { limit: 30, filter: { generic_search_term: 'tea' } });
});

test('tags show at once, and decide the section', async () => {
  const { rooms, store } = house([200, {}], [200, {}]);
  for (const id of ['!plain', '!star', '!low', '!bob']) store.apply(joined(id));
  store.apply({ account_data: { events: [{ type: 'm.direct', content: { '@bob:h': ['!bob'] } }] }, rooms: { invite: { '!inv': { invite_state: { events: [] } } } } });
  await rooms.tag(store.room('!star'), 'm.favourite', true);
  store.apply(joined('!low', { account_data: { events: [{ type: 'm.tag', content: { tags: { 'm.lowpriority': {} } } }] } }));
  const found = () => sections(store.rooms.value, store.direct.value).map(({ name, rooms: some }) => [name, some.map(({ id }) => id).join()]);
  assert.deepEqual(found(), [['invites', '!inv'], ['favourites', '!star'], ['people', '!bob'], ['rooms', '!plain'], ['low', '!low']]);
  await rooms.tag(store.room('!star'), 'm.favourite', false);
  assert.equal(found()[2][1], '!plain,!star');
});

test('a room that has moved is in no section once one is in the new one', () => {
  const { store } = house();
  store.apply(joined('!old', { state: [state('m.room.tombstone', { body: '', replacement_room: '!new' })] }));
  const found = () => sections(store.rooms.value, store.direct.value).flatMap(({ rooms: some }) => some.map(({ id }) => id));
  assert.deepEqual(found(), ['!old']);
  store.apply(joined('!new'));
  assert.deepEqual(found(), ['!new']);
});

test('tags and other account data of a room outlast a reload', async () => {
  const { store } = house();
  store.apply(joined('!r', { account_data: { events: [{ type: 'm.tag', content: { tags: { 'm.favourite': {} } } }] } }));
  await store.save('s1');
  const again = new Store(ME, store.disk);
  await again.restore();
  assert.ok(again.room('!r').hasTag('m.favourite'));
});

test('rows of several heights stand where they should', () => {
  const tops = edges([36, 60, 60], (height) => height);
  assert.deepEqual(tops, [0, 36, 96, 156]);
  assert.deepEqual([0, 35, 36, 95, 96, 500].map((line) => lastAbove(tops, line)), [0, 0, 1, 1, 2, 3]);
  assert.deepEqual([0, 3, 4].map((first) => firstWhere(4, (at) => at >= first)), [0, 3, 4]);
  assert.equal(firstWhere(0, () => true), 0);
});
