/** What a person is told of: push rules applied and changed, sounds, hours of quiet. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Api } from '../../client-web/matrix/api.js';
import { inMemory } from '../../client-web/matrix/disk.js';
import { Notifications } from '../../client-web/matrix/notifications.js';
import { pushersOf } from '../../client-web/matrix/pushers.js';
import { isQuiet, roomSound, soundsOf } from '../../client-web/matrix/sounds.js';
import { Store } from '../../client-web/matrix/store.js';
import { event, joined, member, message, scripted } from './support.js';

const ME = '@me:h';
const LOUD = ['notify', { set_tweak: 'sound', value: 'default' }];
const RULES = {
  override: [
    { rule_id: '.m.rule.master', enabled: false, actions: [], conditions: [] },
    { rule_id: '.m.rule.suppress_notices', enabled: true, actions: [], conditions: [{ kind: 'event_match', key: 'content.msgtype', pattern: 'm.notice' }] },
    { rule_id: '.m.rule.is_user_mention', enabled: true, actions: [...LOUD, { set_tweak: 'highlight' }], conditions: [{ kind: 'event_property_contains', key: 'content.m\\.mentions.user_ids', value: ME }] },
    { rule_id: '.m.rule.is_room_mention', enabled: true, actions: ['notify', { set_tweak: 'highlight' }], conditions: [{ kind: 'event_property_is', key: 'content.m\\.mentions.room', value: true }, { kind: 'sender_notification_permission', key: 'room' }] },
  ],
  content: [{ rule_id: 'soup', enabled: true, pattern: 'sou?', actions: ['notify', { set_tweak: 'highlight' }] }],
  room: [],
  sender: [],
  underride: [
    { rule_id: '.m.rule.room_one_to_one', enabled: true, actions: LOUD, conditions: [{ kind: 'room_member_count', is: '2' }, { kind: 'event_match', key: 'type', pattern: 'm.room.message' }] },
    { rule_id: '.m.rule.message', enabled: true, actions: ['notify'], conditions: [{ kind: 'event_match', key: 'type', pattern: 'm.room.message' }] },
  ],
};

function ear(rules = RULES, answers = []) {
  const { fetch, calls } = scripted(...answers);
  const store = new Store(ME, inMemory());
  store.apply({ account_data: { events: [{ type: 'm.push_rules', content: { global: rules } }] } });
  store.apply(joined('!many', { summary: { 'm.joined_member_count': 5 }, state: [member(ME, 'join', 'Sam'), event('m.room.power_levels', { users: { '@boss:h': 50 } }, { state_key: '' })] }));
  store.apply(joined('!two', { summary: { 'm.joined_member_count': 2 } }));
  const notifications = new Notifications({ api: new Api({ base: 'https://h', token: 't', fetch }), store, me: ME });
  const judge = (room, body, content = {}, sender = '@bob:h') => {
    const { notify, sound, highlight } = notifications.judge(message(body, { sender, content: { msgtype: 'm.text', body, ...content } }), store.room(room));
    return [notify && 'notify', sound && 'sound', highlight && 'highlight'].filter(Boolean).join('+');
  };
  return { store, calls, notifications, judge };
}

test('the first rule that matches decides', () => {
  const { judge } = ear();
  assert.equal(judge('!many', 'hello'), 'notify');
  assert.equal(judge('!two', 'hello'), 'notify+sound');
  assert.equal(judge('!many', 'bot', { msgtype: 'm.notice' }), '');
  assert.equal(judge('!many', 'Sam?', { 'm.mentions': { user_ids: [ME] } }), 'notify+sound+highlight');
  assert.equal(judge('!many', 'all', { 'm.mentions': { room: true } }), 'notify', 'not everybody may call everybody');
  assert.equal(judge('!many', 'all', { 'm.mentions': { room: true } }, '@boss:h'), 'notify+highlight');
  assert.equal(judge('!many', 'SOUP, anyone?'), 'notify+highlight');
  assert.equal(judge('!many', 'soups and sources'), 'notify', 'whole words alone');
  assert.equal(judge('!many', 'mine', {}, ME), '', 'one’s own is no news');
});

test('conditions that are not known match nothing', () => {
  const odd = { override: [{ rule_id: 'x', enabled: true, actions: ['notify'], conditions: [{ kind: 'org.example.unknown' }] }, { rule_id: 'y', actions: ['notify'], conditions: [null] }, 7], content: 'no', underride: [] };
  assert.equal(ear(odd).judge('!many', 'hello'), '');
});

test('a room’s level: read from the rules, and written as rules', async () => {
  const { store, notifications, calls } = ear(RULES, Array.from({ length: 6 }, () => [200, {}]));
  const room = store.room('!many');
  assert.equal(notifications.level(room), 'default');
  await notifications.setLevel(room, 'mute');
  assert.deepEqual(calls[0].body, { actions: [], conditions: [{ kind: 'event_match', key: 'room_id', pattern: '!many' }] });
  const set = (rules) => store.apply({ account_data: { events: [{ type: 'm.push_rules', content: { global: { ...RULES, ...rules } } }] } });
  set({ override: [{ rule_id: '!many', actions: [] }, ...RULES.override] });
  assert.equal(notifications.level(room), 'mute');
  await notifications.setLevel(room, 'mentions');
  assert.deepEqual(calls.slice(1).map(({ method, url }) => `${method} ${decodeURIComponent(url.split('/global/')[1])}`), ['PUT room/!many', 'DELETE override/!many']);
  set({ room: [{ rule_id: '!many', actions: [] }] });
  assert.equal(notifications.level(room), 'mentions');
  assert.equal(ear({ ...RULES, room: [{ rule_id: '!many', actions: LOUD }] }).notifications.level(room), 'all');
});

test('mentions only: the room’s rule comes after those for mentions', () => {
  const { judge } = ear({ ...RULES, room: [{ rule_id: '!many', actions: [] }] });
  assert.equal(judge('!many', 'hello'), '');
  assert.equal(judge('!many', 'Sam', { 'm.mentions': { user_ids: [ME] } }), 'notify+sound+highlight');
});

test('what holds everywhere', async () => {
  const { notifications, calls } = ear(RULES, [[200, {}], [200, {}]]);
  assert.equal(notifications.everywhere(), 'all');
  await notifications.setEverywhere('mentions');
  assert.deepEqual(calls.map(({ body }) => body), [{ enabled: false }, { actions: [] }]);
  assert.equal(ear({ ...RULES, override: [{ rule_id: '.m.rule.master', enabled: true, actions: [], conditions: [] }] }).notifications.everywhere(), 'none');
});

test('sounds: the usual ones where nothing or nonsense is kept', () => {
  assert.deepEqual(soundsOf({}), { on: true, sound: 'chime', mention: 'ember', volume: 0.6, quiet: false, begins: '22:00', ends: '07:00' });
  const { volume, begins, on } = soundsOf({ sounds: { volume: 7, begins: '99:00', on: 'yes' } });
  assert.deepEqual([volume, begins, on], [1, '22:00', true]);
});

test('hours of quiet, also over midnight', () => {
  const at = (hours, minutes = 0) => new Date(2026, 10, 28, hours, minutes);
  const night = soundsOf({ sounds: { quiet: true } });
  assert.deepEqual([21, 22, 3, 7].map((hour) => isQuiet(night, at(hour))), [false, true, true, false]);
  const noon = { ...night, begins: '12:00', ends: '13:30' };
  assert.deepEqual([isQuiet(noon, at(13, 29)), isQuiet(noon, at(13, 30)), isQuiet({ ...noon, quiet: false }, at(12))], [true, false, false]);
});

test('a room’s own sound is kept with the room', () => {
  const { store } = ear();
  store.apply(joined('!two', { account_data: { events: [{ type: 'chat.hearth.room', content: { sound: 'knock' } }] } }));
  assert.deepEqual([roomSound(store.room('!two')), roomSound(store.room('!many'))], ['knock', '']);
});

test('news is what comes after the first answer, with its room', async () => {
  const { store } = ear();
  const told = [];
  store.onNews = (room, events) => told.push(`${room.id} ${events.map(({ content }) => content.body).join()}`);
  store.apply(joined('!many', { events: [message('old')] }));
  await store.save('s1');
  store.apply(joined('!many', { events: [message('new')] }));
  store.apply({ rooms: { invite: { '!inv': { invite_state: { events: [] } } } } });
  store.apply({ rooms: { invite: { '!inv': { invite_state: { events: [] } } } } });
  assert.deepEqual(told, ['!many new', '!inv ']);
});

test('other apps are shown with what came of telling them, and nothing where the server does not say', async () => {
  const said = { pushers: [{ id: 'x', app_id: 'org.example', device_display_name: 'Phone', gateway: 'push.example.org', enabled: true, failing_since_ts: null, retry_ts: null, log: [{ ts: 5, outcome: 'delivered', status: 200 }, { ts: 4, outcome: 'failed', error: 'no answer in time' }, { outcome: 'sung' }, null] }, { id: 7, log: 'none' }] };
  const { fetch, calls } = scripted([200, said]);
  const api = new Api({ base: 'https://h', token: 't', fetch });
  const [phone, odd] = await pushersOf({ api, offers: async (feature) => feature === 'chat.hearth.push' });
  assert.deepEqual(phone, { id: 'x', app: 'org.example', device: 'Phone', gateway: 'push.example.org', enabled: true, failing: 0, retry: 0, log: [{ ts: 5, outcome: 'delivered', error: '' }, { ts: 4, outcome: 'failed', error: 'no answer in time' }] });
  assert.deepEqual([odd.id, odd.log], ['', []]);
  assert.deepEqual(await pushersOf({ api, offers: async () => false }), []);
  assert.equal(calls.length, 1);
});
