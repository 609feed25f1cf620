/** Sending: order, retries under one transaction ID, giving up, taking back. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Api, ApiError } from '../../client-web/matrix/api.js';
import { Room } from '../../client-web/matrix/room.js';
import { Sender } from '../../client-web/matrix/sender.js';
import { message, scripted, settled } from './support.js';

const text = (body) => ({ msgtype: 'm.text', body });

function sender(script, request = () => null) {
  const { fetch, calls } = scripted(...script);
  const waits = [];
  const it = new Sender({
    api: new Api({ base: 'https://here.example', token: 't', fetch }),
    sync: { request },
    store: { touch() {}, save: async () => {} },
    wait: async (ms) => void waits.push(ms),
  });
  return { it, calls, waits, room: new Room('!room:here', '@me:here') };
}
const txnOf = ({ url }) => url.split('/').at(-1);

test('messages of one room go one after the other, in order', async () => {
  let answer;
  const first = new Promise((resolve) => (answer = resolve));
  const { it, calls, room } = sender([() => first, [200, { event_id: '$2' }]]);
  const both = Promise.all([it.message(room, text('one')), it.message(room, text('two'))]);
  await settled();
  assert.deepEqual(calls.map(({ body }) => body.body), ['one']);
  assert.deepEqual(room.timeline.pending.map((entry) => entry.status), ['sending', 'sending']);
  answer([200, { event_id: '$1' }]);
  await both;
  assert.deepEqual(calls.map(({ body }) => body.body), ['one', 'two']);
  assert.deepEqual(room.timeline.pending.map((entry) => [entry.status, entry.event.event_id]), [['sent', '$1'], ['sent', '$2']]);
  assert.notEqual(txnOf(calls[0]), txnOf(calls[1]));
});

test('what passes is tried again under the same transaction ID', async () => {
  const { it, calls, waits, room } = sender([[0], [502, 'x'], [200, { event_id: '$1' }]]);
  await it.message(room, text('through'));
  assert.equal(new Set(calls.map(txnOf)).size, 1);
  assert.equal(waits.length, 2);
  assert.equal(room.timeline.pending[0].status, 'sent');
});

test('what does not pass fails at once, holds up nobody, and can be tried again', async () => {
  const { it, calls, room } = sender([[403, { errcode: 'M_FORBIDDEN' }], [200, { event_id: '$2' }], [200, { event_id: '$1' }]]);
  await Promise.all([it.message(room, text('refused')), it.message(room, text('fine'))]);
  assert.deepEqual(room.timeline.pending.map((entry) => entry.status), ['failed', 'sent']);
  await it.retry(room, room.timeline.pending[0]);
  assert.equal(txnOf(calls[2]), txnOf(calls[0]));
  assert.equal(room.timeline.pending[0].status, 'sent');
});

test('a network that stays away fails after some attempts; the message can be given up', async () => {
  const { it, calls, room } = sender(Array.from({ length: 5 }, () => [0]));
  await it.message(room, text('lost'));
  assert.equal(calls.length, 5);
  assert.equal(room.timeline.pending[0].status, 'failed');
  it.discard(room, room.timeline.pending[0]);
  assert.equal(room.timeline.pending.length, 0);
});

test('what came back by sync is not failed by a lost answer', async () => {
  const { it, room } = sender([
    async (url) => {
      room.timeline.append([message('once', { event_id: '$1', sender: '@me:here', unsigned: { transaction_id: url.split('/').at(-1) } })], 'p', false);
      return [403, { errcode: 'M_FORBIDDEN' }];
    },
  ]);
  await it.message(room, text('once'));
  assert.deepEqual(room.timeline.shown().map((entry) => entry.status), ['sent']);
});

test('the open socket is used first, and HTTP when it breaks', async () => {
  let open = true;
  const asked = [];
  const { it, calls, room } = sender([[200, { event_id: '$1' }]], (action, fields) => {
    if (!open) return null;
    open = false;
    asked.push([action, fields.txn_id]);
    return Promise.reject(new ApiError(0, {}));
  });
  await it.message(room, text('both'));
  assert.deepEqual(asked, [['send', txnOf(calls[0])]]);
});

test('a deletion shows when it is done', async () => {
  const { it, room } = sender([[200, { event_id: '$r' }], [403, { errcode: 'M_FORBIDDEN' }]]);
  const [one, two] = [message('one'), message('two')];
  room.timeline.append([one, two], 'p', false);
  await it.redact(room, one.event_id);
  await assert.rejects(it.redact(room, two.event_id));
  assert.deepEqual(room.timeline.shown().map((entry) => room.timeline.current(entry).redacted), [true, false]);
});
