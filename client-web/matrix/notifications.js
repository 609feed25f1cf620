/**
 * What this person wants to be told of: push rules read, changed, and applied to what comes
 * in, so that every client of theirs agrees. Owns the evaluation of rules; refuses to know
 * how somebody is told. spec: client-server-api#push-notifications
 */
import { at } from './api.js';
import { isObject } from './events.js';
import { localpart } from './ids.js';

/** @typedef {import('./room.js').Room} Room */
/** @typedef {import('./events.js').Event} Event */
/** @typedef {'default' | 'all' | 'mentions' | 'mute'} Level of a room */
/** @typedef {'all' | 'mentions' | 'none'} Everywhere */
/** @typedef {{ rule_id: string, enabled?: boolean, actions?: any[], conditions?: any[], pattern?: string, default?: boolean }} Rule */
/** @typedef {{ notify: boolean, sound: boolean, highlight: boolean }} Verdict */

const NOTHING = { notify: false, sound: false, highlight: false };
const KINDS = /** @type {const} */ (['override', 'content', 'room', 'sender', 'underride']);
const LOUD = ['notify', { set_tweak: 'sound', value: 'default' }];
/** The server's own rules for messages in rooms of several. */
const MESSAGES = ['.m.rule.message', '.m.rule.encrypted'];

export class Notifications {
  /** @param {{ api: import('./api.js').Api, store: import('./store.js').Store, me: string }} parts */
  constructor({ api, store, me }) {
    this.api = api;
    this.store = store;
    this.me = me;
  }

  /** @param {typeof KINDS[number]} kind @returns {Rule[]} */
  rules(kind) {
    const found = this.store.accountData('m.push_rules')?.global?.[kind];
    return Array.isArray(found) ? found.filter((rule) => typeof rule?.rule_id === 'string') : [];
  }

  /** @param {Room} room @returns {Level} */
  level(room) {
    const muted = this.rules('override').find(({ rule_id: id, enabled }) => id === room.id && enabled !== false);
    if (muted && !notifies(muted)) return 'mute';
    const own = this.rules('room').find(({ rule_id: id, enabled }) => id === room.id && enabled !== false);
    return own ? (notifies(own) ? 'all' : 'mentions') : 'default';
  }

  /** @param {Room} room @param {Level} level */
  async setLevel(room, level) {
    const path = (/** @type {string} */ kind) => at`/pushrules/global/${kind}/${room.id}`;
    const has = (/** @type {'override' | 'room'} */ kind) => this.rules(kind).some(({ rule_id: id }) => id === room.id);
    // The new one first, so that there is never a moment in between with more noise than wanted.
    if (level === 'mute') await this.api.put(path('override'), { actions: [], conditions: [{ kind: 'event_match', key: 'room_id', pattern: room.id }] });
    if (level === 'all' || level === 'mentions') await this.api.put(path('room'), { actions: level === 'all' ? LOUD : [] });
    if (level !== 'mute' && has('override')) await this.api.request('DELETE', path('override'));
    if ((level === 'mute' || level === 'default') && has('room')) await this.api.request('DELETE', path('room'));
  }

  /** What rooms without a level of their own do. @returns {Everywhere} */
  everywhere() {
    if (this.rules('override').some(({ rule_id: id, enabled }) => id === '.m.rule.master' && enabled)) return 'none';
    const message = this.rules('underride').find(({ rule_id: id }) => id === MESSAGES[0]);
    return message && (message.enabled === false || !notifies(message)) ? 'mentions' : 'all';
  }

  /** @param {Everywhere} wanted */
  async setEverywhere(wanted) {
    await this.api.put(at`/pushrules/global/override/.m.rule.master/enabled`, { enabled: wanted === 'none' });
    if (wanted === 'none') return;
    for (const id of MESSAGES) {
      if (!this.rules('underride').some((rule) => rule.rule_id === id)) continue;
      await this.api.put(at`/pushrules/global/underride/${id}/actions`, { actions: wanted === 'all' ? LOUD : [] });
    }
  }

