/** A room's events: order, echoes, edits, reactions, redactions, gaps, and the rows made of them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Timeline } from '../../client-web/matrix/timeline.js';
import { rows } from '../../client-web/views/rows.js';
import { event, message } from './support.js';

const bodies = (timeline) => timeline.shown().map((entry) => timeline.current(entry).content.body);
const edit = (target, body, more) => event('m.room.message', { msgtype: 'm.text', body: `* ${body}`, 'm.new_content': { msgtype: 'm.text', body }, 'm.relates_to': { rel_type: 'm.replace', event_id: target.event_id } }, more);
const reaction = (target, key, sender) => event('m.reaction', { 'm.relates_to': { rel_type: 'm.annotation', event_id: target.event_id, key } }, { sender });

test('an event that comes twice is there once', () => {
  const timeline = new Timeline();
  const [one, two] = [message('one'), message('two')];
  timeline.append([one], 'p1', false);
  assert.equal(timeline.append([one, two], 'p1', false).length, 1);
  assert.deepEqual(bodies(timeline), ['one', 'two']);
});

test('an echo becomes its event and keeps its place and key', () => {
  const timeline = new Timeline();
  const entry = timeline.echo(message('hello', { event_id: '~t1', unsigned: { transaction_id: 't1' } }));
  assert.equal(entry.status, 'sending');
  timeline.append([message('other'), message('hello', { event_id: '$real', unsigned: { transaction_id: 't1' } })], 'p', false);
  assert.deepEqual(bodies(timeline), ['other', 'hello']);
  assert.equal(timeline.pending.length, 0);
  assert.deepEqual([entry.key, entry.status, timeline.find('$real')], ['t1', 'sent', entry]);
  timeline.confirm(entry, '$real');
  assert.deepEqual(bodies(timeline), ['other', 'hello'], 'the late answer adds nothing');
});

test('without a transaction ID the answer’s event ID makes the match', () => {
  const timeline = new Timeline();
  const entry = timeline.echo(message('hello', { unsigned: { transaction_id: 't2' } }));
  timeline.confirm(entry, '$known');
  timeline.append([message('hello', { event_id: '$known' })], 'p', false);
  assert.deepEqual(bodies(timeline), ['hello']);

  const late = timeline.echo(message('again', { unsigned: { transaction_id: 't3' } }));
  timeline.append([message('again', { event_id: '$early' })], 'p', false);
  timeline.confirm(late, '$early');
  assert.deepEqual(bodies(timeline), ['hello', 'again']);
});

test('reading back adds before, up to the start', () => {
  const timeline = new Timeline();
  timeline.append([message('three')], 'p3', false);
  assert.equal(timeline.complete.value, false);
  timeline.prepend([message('two'), message('one')], 'p1');
  assert.deepEqual(bodies(timeline), ['one', 'two', 'three']);
  assert.equal(timeline.back, 'p1');
  timeline.prepend([], undefined);
  assert.equal(timeline.complete.value, true);
});

test('over a gap the timeline begins anew, and what is being sent stays', () => {
  const timeline = new Timeline();
  timeline.append([message('old')], 'p1', false);
  timeline.echo(message('mine', { unsigned: { transaction_id: 't4' } }));
  timeline.append([message('new')], 'p9', true);
  assert.deepEqual(bodies(timeline), ['new', 'mine']);
  assert.equal(timeline.back, 'p9');
});

test('a limited answer that reaches what is known is no gap', () => {
  const timeline = new Timeline();
  const [one, two] = [message('one'), message('two')];
  timeline.append([one], 'p1', false);
  timeline.append([one, two], 'p1', true);
  assert.deepEqual(bodies(timeline), ['one', 'two']);
});

test('the latest edit by the same sender counts, whichever comes first', () => {
  const timeline = new Timeline();
  const original = message('first');
  const [second, third] = [edit(original, 'second'), edit(original, 'third')];
  const forged = edit(original, 'forged', { sender: '@mallory:here' });
  timeline.append([third, forged], 'p', false);
  timeline.prepend([second, original], undefined);
  assert.deepEqual(bodies(timeline), ['third']);
  assert.equal(timeline.current(timeline.find(original.event_id)).edited, true);
  timeline.redact(third.event_id, {});
  assert.deepEqual(bodies(timeline), ['second']);
});

test('an edit that the server bundled is used when the event itself is not here', () => {
  const timeline = new Timeline();
  const original = message('first');
  original.unsigned = { 'm.relations': { 'm.replace': edit(original, 'bundled') } };
  timeline.append([original], 'p', false);
  assert.deepEqual(bodies(timeline), ['bundled']);
});

test('reactions are counted per person, and taken back', () => {
  const timeline = new Timeline();
  const original = message('hm');
  const [a, again, b, other] = [reaction(original, '👍', '@a:here'), reaction(original, '👍', '@a:here'), reaction(original, '👍', '@b:here'), reaction(original, '🎉', '@a:here')];
  timeline.append([original, a, again, b, other], 'p', false);
  const entry = timeline.find(original.event_id);
  const told = () => timeline.reactions(entry).map(({ key, senders }) => [key, senders]);
  assert.deepEqual(told(), [['👍', ['@a:here', '@b:here']], ['🎉', ['@a:here']]]);
  assert.equal(timeline.reactions(entry)[0].own('@b:here'), b.event_id);
  assert.equal(timeline.shown().length, 1, 'reactions have no row');
  timeline.append([event('m.room.redaction', {}, { redacts: b.event_id })], 'p', false);
  assert.deepEqual(timeline.reactions(entry)[0].senders, ['@a:here']);
});

test('a redaction takes away what was said, in both shapes of the event', () => {
  const timeline = new Timeline();
  const [one, two] = [message('one'), message('two')];
  timeline.append([one, two], 'p', false);
  timeline.append([event('m.room.redaction', {}, { redacts: one.event_id }), event('m.room.redaction', { redacts: two.event_id })], 'p', false);
  for (const entry of timeline.shown()) {
    assert.equal(timeline.current(entry).redacted, true);
    assert.deepEqual(entry.event.content, {});
  }
});

test('old entries go where they can be read again, and nowhere else', () => {
  const timeline = new Timeline();
  for (let chunk = 0; chunk < 30; chunk++) timeline.append(Array.from({ length: 100 }, (_, n) => message(`${chunk}/${n}`)), `p${chunk}`, false);
  assert.equal(timeline.entries.length, 3000);
  timeline.trim();
  assert.equal(timeline.entries.length, 500);
  assert.equal(timeline.back, 'p25');
  assert.equal(bodies(timeline)[0], '25/0');
  timeline.prepend([message('24/99')], 'p24');
  assert.equal(bodies(timeline)[0], '24/99');
});

test('who reads far back keeps what is near, and comes forward to the present again', () => {
  const timeline = new Timeline();
  const page = (from, to) => Array.from({ length: to - from }, (_, n) => message(`m${from + n}`, { event_id: `$m${from + n}` }));
  timeline.append(page(2950, 3000), '2950', true);
  assert.equal(timeline.split(), undefined, 'there is little');
  let read = timeline;
  for (let from = 2900; from >= 0; from -= 50) {
    read.prepend(page(from, from + 50).reverse(), from ? String(from) : undefined);
    read = read.split() ?? read;
    assert.ok(read.entries.length <= 1050 && timeline.entries.length <= 1050);
  }
  assert.equal(bodies(read)[0], 'm0');
  assert.ok(read.complete.value && read !== timeline);
  assert.equal(bodies(timeline).at(-1), 'm2999', 'the present stays');
  const shown = [];
  while (!timeline.takeOver(read)) {
    const from = Number(read.forward);
    assert.equal(bodies(read).at(-1), `m${from - 1}`);
    read.extend(page(from, from + 50), String(from + 50), String(from));
    shown.push(read.entries.at(-1));
    read.trim();
    assert.ok(read.entries.length <= 1050);
  }
  assert.equal(timeline.find(shown.at(-1).event.event_id), shown.at(-1), 'what is on screen stays');
  const all = bodies(timeline);
  assert.deepEqual(all, page(3000 - all.length, 3000).map(({ content }) => content.body), 'in order');
  for (const [at, entry] of timeline.entries.entries()) assert.equal(timeline.previous(entry), timeline.entries[at - 1]);
});

test('what is kept on the disk comes back, unsent messages as failed', () => {
  const timeline = new Timeline();
  for (let n = 0; n < 100; n++) timeline.append([message(`m${n}`)], `p${n}`, false);
  timeline.echo(message('unsent', { unsigned: { transaction_id: 't9' } }));
  const saved = structuredClone(timeline.snapshot());
  assert.equal(saved.events.length, 40);
  const back = new Timeline();
  back.restore(saved);
  assert.deepEqual([bodies(back)[0], bodies(back).at(-1), back.back], ['m60', 'unsent', 'p60']);
  assert.deepEqual(back.pending.map((entry) => [entry.status, entry.key]), [['failed', 't9']]);
});

test('events of any shape are survived', () => {
  const timeline = new Timeline();
  const odd = [null, 7, {}, { type: 'm.room.message' }, message('fine'), event('m.room.message', { 'm.relates_to': 'x' }), event('m.reaction', { 'm.relates_to': { rel_type: 'm.annotation', event_id: 3, key: {} } }), event('m.room.redaction', { redacts: 5 })];
  timeline.append(odd, 'p', false);
  assert.ok(bodies(timeline).includes('fine'));
});

test('rows: days, groups of one sender, the line before what is new', () => {
  const at = (day, minute, sender, more) => message('x', { sender, origin_server_ts: new Date(2026, 2, day, 12, minute).getTime(), ...more });
  const timeline = new Timeline();
  const events = [at(1, 0, '@a:h'), at(1, 1, '@a:h'), at(1, 9, '@a:h'), at(1, 9, '@b:h'), at(2, 9, '@b:h'), at(2, 9, '@b:h')];
  timeline.append(events, 'p', false);
  const made = rows(timeline.shown(), { complete: false, newAfter: events[3].event_id, me: '@me:h' });
  assert.deepEqual(made.map((row) => (row.kind === 'message' ? (row.head ? 'head' : 'more') : row.kind)), ['top', 'day', 'head', 'more', 'head', 'head', 'day', 'new', 'head', 'more']);
  assert.equal(new Set(made.map((row) => row.key)).size, made.length, 'keys differ');
});

test('rows: what a room was made with is not told line by line', () => {
  const state = (type, ts, key = '', sender = '@a:h') => event(type, { membership: 'join' }, { state_key: key, sender, origin_server_ts: ts });
  const timeline = new Timeline();
  timeline.append([state('m.room.create', 1000), state('m.room.member', 1001, '@a:h'), state('m.room.name', 1002), state('m.room.member', 1003, '@b:h'), state('m.room.topic', 1004)], undefined, false);
  const made = rows(timeline.shown(), { complete: true, me: '@me:h' });
  assert.deepEqual(made.filter(({ kind }) => kind === 'notice').map(({ entry }) => [entry.event.type, entry.event.state_key]), [['m.room.create', ''], ['m.room.member', '@b:h'], ['m.room.topic', '']]);
});
