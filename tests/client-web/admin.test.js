/** Administration: who may, and what is asked of servers of two kinds. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Admin } from '../../client-web/matrix/admin.js';
import { asked } from '../../client-web/views/lists.js';
import { Api } from '../../client-web/matrix/api.js';
import { scripted } from './support.js';

function admin(isHearth, ...answers) {
  const { fetch, calls } = scripted(...answers);
  const asked = () => calls.map(({ method, url }) => `${method} ${decodeURIComponent(new URL(url).pathname)}`);
  return { asked, calls, admin: new Admin({ api: new Api({ base: 'https://h', token: 't', fetch }), me: '@me:h', offers: async () => isHearth }) };
}
const missing = [404, { errcode: 'M_UNRECOGNIZED' }];

test('whether one is an administrator: by capabilities, or asked of Synapse', async () => {
  assert.equal(await admin(true, [200, { capabilities: { 'chat.hearth.admin': { enabled: true } } }]).admin.isAdmin(), true);
  assert.equal(await admin(true, [200, { capabilities: {} }]).admin.isAdmin(), false, 'nothing more is asked');
  assert.equal(await admin(false, [200, { capabilities: {} }], [200, { admin: true }]).admin.isAdmin(), true);
  assert.equal(await admin(false, [200, { capabilities: {} }], [403, { errcode: 'M_FORBIDDEN' }]).admin.isAdmin(), false);
});

test('accounts in pages, of any shape', async () => {
  const { admin: one, calls } = admin(true, [200, { users: [{ name: '@ann:h', displayname: ' Ann ', admin: 1 }, { name: '@bob:h' }], next_token: 100, total: 300 }]);
  const { users, next, total } = await one.users({ search: 'a' });
  assert.deepEqual(users.map(({ name, admin: is }) => [name, is]), [['Ann', true], ['bob', false]]);
  assert.deepEqual([next, total], ['100', 300]);
  assert.ok(calls[0].url.includes('deactivated=true') && calls[0].url.includes('name=a'));
});

test('invitations: limits, or none', async () => {
  const { admin: one, calls } = admin(true, [200, { token: 'abc', uses_allowed: 1, completed: 0, expiry_time: 5 }], [200, {}]);
  assert.deepEqual(await one.invite({ uses: 1, expires: 5 }), { token: 'abc', allowed: 1, used: 0, expires: 5 });
  assert.deepEqual(calls[0].body, { uses_allowed: 1, expiry_time: 5 });
  await one.revoke('a/b');
  assert.ok(calls[1].url.endsWith('/registration_tokens/a%2Fb'));
});

test('health and reports, with Hearth’s own where there is, and Synapse’s where not', async () => {
  const own = admin(true, [200, { version: '0.1.0', uptime_ms: 5, memory: { resident_bytes: 7 }, database: { bytes: 9, free_disk_bytes: null }, clients: { waiting: 3 } }]);
  assert.deepEqual(await own.admin.health(), { version: 'Hearth 0.1.0', uptime: 5, memory: 7, database: 9, disk: null, clients: { waiting: 3 }, accounts: undefined, rooms: undefined });
  const other = admin(false, missing, [200, { server_version: '1.157' }], missing, [200, { event_reports: [{ id: 1, received_ts: 2, user_id: '@a:h', event_id: '$e', room_id: '!r', sender: '@b:h' }], total: 1 }]);
  assert.deepEqual(await other.admin.health(), { version: '1.157' });
  const { reports } = await other.admin.reports();
  assert.deepEqual([reports[0].id, reports[0].by, reports[0].user, reports[0].event], [1, '@a:h', '@b:h', '$e']);
  assert.deepEqual(other.asked().at(-1), 'GET /_synapse/admin/v1/event_reports');
});

test('rooms are deleted, and other servers are told of or not', async () => {
  const { admin: one, calls } = admin(true, [200, { delete_id: 'd' }], missing, [200, { destinations: [{ destination: 'o.example', failure_ts: 3, retry_last_ts: 10, retry_interval: 5, 'chat.hearth.last_error': 'no way' }, { destination: 'p.example' }], total: 3, next_token: '2' }], [500, {}], [200, {}]);
  await one.deleteRoom('!r', { block: true, purge: true });
  assert.deepEqual([calls[0].method, calls[0].body], ['DELETE', { block: true, purge: true }]);
  assert.equal(await one.peers({ search: '' }), null);
  const rows = [{ server: 'o.example', retryAt: 15, failing: 3, why: 'no way' }, { server: 'p.example', retryAt: 0, failing: 0, why: '' }];
  assert.deepEqual(await one.peers({ search: 'ex', from: '0' }), { rows, next: '2', total: 3 });
  const asked = new URL(calls.at(-1).url).searchParams;
  assert.deepEqual(['destination', 'from', 'order_by', 'dir'].map((name) => asked.get(name)), ['ex', '0', 'failure_ts', 'b'], 'who is in trouble comes first');
  await assert.rejects(one.peers({ search: '' }), (error) => error.status === 500);
  const [seen, alone, here, elsewhere] = [admin(true, [200, { enabled: true, server_name: 'a.example', address: 'a.example:443', well_known: { error: 'status 404' }, error: 'can’t connect' }]), admin(true, [200, { enabled: false }]), admin(true, [200, { enabled: true, server_name: 'localhost', address: 'localhost', error: 'no' }]), admin(true, missing)];
  assert.deepEqual(await seen.admin.seen(), { address: 'a.example:443', why: 'can’t connect', page: 'status 404' });
  for (const one of [alone, here, elsewhere]) assert.equal(await one.admin.seen(), null);
  await one.retry('o.example:8448');
  assert.ok(calls.at(-1).url.endsWith('/destinations/o.example%3A8448/reset_connection'));
});

test('a list keeps up where that takes nothing away', async () => {
  const settled = () => new Promise((resolve) => setImmediate(resolve));
  let answer = async () => ({ rows: ['a', 'b'], next: 2, total: 3 });
  const list = asked((from) => answer(from));
  await settled();
  answer = async () => ({ rows: ['b'], total: 1 });
  await list.refresh();
  assert.deepEqual(list.found.value, { rows: ['b'], total: 1, waiting: false, problem: '' });
  answer = async () => Promise.reject(new Error('away'));
  await list.refresh();
  assert.deepEqual(list.found.value.rows, ['b'], 'a failure unasked is no problem');
  // What is asked for meanwhile counts.
  let tell;
  answer = () => new Promise((resolve) => (tell = resolve));
  const refreshing = list.refresh();
  const late = tell;
  answer = async () => ({ rows: ['c', 'd'], next: 2, total: 3 });
  await list.look();
  late({ rows: ['old'] });
  await refreshing;
  assert.deepEqual(list.found.value.rows, ['c', 'd']);
  // Who has gone on to more keeps it.
  answer = async (from) => ({ rows: from ? ['e'] : ['z'], total: 3 });
  await list.look(true);
  await list.refresh();
  assert.deepEqual(list.found.value.rows, ['c', 'd', 'e']);
});
