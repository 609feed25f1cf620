/** Requests, the WebSocket and the loop that keeps both going: tokens, acks, breaks, ends. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Api, ApiError, at } from '../../client-web/matrix/api.js';
import { Sync } from '../../client-web/matrix/sync.js';
import { scripted, settled, sockets } from './support.js';

const BASE = 'https://here.example';
const OFFERED = [200, { versions: ['v1.15'], unstable_features: { 'chat.hearth.ws': true } }];
const NOT_OFFERED = [200, { versions: ['v1.15'] }];
const never = () => new Promise(() => {});

/** A sync whose taken answers are kept, and whose token follows them. */
function loop(script, Socket) {
  const { fetch, calls } = scripted(...script);
  const api = new Api({ base: BASE, token: 'tok', fetch });
  const taken = [];
  let since;
  let clock = 0;
  const it = { calls, taken, api, ended: [], tick: (ms) => (clock += ms) };
  it.take = async (sync) => {
    taken.push(sync.next_batch);
    since = sync.next_batch;
  };
  api.onSignedOut = (error) => it.ended.push(error.body);
  it.sync = new Sync({ api, take: (sync) => it.take(sync), since: () => since, WebSocket: Socket, now: () => clock });
  it.run = it.sync.run();
  return it;
}

test('the token goes in the header, paths are encoded, errors are typed', async () => {
  const { fetch, calls } = scripted([200, { ok: 1 }], [403, { errcode: 'M_FORBIDDEN', error: 'no' }], [502, '<html>'], [0]);
  const api = new Api({ base: `${BASE}/`, token: 'secret', fetch });
  await api.put(at`/rooms/${'!a/b:c'}/send/${'m.x'}/${'t?1'}`, { body: 'x' });
  assert.equal(calls[0].url, `${BASE}/_matrix/client/v3/rooms/!a%2Fb%3Ac/send/m.x/t%3F1`);
  assert.equal(calls[0].headers.Authorization, 'Bearer secret');
  assert.ok(!calls[0].url.includes('secret'));
  await assert.rejects(api.get('/x'), (error) => error instanceof ApiError && error.status === 403 && error.code === 'M_FORBIDDEN' && !error.passing);
  await assert.rejects(api.get('/x'), (error) => error.status === 502 && error.passing);
  await assert.rejects(api.get('/x'), (error) => error.status === 0 && error.passing);
});

test('a rate limit is waited for, and told when it is too long', async () => {
  const limit = (ms) => [429, { errcode: 'M_LIMIT_EXCEEDED', retry_after_ms: ms }];
  const { fetch } = scripted(limit(1), limit(1), [200, { done: true }], limit(60_000));
  const api = new Api({ base: BASE, fetch });
  assert.deepEqual(await api.get('/x'), { done: true });
  await assert.rejects(api.get('/x'), (error) => error.status === 429);
});

test('an unknown token is told once for the token it was', async () => {
  const told = [];
  const gone = [401, { errcode: 'M_UNKNOWN_TOKEN', soft_logout: true }];
  const { fetch } = scripted(gone, [401, { errcode: 'M_FORBIDDEN' }], gone);
  const api = new Api({ base: BASE, token: 'a', fetch });
  api.onSignedOut = (error) => told.push(error.body.soft_logout);
  await assert.rejects(api.get('/x'));
  await assert.rejects(api.get('/x'));
  api.token = '';
  await assert.rejects(api.get('/x'));
  assert.deepEqual(told, [true]);
});

test('a WebSocket: the token as a protocol, each answer stored before it is acknowledged', async () => {
  const { Socket, opened } = sockets();
  const it = loop([OFFERED], Socket);
  await settled();
  const [socket] = opened;
  assert.deepEqual(socket.protocols, ['hearth.sync.v1', 'hearth.token.tok']);
  assert.ok(socket.url.startsWith('wss://here.example/_matrix/client/unstable/chat.hearth.ws/sync?'));
  assert.ok(!socket.url.includes('tok=') && !new URL(socket.url).searchParams.has('since'));
  assert.equal(JSON.parse(new URL(socket.url).searchParams.get('filter')).room.state.lazy_load_members, true);

  let store;
  const stored = new Promise((resolve) => (store = resolve));
  const take = it.take;
  it.take = async (sync) => {
    await stored;
    await take(sync);
  };
  socket.open();
  socket.frame({ type: 'sync', sync: { next_batch: 'a' } });
  socket.frame({ type: 'sync', sync: { next_batch: 'b' } });
  await settled();
  assert.deepEqual(socket.sent, [], 'nothing is acknowledged before it is stored');
  store();
  await settled();
  assert.deepEqual(socket.sent, [{ type: 'ack', since: 'a' }, { type: 'ack', since: 'b' }]);
  assert.equal(it.sync.status.value, 'live');
  it.sync.stop();
  await it.run;
});

