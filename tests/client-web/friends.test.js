/** Friends: who is one, by rooms and invitations alone; the deeds with and without the extension. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Account } from '../../client-web/matrix/account.js';
import { Api } from '../../client-web/matrix/api.js';
import { inMemory } from '../../client-web/matrix/disk.js';
import { Friends } from '../../client-web/matrix/friends.js';
import { Store } from '../../client-web/matrix/store.js';
import { event, joined, member, scripted } from './support.js';

const ME = '@me:h';

function world({ extension = false, answers = [] } = {}) {
  const { fetch, calls } = scripted(...answers);
  const api = new Api({ base: 'https://h', token: 't', fetch });
  const store = new Store(ME, inMemory());
  const session = { userId: ME, deviceId: 'D', base: 'https://h', token: 't' };
  const deeds = [];
  const client = {
    api, store, me: ME, account: new Account({ api, store, session }), offers: async () => extension,
    join: async (id) => (deeds.push(`join ${id}`), id), leave: async (id) => void deeds.push(`leave ${id}`),
  };
  const friends = new Friends(client);
  const ties = () => Object.fromEntries([...friends.ties.value].map(([user, { relation, room, note }]) => [user, `${relation} ${room.id} ${note}`.trim()]));
  return { store, friends, calls, deeds, ties };
}
const direct = (content) => ({ account_data: { events: [{ type: 'm.direct', content }] } });
const asked = (by, note) => ({ invite_state: { events: [event('m.room.member', { membership: 'invite', is_direct: true, reason: note }, { state_key: ME, sender: by })] } });

test('what somebody is follows from direct rooms, invitations and who is blocked', () => {
  const { store, ties } = world();
  store.apply(joined('!bob', { state: [member('@bob:h'), member(ME)] }));
  store.apply(joined('!dan', { state: [event('m.room.member', { membership: 'invite', reason: 'Hi Dan' }, { state_key: '@dan:h', sender: ME })] }));
  store.apply(joined('!eve', { state: [member('@eve:h', 'leave')] }));
  store.apply(joined('!far', { summary: { 'm.joined_member_count': 2 } }));
  store.apply({ ...direct({ '@bob:h': ['!bob'], '@dan:h': ['!dan'], '@eve:h': ['!eve'], '@far:o': ['!far'], odd: 7 }), rooms: { invite: { '!carol': asked('@carol:h', 'From the choir'), '!room': { invite_state: { events: [event('m.room.member', { membership: 'invite' }, { state_key: ME, sender: '@x:h' })] } } } } });
  assert.deepEqual(ties(), { '@carol:h': 'incoming !carol From the choir', '@bob:h': 'friend !bob', '@dan:h': 'outgoing !dan Hi Dan', '@far:o': 'friend !far' });
  store.apply({ account_data: { events: [{ type: 'm.ignored_user_list', content: { ignored_users: { '@carol:h': {} } } }] } });
  assert.equal(ties()['@carol:h'], undefined);
  store.apply(joined('!bob', { events: [member('@bob:h', 'leave')] }));
  assert.equal(ties()['@bob:h'], undefined, 'no second truth to get out of step');
});

test('one person in several rooms is what counts most', () => {
  const { store, ties } = world();
  store.apply(joined('!old', { state: [member('@bob:h')] }));
  store.apply({ ...direct({ '@bob:h': ['!old'] }), rooms: { invite: { '!new': asked('@bob:h') } } });
  assert.deepEqual(ties(), { '@bob:h': 'friend !old' });
});

test('with the extension, one call each', async () => {
  const { store, friends, calls } = world({ extension: true, answers: [[200, { state: 'outgoing', room_id: '!c' }], [200, { state: 'friend', room_id: '!b' }], [200, { state: 'none' }]] });
  assert.equal(await friends.request('@dan:h', 'Hi'), '!c');
  store.apply({ rooms: { invite: { '!b': asked('@bob:h'), '!x': asked('@carol:h') } } });
  assert.equal(await friends.accept('@bob:h'), '!b');
  await friends.reject('@carol:h');
  assert.equal(store.room('!x'), undefined, 'a refused request is gone at once');
  assert.deepEqual(calls.map(({ url, body }) => [url.split('/').at(-1), body]), [['request', { user_id: '@dan:h', note: 'Hi' }], ['accept', { user_id: '@bob:h' }], ['reject', { user_id: '@carol:h' }]]);
});

test('without it, by plain Matrix', async () => {
  const { store, friends, calls, deeds } = world({ answers: [[200, { room_id: '!c' }], [200, {}], [200, {}], [200, {}], [200, {}], [200, {}]] });
  await friends.request('@dan:h', 'Hi');
  assert.equal(calls[0].body.is_direct, true);
  assert.deepEqual(calls[1].body, { membership: 'invite', is_direct: true, reason: 'Hi' });
  assert.deepEqual(store.accountData('m.direct'), { '@dan:h': ['!c'] });
  store.apply({ rooms: { invite: { '!b': asked('@bob:h') } } });
  await friends.accept('@bob:h');
  assert.deepEqual(deeds, ['join !b']);
  assert.deepEqual(store.accountData('m.direct'), { '@dan:h': ['!c'], '@bob:h': ['!b'] });
  store.apply(joined('!b', { state: [member('@bob:h')] }));
  await friends.remove('@bob:h');
  assert.deepEqual(deeds, ['join !b', 'leave !b']);
  assert.deepEqual(store.accountData('m.direct'), { '@dan:h': ['!c'] });
});
