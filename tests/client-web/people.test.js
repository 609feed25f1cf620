/** People and the account: profiles, presence, sessions, proving who one is, being blocked. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Account, SETTINGS } from '../../client-web/matrix/account.js';
import { Api } from '../../client-web/matrix/api.js';
import { inMemory } from '../../client-web/matrix/disk.js';
import { People } from '../../client-web/matrix/people.js';
import { Store } from '../../client-web/matrix/store.js';
import { scripted, settled } from './support.js';

const ME = '@me:h';

function person(...answers) {
  const { fetch, calls } = scripted(...answers);
  const api = new Api({ base: 'https://h', token: 'tok', fetch });
  const store = new Store(ME, inMemory());
  const account = new Account({ api, store, session: { userId: ME, deviceId: 'THIS', base: 'https://h', token: 'tok' } });
  const sync = { presence: 'online', statusMessage: '', present(state, status) { Object.assign(this, { presence: state, statusMessage: status }); }, request: () => null };
  return { calls, api, store, account, sync, people: new People({ api, sync, store, account, me: ME }) };
}

test('sessions: this one first, then the latest', async () => {
  const { account } = person([200, { devices: [{ device_id: 'OLD', last_seen_ts: 5 }, { device_id: 'NEW', last_seen_ts: 9, display_name: 'Phone' }, { device_id: 'THIS' }] }]);
  assert.deepEqual((await account.devices()).map(({ id, current }) => [id, current]), [['THIS', true], ['NEW', false], ['OLD', false]]);
});

test('what needs the password is asked for first, then proven', async () => {
  const offer = { session: 'S', flows: [{ stages: ['m.login.password'] }] };
  const { account, calls } = person([401, offer], [200, {}]);
  await account.changePassword({ now: 'old', next: 'new', others: true });
  assert.deepEqual(calls[1].body.auth, { type: 'm.login.password', identifier: { type: 'm.id.user', user: ME }, password: 'old', session: 'S' });
  assert.equal(calls[1].body.new_password, 'new');
  const sso = person([401, { session: 'S', flows: [{ stages: ['m.login.sso'] }] }]);
  await assert.rejects(sso.account.signOut(['OLD'], 'pw'), (error) => error.code === 'HEARTH_UNSUPPORTED_FLOW');
  const wrong = person([401, offer], [401, { ...offer, errcode: 'M_FORBIDDEN' }]);
  await assert.rejects(wrong.account.signOut(['OLD'], 'pw'), (error) => error.code === 'M_FORBIDDEN');
});

test('somebody whom their server doesn’t know is known to be nobody; an answer that fails tells nothing', async () => {
  const { people } = person([404, { errcode: 'M_NOT_FOUND' }], [404, { errcode: 'M_UNKNOWN', error: 'No row found' }], [500, { errcode: 'M_UNKNOWN' }], [404, { errcode: 'M_UNRECOGNIZED' }]);
  const asked = ['@none:h', '@none:synapse', '@unsure:h', '@unsure:old'].map((id) => people.profile(id));
  await settled();
  assert.deepEqual(asked.map(({ value }) => value.missing), [true, true, undefined, undefined]);
});

test('settings show at once and arrive in order', async () => {
  const { account, calls } = person([200, {}], [200, {}]);
  account.saveSettings({ a: 1 });
  const last = account.saveSettings({ b: 2 });
  assert.deepEqual(account.settings(), { a: 1, b: 2 });
  await last;
  assert.deepEqual(calls.map(({ body }) => body), [{ a: 1 }, { a: 1, b: 2 }]);
});

test('a choice stays though the sync still tells of an earlier one, and the next builds on it', async () => {
  const { account, store, calls } = person([200, {}], [200, {}], [200, {}], [400, { errcode: 'M_UNKNOWN' }]);
  const told = (content) => store.apply({ account_data: { events: [{ type: SETTINGS, content }] } });
  account.saveSettings({ a: 1 });
  await account.saveSettings({ a: 2 });
  told({ a: 1 });
  assert.deepEqual(account.settings(), { a: 2 }, 'not the earlier one');
  await account.saveSettings({ b: 3 });
  assert.deepEqual(calls.at(-1).body, { a: 2, b: 3 });
  // One that passed over the one between; then another place's choice, which counts at once.
  told({ a: 2, b: 3 });
  told({ a: 9 });
  assert.deepEqual(account.settings(), { a: 9 });
  // What could not be kept is waited for no longer.
  await assert.rejects(account.saveSettings({ a: 10 }));
  told({ a: 9 });
  assert.deepEqual(account.settings(), { a: 9 });
});

test('a profile is there at once by its address, then by its name', async () => {
  const { people, calls } = person([200, { displayname: '  Ann  ', avatar_url: 'mxc://h/a' }]);
  const ann = people.profile('@ann:h');
  assert.equal(ann.value.name, 'ann');
  await settled();
  assert.deepEqual(ann.value, { id: '@ann:h', name: 'Ann', avatar: 'mxc://h/a' });
  people.profile('@ann:h');
  assert.equal(calls.length, 1, 'asked once');
});

test('people are found, also where the server has no directory of them', async () => {
  const { people } = person([200, { results: [{ user_id: '@ann:h', display_name: 'Ann' }, { odd: true }] }], [404, { errcode: 'M_UNRECOGNIZED' }]);
  assert.deepEqual(await people.search('an'), [{ id: '@ann:h', name: 'Ann' }]);
  assert.deepEqual(await people.search('an'), []);
});

test('presence is kept with the account, said at once, and at each further sync', async () => {
  const { people, sync, calls } = person([200, {}], [200, {}]);
  await people.show({ state: 'offline', status: 'asleep' });
  assert.deepEqual([sync.presence, sync.statusMessage], ['offline', 'asleep']);
  assert.deepEqual(people.shown(), { state: 'offline', status: 'asleep' });
  const said = Object.fromEntries(calls.map(({ url, body }) => [url.split('/').at(-1), body]));
  assert.deepEqual(said, { 'chat.hearth.settings': { presence: 'offline', status: 'asleep' }, status: { presence: 'offline', status_msg: 'asleep' } });
});

test('who is blocked is kept with the account, beside who was', async () => {
  const { people, store } = person([200, {}], [200, {}]);
  store.apply({ account_data: { events: [{ type: 'm.ignored_user_list', content: { ignored_users: { '@old:h': {} }, more: 1 } }] } });
  await people.block('@bad:h', true);
  assert.deepEqual([...store.ignored()], ['@old:h', '@bad:h']);
  await people.block('@old:h', false);
  assert.deepEqual(store.accountData('m.ignored_user_list'), { ignored_users: { '@bad:h': {} }, more: 1 });
});

test('where people are is told by sync, in any shape', async () => {
  const { store } = person();
  store.apply({ presence: { events: [{ sender: '@ann:h', content: { presence: 'online', last_active_ago: 1000, currently_active: true, status_msg: 'hi' } }, { sender: '@odd:h', content: { presence: 'dancing' } }, null] } });
  const seen = store.presence('@ann:h');
  assert.deepEqual([seen.state, seen.now, seen.status, Math.abs(Date.now() - 1000 - seen.since) < 500], ['online', true, 'hi', true]);
  assert.equal(store.presence('@odd:h'), undefined);
  store.apply({ presence: { events: [{ sender: '@ann:h', content: { presence: 'offline' } }] } });
  assert.equal(store.presence('@ann:h').since, seen.since, 'when they were last there stays known');
  await store.save('s1');
  const again = new Store(ME, store.disk);
  await again.restore();
  assert.equal(again.presence('@ann:h').state, 'offline');
});