test('a request over the socket is answered by its reply, or fails with the line', async () => {
  const { Socket, opened } = sockets();
  const it = loop([OFFERED], Socket);
  await settled();
  assert.equal(it.sync.request('typing', {}), null, 'not before it is live');
  opened[0].open();
  opened[0].frame({ type: 'sync', sync: { next_batch: 'a' } });
  await settled();
  const [sent, refused, lost] = ['send', 'send', 'send'].map((action, n) => it.sync.request(action, { n }));
  const ids = opened[0].sent.filter((frame) => frame.type === 'request').map((frame) => frame.id);
  assert.equal(new Set(ids).size, 3);
  opened[0].frame({ type: 'reply', id: ids[1], error: { status: 403, errcode: 'M_FORBIDDEN', error: 'no' } });
  opened[0].frame('not json');
  opened[0].frame({ type: 'reply', id: 'unknown', ok: {} });
  opened[0].frame({ type: 'reply', id: ids[0], ok: { event_id: '$x' } });
  assert.deepEqual(await sent, { event_id: '$x' });
  await assert.rejects(refused, (error) => error.status === 403 && error.code === 'M_FORBIDDEN');
  opened[0].end(1006);
  await assert.rejects(lost, (error) => error.status === 0 && error.passing);
  assert.equal(it.sync.request('send', {}), null);
  it.sync.stop();
  await it.run;
});

test('after a break the socket goes on from the last token', async () => {
  const { Socket, opened } = sockets();
  const it = loop([OFFERED], Socket);
  await settled();
  opened[0].open();
  opened[0].frame({ type: 'sync', sync: { next_batch: 'here' } });
  await settled();
  opened[0].end(1001);
  await settled();
  assert.equal(it.sync.status.value, 'offline');
  it.sync.nudge();
  await settled();
  assert.equal(new URL(opened[1].url).searchParams.get('since'), 'here');
  it.sync.stop();
  await it.run;
});

test('where the socket does not get through, long-poll serves, and the socket is tried again later', async () => {
  const { Socket, opened } = sockets();
  const it = loop([OFFERED, [200, { next_batch: 'p1' }], [200, { next_batch: 'p2' }], never], Socket);
  await settled();
  opened[0].end(1006);
  await settled();
  assert.deepEqual(it.taken, ['p1', 'p2']);
  const polls = it.calls.filter(({ url }) => url.includes('/sync?')).map(({ url }) => new URL(url).searchParams);
  assert.deepEqual(polls.map((query) => [query.get('since'), query.get('timeout')]), [[null, '0'], ['p1', '30000'], ['p2', '30000']]);
  assert.equal(opened.length, 1);
  it.sync.stop();
  await it.run;

  const later = loop([OFFERED, [200, { next_batch: 'p1' }], async () => (later.tick(120_000), [200, { next_batch: 'p2' }])], Socket);
  await settled();
  opened[1].end(1006);
  await settled();
  assert.equal(opened.length, 3, 'tried again after a rest');
  later.sync.stop();
  await later.run;
});

test('a server without it is polled', async () => {
  const { Socket, opened } = sockets();
  const it = loop([NOT_OFFERED, [200, { next_batch: 'p1' }], never], Socket);
  await settled();
  assert.equal(opened.length, 0);
  assert.deepEqual(it.taken, ['p1']);
  it.sync.stop();
  await it.run;
  assert.equal(it.sync.status.value, 'stopped');
});

test('a token that cannot be a protocol name goes by long-poll', async () => {
  class Picky {
    constructor() {
      throw new SyntaxError('bad protocol');
    }
  }
  const it = loop([OFFERED, [200, { next_batch: 'p1' }], never], Picky);
  await settled();
  assert.deepEqual(it.taken, ['p1']);
  it.sync.stop();
  await it.run;
});

test('the end of the session ends the loop, whichever way it is told', async () => {
  const gone = [401, { errcode: 'M_UNKNOWN_TOKEN', soft_logout: false }];
  const polled = loop([NOT_OFFERED, gone]);
  await polled.run;
  assert.equal(polled.ended.length, 1);

  const { Socket, opened } = sockets();
  const it = loop([OFFERED, gone], Socket);
  await settled();
  opened[0].open();
  opened[0].frame({ type: 'sync', sync: { next_batch: 'a' } });
  await settled();
  opened[0].end(4401);
  await it.run;
  assert.equal(it.ended.length, 1);
  assert.equal(it.sync.status.value, 'stopped');
});

test('a failure to store is neither acknowledged nor skipped', async () => {
  const { Socket, opened } = sockets();
  const it = loop([OFFERED], Socket);
  const told = [];
  const before = console.error;
  console.error = (error) => told.push(error.message);
  const take = it.take;
  it.take = async () => {
    throw new Error('disk');
  };
  await settled();
  opened[0].open();
  opened[0].frame({ type: 'sync', sync: { next_batch: 'a' } });
  await settled();
  console.error = before;
  assert.deepEqual([opened[0].sent, told], [[], ['disk']]);
  it.take = take;
  it.sync.nudge();
  await settled();
  assert.equal(new URL(opened[1].url).searchParams.get('since'), null, 'the same is asked for again');
  it.sync.stop();
  await it.run;
});
