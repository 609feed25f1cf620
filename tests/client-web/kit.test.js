/** The reactive kernel, the addresses of places, and figures in words. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { computed, effect, flush, onStop, scope, signal, untracked } from '../../client-web/kit/signal.js';
import { link, parse } from '../../client-web/kit/router.js';
import { size } from '../../client-web/i18n/index.js';

test('an effect runs once for many changes, and not after it is stopped', () => {
  const n = signal(1);
  const seen = [];
  const stop = effect(() => seen.push(n.value));
  n.value = 2;
  n.value = 3;
  flush();
  n.value = 3;
  flush();
  assert.deepEqual(seen, [1, 3]);
  stop();
  n.value = 4;
  flush();
  assert.deepEqual(seen, [1, 3]);
});

test('a computed value is worked out when asked for, once per change', () => {
  const n = signal(2);
  let runs = 0;
  const square = computed(() => (runs++, n.value ** 2));
  assert.equal(runs, 0);
  assert.equal(square.value + square.value, 8);
  assert.equal(runs, 1);
  n.value = 3;
  assert.equal(square.value, 9, 'fresh at once, not a turn later');
  const seen = [];
  effect(() => seen.push(square.value));
  n.value = 4;
  flush();
  assert.deepEqual(seen, [9, 16]);
});

test('changes inside a collection are told by update', () => {
  const names = signal(new Set());
  const seen = [];
  effect(() => seen.push(names.value.size));
  names.update((set) => void set.add('alice'));
  flush();
  assert.deepEqual(seen, [0, 1]);
});

test('an effect follows only what it read last', () => {
  const [which, a, b] = [signal('a'), signal(1), signal(2)];
  const seen = [];
  effect(() => seen.push(which.value === 'a' ? a.value : b.value));
  which.value = 'b';
  flush();
  a.value = 10;
  flush();
  assert.deepEqual(seen, [1, 2]);
});

test('what an effect starts ends with its next run, and with its scope', () => {
  const [outer, inner] = [signal(0), signal(0)];
  const log = [];
  const { stop } = scope(() => {
    effect(() => {
      const now = outer.value;
      effect(() => log.push(`${now}/${inner.value}`));
      onStop(() => log.push(`end ${now}`));
    });
  });
  outer.value = 1;
  flush();
  inner.value = 1;
  flush();
  stop();
  inner.value = 2;
  outer.value = 2;
  flush();
  assert.deepEqual(log, ['0/0', 'end 0', '1/0', '1/1', 'end 1']);
});

test('reading untracked makes no reader', () => {
  const n = signal(0);
  let runs = 0;
  effect(() => {
    runs++;
    untracked(() => n.value);
  });
  n.value = 1;
  flush();
  assert.equal(runs, 1);
});

test('an effect that throws does not keep others from running', () => {
  const n = signal(0);
  const seen = [];
  const told = [];
  const before = globalThis.reportError;
  globalThis.reportError = (error) => told.push(error.message);
  try {
    effect(() => {
      if (n.value) throw new Error('broken');
    });
    effect(() => seen.push(n.value));
    n.value = 1;
    flush();
  } finally {
    globalThis.reportError = before;
  }
  assert.deepEqual([seen, told], [[0, 1], ['broken']]);
});

test('places and their addresses', () => {
  const id = '!a/b?c#d%:example.org';
  assert.equal(link('room', '!id:example.org', 'members'), '#/room/!id:example.org/members');
  assert.deepEqual(parse(link('room', id)), { name: 'room', args: [id] });
  assert.deepEqual(parse(''), { name: 'home', args: [] });
  assert.deepEqual(parse('#/room/%E0%A4%A'), { name: 'room', args: ['%E0%A4%A'] });
});

test('sizes of files have their units, and bytes their plural', () => {
  assert.deepEqual([0, 1, 10, 1500, 23_400_000].map(size), ['0 bytes', '1 byte', '10 bytes', '1.5 kB', '23.4 MB']);
});
