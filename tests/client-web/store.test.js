/** The store: what sync answers change, what is kept on the disk, what comes back. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inMemory } from '../../client-web/matrix/disk.js';
import { Store } from '../../client-web/matrix/store.js';
import { event, joined, member, message } from './support.js';

const ME = '@me:here';
const ROOM = '!room:here';

async function store(disk = inMemory()) {
  const made = new Store(ME, disk);
  await made.restore();
  return made;
}
const state = (type, content, key = '') => event(type, content, { state_key: key });

test('a room comes, is named, counted and sorted', async () => {
  const it = await store();
  assert.equal(it.ready.value, false);
  await it.take(joined(ROOM, { state: [state('m.room.name', { name: 'Kitchen' }), member(ME)], events: [message('one')], unread_notifications: { notification_count: 2, highlight_count: 1 } }));
  await it.take(joined('!late:here', { events: [message('later')] }));
  const room = it.room(ROOM);
  assert.deepEqual(room.title(), { kind: 'name', name: 'Kitchen' });
  assert.deepEqual(room.unread.value, { count: 2, mentions: 1 });
  assert.deepEqual(it.rooms.value.map((one) => one.id), ['!late:here', ROOM]);
  await it.take(joined(ROOM, { events: [message('latest')] }));
  assert.equal(it.rooms.value[0], room);
  assert.deepEqual(room.unread.value, { count: 2, mentions: 1 }, 'counts stay when nothing is said of them');
});

test('a time in the future does not hold a room on top for ever', async () => {
  const it = await store();
  await it.take(joined(ROOM, { events: [message('x', { origin_server_ts: Date.now() * 2 })] }));
  assert.ok(it.room(ROOM).activity.value <= Date.now());
});

test('invitations come, are accepted, or go', async () => {
  const it = await store();
  const invite = (id) => ({ next_batch: 'n', rooms: { invite: { [id]: { invite_state: { events: [{ type: 'm.room.member', state_key: ME, sender: '@bob:here', content: { membership: 'invite' } }, { type: 'm.room.name', state_key: '', sender: '@bob:here', content: { name: 'Party' } }] } } } } });
  await it.take(invite(ROOM));
  assert.deepEqual([it.room(ROOM).membership.value, it.room(ROOM).inviter, it.room(ROOM).title().name], ['invite', '@bob:here', 'Party']);
  await it.take(joined(ROOM, { events: [member(ME)] }));
  assert.equal(it.room(ROOM).membership.value, 'join');
  await it.take(invite('!no:here'));
  await it.take({ next_batch: 'n2', rooms: { leave: { '!no:here': {} } } });
  assert.equal(it.room('!no:here'), undefined);
});

test('a room without a name is named after its people', async () => {
  const it = await store();
  const people = ['@ann:here', '@bo:here'];
  await it.take(joined(ROOM, { state: people.map((id) => member(id)), summary: { 'm.heroes': people, 'm.joined_member_count': 5, 'm.invited_member_count': 0 } }));
  assert.deepEqual(it.room(ROOM).title(), { kind: 'people', names: ['ann', 'bo'], others: 2 });
  await it.take(joined(ROOM, { summary: { 'm.joined_member_count': 1 } }));
  assert.deepEqual(it.room(ROOM).title(), { kind: 'empty', names: ['ann', 'bo'] });
});

test('two people of one name are told apart', async () => {
  const it = await store();
  await it.take(joined(ROOM, { state: [member('@a:here', 'join', 'Kim'), member('@b:here', 'join', 'Kim'), member('@c:here', 'join', 'Lee')] }));
  const room = it.room(ROOM);
  assert.deepEqual(['@a:here', '@b:here', '@c:here'].map((id) => room.nameOf(id)), ['Kim (@a:here)', 'Kim (@b:here)', 'Lee']);
});

test('receipts go forward only, and stand at a row', async () => {
  const it = await store();
  const [one, two] = [message('one', { sender: ME }), message('two', { sender: ME })];
  const hidden = event('m.reaction', { 'm.relates_to': { rel_type: 'm.annotation', event_id: two.event_id, key: 'x' } }, { sender: ME });
  const receipt = (id, ts) => ({ ephemeral: { events: [{ type: 'm.receipt', content: { [id]: { 'm.read': { '@bob:here': { ts } } } } }] } });
  await it.take(joined(ROOM, { events: [one, two, hidden], ...receipt(hidden.event_id, 5) }));
  const room = it.room(ROOM);
  const readers = () => Object.fromEntries(room.readers.value);
  assert.deepEqual(readers(), { [two.event_id]: ['@bob:here'] });
  await it.take(joined(ROOM, receipt(one.event_id, 9)));
  assert.deepEqual(readers(), { [two.event_id]: ['@bob:here'] });
  const answer = message('me too');
  await it.take(joined(ROOM, { events: [answer] }));
  assert.deepEqual(readers(), { [answer.event_id]: ['@bob:here'] }, 'who writes has read');
});

test('typing is replaced, and leaves this person out', async () => {
  const it = await store();
  const typing = (...ids) => joined(ROOM, { ephemeral: { events: [{ type: 'm.typing', content: { user_ids: ids } }] } });
  await it.take(typing('@bob:here', ME));
  assert.deepEqual(it.room(ROOM).typing.value, ['@bob:here']);
  await it.take(typing());
  assert.deepEqual(it.room(ROOM).typing.value, []);
});

test('power: by number, by default, and without end for a creator from version 12 on', async () => {
  const it = await store();
  const levels = { users: { '@mod:here': 50, '@odd:here': '75' }, users_default: 5, events: { 'm.room.message': 10 }, redact: 60 };
  await it.take(joined(ROOM, { state: [state('m.room.create', { room_version: '12', additional_creators: [ME] }), state('m.room.power_levels', levels)] }));
  const room = it.room(ROOM);
  assert.deepEqual(['@mod:here', '@odd:here', '@any:here', '@bob:here', ME].map((id) => room.power(id)), [50, 75, 5, Infinity, Infinity]);
  assert.equal(room.may('redact') && room.maySend(), true);
  await it.take(joined(ROOM, { state: [state('m.room.create', { room_version: '11' })] }));
  assert.deepEqual([room.may('redact'), room.maySend(), room.may('invite')], [false, false, true]);
});

test('after a reload the last state is there, and the token to go on from', async () => {
  const disk = inMemory();
  const before = await store(disk);
  await before.take(joined(ROOM, { state: [state('m.room.topic', { topic: 'Bread' }), member('@bob:here', 'join', 'Bob')], events: [message('one'), message('two')], before: 'p1', summary: { 'm.heroes': ['@bob:here'], 'm.joined_member_count': 2 }, unread_notifications: { notification_count: 1 } }, 'token-1'));
  await before.take({ next_batch: 'token-2', account_data: { events: [{ type: 'm.direct', content: { '@bob:here': [ROOM] } }] } });

  const after = await store(disk);
  assert.equal(after.since, 'token-2');
  assert.equal(after.ready.value, true);
  assert.equal(after.direct.value.get(ROOM), '@bob:here');
  const room = after.room(ROOM);
  assert.deepEqual([room.title().names, room.stateOf('m.room.topic').topic, room.unread.value.count, room.preview.value.content.body], [['Bob'], 'Bread', 1, 'two']);
  assert.equal(room.timeline.entries.length, 0, 'what is not looked at stays on the disk');
  await after.warm([ROOM]);
  assert.equal(room.timeline.shown().length, 2);
  assert.equal(room.timeline.back, 'p1');
});

test('the list of rooms tells what was said last as it reads now, also after a reload', async () => {
  const disk = inMemory();
  const said = message('before');
  const edit = (body) => ({ ...message(`* ${body}`), content: { msgtype: 'm.text', body: `* ${body}`, 'm.new_content': { msgtype: 'm.text', body }, 'm.relates_to': { rel_type: 'm.replace', event_id: said.event_id } } });
  const reads = (it) => it.room(ROOM).preview.value.content.body;
  const first = await store(disk);
  await first.take(joined(ROOM, { events: [said] }));
  await first.take(joined(ROOM, { events: [edit('after')] }));
  assert.equal(reads(first), 'after');
  const later = await store(disk);
  assert.equal(reads(later), 'after');
  const again = edit('once more');
  const takeBack = (event) => joined(ROOM, { events: [{ ...message(''), type: 'm.room.redaction', content: { redacts: event.event_id } }] });
  await later.take(joined(ROOM, { events: [again] }));
  assert.equal(reads(later), 'once more');
  const warm = await store(disk);
  await warm.warm([ROOM]);
  assert.equal(reads(warm), 'once more');
  const third = await store(disk);
  await third.take(takeBack(again));
  assert.equal(reads(third), 'after', 'the edit before it counts');
  const last = await store(disk);
  await last.take(takeBack(said));
  assert.equal(reads(last), undefined);
});

test('an answer for a room that is still on the disk joins what is there', async () => {
  const disk = inMemory();
  await (await store(disk)).take(joined(ROOM, { events: [message('one')], before: 'p1' }));
  const after = await store(disk);
  await after.take(joined(ROOM, { events: [message('two')], before: 'p2' }));
  assert.deepEqual(after.room(ROOM).timeline.shown().map(({ event: { content } }) => content.body), ['one', 'two']);
  const again = await store(disk);
  await again.warm([ROOM]);
  assert.equal(again.room(ROOM).timeline.shown().length, 2);
});

test('a room that was left is gone from the disk', async () => {
  const disk = inMemory();
  const before = await store(disk);
  await before.take(joined(ROOM, { events: [message('one')] }));
  await before.take({ next_batch: 'n', rooms: { leave: { [ROOM]: {} } } });
  const after = await store(disk);
  assert.equal(after.rooms.value.length, 0);
  assert.equal((await disk.warm([ROOM])).get(ROOM).timeline, undefined);
});

test('the token moves only when all is written; a broken disk is left behind', async () => {
  const disk = inMemory();
  const it = await store(disk);
  await it.take(joined(ROOM, { events: [message('one')] }, 'good'));
  assert.equal(it.since, 'good');
  disk.write = async () => {
    throw new Error('quota');
  };
  await assert.rejects(it.take(joined(ROOM, { events: [message('two')] }, 'lost')));
  assert.equal(it.since, undefined, 'from a whole answer again');
  await it.take(joined(ROOM, { events: [message('two')] }, 'whole'));
  assert.equal(it.since, 'whole');
});

test('malformed answers are survived', async () => {
  const it = await store();
  await it.take({ next_batch: 'n', account_data: { events: [null, { type: 'm.direct', content: { '@bob:here': 'no list' } }] }, rooms: { join: { [ROOM]: { state: { events: [null, { type: 'm.room.name', state_key: '', content: 7 }, { type: 'm.room.member', state_key: ME, content: { displayname: {} } }] }, ephemeral: { events: [{ type: 'm.receipt', content: { $x: null } }, { type: 'm.typing', content: {} }] }, summary: { 'm.heroes': 'nobody' } } } } });
  assert.equal(it.direct.value.size, 0);
  assert.equal(it.room(ROOM).member(ME).name, 'me');
  assert.equal(it.room(ROOM).title().kind, 'empty');
});