  /**
   * Whether an event is worth telling: the first rule that matches decides.
   * spec: client-server-api#push-rules
   * @param {Event} event
   * @param {Room} room
   * @returns {Verdict}
   */
  judge(event, room) {
    if (event.sender === this.me) return NOTHING;
    for (const kind of KINDS) {
      for (const rule of this.rules(kind)) {
        if (rule.enabled === false || !this.#matches(kind, rule, event, room)) continue;
        const tweak = (/** @type {string} */ name) => rule.actions?.find((action) => action?.set_tweak === name);
        return { notify: notifies(rule), sound: Boolean(tweak('sound')), highlight: Boolean(tweak('highlight')) && tweak('highlight').value !== false };
      }
    }
    return NOTHING;
  }

  /** @param {typeof KINDS[number]} kind @param {Rule} rule @param {Event} event @param {Room} room */
  #matches(kind, rule, event, room) {
    if (kind === 'room') return rule.rule_id === room.id;
    if (kind === 'sender') return rule.rule_id === event.sender;
    if (kind === 'content') return typeof rule.pattern === 'string' && typeof event.content.body === 'string' && glob(rule.pattern, true).test(event.content.body);
    return (rule.conditions ?? []).every((condition) => this.#holds(condition, event, room));
  }

  /** @param {any} condition @param {Event} event @param {Room} room */
  #holds(condition, event, room) {
    switch (condition?.kind) {
      case 'event_match': {
        const value = dig(event, condition.key, room);
        return typeof value === 'string' && typeof condition.pattern === 'string' && glob(condition.pattern, condition.key === 'content.body').test(value);
      }
      case 'event_property_is': return dig(event, condition.key, room) === condition.value;
      case 'event_property_contains': return Array.isArray(dig(event, condition.key, room)) && dig(event, condition.key, room).includes(condition.value);
      case 'contains_display_name': {
        const name = room.member(this.me).name;
        return typeof event.content.body === 'string' && glob(escapeGlob(name || localpart(this.me)), true).test(event.content.body);
      }
      case 'room_member_count': return count(condition.is, room.memberCount);
      case 'sender_notification_permission': return room.power(event.sender) >= Number(room.stateOf('m.room.power_levels')?.notifications?.[condition.key] ?? 50);
      default: return false;
    }
  }
}

/** @param {Rule} rule */
function notifies(rule) {
  return Boolean(rule.actions?.includes('notify'));
}

/**
 * The value at a dotted key, where a backslash keeps a dot from parting.
 * @param {any} event
 * @param {unknown} key
 * @param {Room} room
 * @returns {any}
 */
function dig(event, key, room) {
  if (typeof key !== 'string') return undefined;
  if (key === 'room_id') return room.id;
  const parts = key.match(/(?:\\.|[^.\\])+/g) ?? [];
  return parts.reduce((value, part) => (isObject(value) ? value[part.replace(/\\(.)/g, '$1')] : undefined), event);
}

/** @param {string} text */
const escapeGlob = (text) => text.replace(/[*?]/g, '\\$&');

/** @type {Map<string, RegExp>} */
const globs = new Map();

/** @param {string} pattern @param {boolean} inWords whether it has to match a word, not the whole */
function glob(pattern, inWords) {
  const key = `${inWords} ${pattern}`;
  const known = globs.get(key);
  if (known) return known;
  const source = pattern.slice(0, 500).replace(/\\([*?])|[*?]|[.+^${}()|[\]\\]/g, (found, literal) => (literal ? `\\${literal}` : found === '*' ? '.*?' : found === '?' ? '.' : `\\${found}`));
  const made = inWords ? new RegExp(`(?:^|[^\\p{L}\\p{N}_])${source}(?=$|[^\\p{L}\\p{N}_])`, 'isu') : new RegExp(`^${source}$`, 'isu');
  if (globs.size > 500) globs.clear();
  globs.set(key, made);
  return made;
}

/** @param {unknown} is like `2` or `>=10` @param {number} members */
function count(is, members) {
  const [, sign, number] = String(is).match(/^(==|<=|>=|<|>)?(\d+)$/) ?? [];
  const wanted = Number(number);
  switch (sign) {
    case '<': return members < wanted;
    case '>': return members > wanted;
    case '<=': return members <= wanted;
    case '>=': return members >= wanted;
    default: return members === wanted;
  }
}
