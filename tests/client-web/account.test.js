/** Accounts: registering as the server asks, signing in, what is kept of a session. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { choose, needs, probe, register } from '../../client-web/matrix/registration.js';
import { sessionKeeper, signIn } from '../../client-web/matrix/session.js';
import { scripted } from './support.js';

const BASE = 'https://here.example';
const DONE = [200, { user_id: '@ann:here.example', device_id: 'DEV', access_token: 'tok' }];
const dummy = { stages: ['m.login.dummy'] };
const token = { stages: ['m.login.registration_token'] };
const offer = (flows, more) => [401, { session: 'S', flows, params: {}, ...more }];
const ann = (fetch, more) => ({ base: BASE, user: 'ann', password: 'pw', deviceName: 'web', fetch, ...more });

test('the easiest flow that can be passed is chosen', () => {
  assert.deepEqual(choose([{ stages: ['m.login.email.identity'] }, token, dummy]), dummy.stages);
  assert.equal(choose([{ stages: ['m.login.recaptcha', 'm.login.dummy'] }]), undefined);
  assert.equal(needs({ flows: [token] }), 'token');
  assert.equal(needs({ flows: [dummy, token] }), 'open');
  assert.equal(needs({ flows: [] }), 'unsupported');
});

test('registering where nothing more is asked for', async () => {
  const { fetch, calls } = scripted(offer([dummy]), DONE);
  const session = await register(ann(fetch));
  assert.deepEqual(calls.map(({ body }) => body.auth), [undefined, { type: 'm.login.dummy', session: 'S' }]);
  assert.deepEqual([session.userId, session.token, session.base], ['@ann:here.example', 'tok', BASE]);
});

test('registering with a token, also with a step after it', async () => {
  const flow = [{ stages: ['m.login.registration_token', 'm.login.dummy'] }];
  const { fetch, calls } = scripted(offer(flow), offer(flow, { completed: ['m.login.registration_token'] }), DONE);
  await register(ann(fetch, { token: 'letmein' }));
  assert.deepEqual(calls.map(({ body }) => body.auth), [undefined, { type: 'm.login.registration_token', session: 'S', token: 'letmein' }, { type: 'm.login.dummy', session: 'S' }]);
});

test('a wrong token, a missing one, an impossible flow', async () => {
  const wrong = scripted(offer([token]), offer([token], { errcode: 'M_UNAUTHORIZED', error: 'Invalid' }));
  await assert.rejects(register(ann(wrong.fetch, { token: 'no' })), (error) => error.code === 'M_UNAUTHORIZED');
  const missing = scripted(offer([token]));
  await assert.rejects(register(ann(missing.fetch)), (error) => error.code === 'HEARTH_TOKEN_NEEDED');
  const impossible = scripted(offer([{ stages: ['m.login.recaptcha'] }]));
  await assert.rejects(register(ann(impossible.fetch)), (error) => error.code === 'HEARTH_UNSUPPORTED_FLOW');
});

test('a server that goes in circles is left', async () => {
  const { fetch, calls } = scripted(...Array.from({ length: 10 }, () => offer([dummy])));
  await assert.rejects(register(ann(fetch)));
  assert.ok(calls.length <= 4);
});

test('a taken name is told as it is', async () => {
  const { fetch } = scripted([400, { errcode: 'M_USER_IN_USE', error: 'taken' }]);
  await assert.rejects(register(ann(fetch)), (error) => error.code === 'M_USER_IN_USE');
});

test('what registering takes is found out before', async () => {
  for (const [answer, expected] of [[offer([dummy]), 'open'], [offer([token]), 'token'], [offer([{ stages: ['x'] }]), 'unsupported'], [[403, { errcode: 'M_FORBIDDEN' }], 'closed']]) {
    assert.equal(await probe(BASE, scripted(answer).fetch), expected);
  }
});

test('the same person on the same server goes on as the same device', async () => {
  const expired = { base: BASE, userId: '@ann:here.example', deviceId: 'OLD' };
  const asked = async (user, base = BASE) => {
    const { fetch, calls } = scripted(DONE);
    await signIn({ base, user, password: 'pw', deviceName: 'web', expired, fetch });
    return calls[0].body.device_id;
  };
  assert.equal(await asked('ann'), 'OLD');
  assert.equal(await asked('@Ann:here.example'), 'OLD');
  assert.equal(await asked('bob'), undefined);
  assert.equal(await asked('ann', 'https://other.example'), undefined);
  expired.deviceId = '';
  assert.equal(await asked('ann'), undefined, 'a device that is gone is not named');
});

test('what is kept: a session, or what is left of an expired one, never its token', () => {
  const kept = new Map();
  const keeper = sessionKeeper({ getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => void kept.set(key, value), removeItem: (key) => void kept.delete(key) });
  const session = { base: BASE, userId: '@ann:here.example', deviceId: 'DEV', token: 'secret' };
  assert.equal(keeper.load(), null);
  keeper.save(session);
  assert.deepEqual(keeper.load(), session);
  keeper.expire(session);
  assert.equal(keeper.load(), null);
  assert.equal(keeper.expired().deviceId, 'DEV');
  assert.ok(![...kept.values()].join().includes('secret'));
  keeper.save(session);
  assert.equal(keeper.expired(), null);
  kept.set('hearth.session', '{broken');
  assert.equal(keeper.load(), null);
  keeper.clear();
  assert.equal(kept.size, 0);
});
