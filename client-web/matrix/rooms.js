/**
 * What a person does to rooms beyond talking in them: makes them, finds them, sets them up,
 * orders them, and lets people in and out. Owns the shape of these requests; what comes of
 * them arrives by sync. spec: client-server-api#rooms-1
 */
import { at } from './api.js';

/** @typedef {import('./room.js').Room} Room */
/**
 * @typedef {{ name: string, topic: string, open: boolean, alias: string, picture?: string,
 *   federated?: boolean, announcements?: boolean, invite?: string[] }} Wanted
 * @typedef {{ room_id: string, name?: string, topic?: string, avatar_url?: string, canonical_alias?: string,
 *   num_joined_members: number, join_rule?: string }} PublicRoom
 */

/** Power levels by name. */
export const ROLES = /** @type {const} */ ({ member: 0, moderator: 50, admin: 100 });
const PAGE = 30;

/**
 * Who may do what in a room where only administrators write and everybody reacts. The levels of
 * `events` stand for themselves: what is left out here would fall back to `state_default`.
 */
const ANNOUNCEMENTS = {
  events_default: 100,
  events: {
    'm.reaction': 0, 'm.room.redaction': 0,
    'm.room.name': 50, 'm.room.topic': 50, 'm.room.avatar': 50, 'm.room.canonical_alias': 50,
    'm.room.history_visibility': 100, 'm.room.power_levels': 100, 'm.room.encryption': 100, 'm.room.server_acl': 100, 'm.room.tombstone': 150,
  },
};

/** Whether the room's levels make it one where only administrators write. @param {Room} room */
export function isAnnouncements(room) {
  const levels = room.stateOf('m.room.power_levels');
  return Number(levels?.events?.['m.room.message'] ?? levels?.events_default ?? 0) >= ROLES.admin;
}

export class Rooms {
  /** @param {{ api: import('./api.js').Api, store: import('./store.js').Store, me: string }} parts */
  constructor({ api, store, me }) {
    this.api = api;
    this.store = store;
    this.me = me;
  }

  /** @param {Wanted} wanted @returns {Promise<string>} the room's ID */
  async create({ name, topic, open, alias, picture, federated = true, announcements = false, invite = [] }) {
    const answer = await this.api.post(at`/createRoom`, {
      name,
      preset: open ? 'public_chat' : 'private_chat',
      visibility: open ? 'public' : 'private',
      ...(topic && { topic }),
      ...(open && alias && { room_alias_name: alias }),
      ...(invite.length && { invite }),
      ...(!federated && { creation_content: { 'm.federate': false } }),
      ...(announcements && { power_level_content_override: ANNOUNCEMENTS }),
      ...(picture && { initial_state: [{ type: 'm.room.avatar', state_key: '', content: { url: picture } }] }),
    });
    return answer.room_id;
  }

  /**
   * Public rooms, the largest first.
   * @param {{ server?: string, search?: string, since?: string }} wanted `server`: another one's
   * @returns {Promise<{ rooms: PublicRoom[], next?: string, total?: number }>}
   */
  async explore({ server, search, since }) {
    const body = { limit: PAGE, ...(since && { since }), ...(search && { filter: { generic_search_term: search } }) };
    const answer = await this.api.post(at`/publicRooms`, body, { query: { server }, timeout: 60_000 });
    const rooms = (answer.chunk ?? []).filter((/** @type {any} */ one) => typeof one?.room_id === 'string');
    return { rooms, next: answer.next_batch, total: answer.total_room_count_estimate };
  }

  /** @param {Room} room @param {string} type @param {object} content @param {string} [key] */
  setState(room, type, content, key = '') {
    return this.api.put(at`/rooms/${room.id}/state/${type}/${key}`, content);
  }

  /** @param {Room} room @param {string} user @param {number | null} level null: as everybody */
  async setPower(room, user, level) {
    // The newest levels, so that nothing that changed meanwhile is undone.
    const levels = await this.api.get(at`/rooms/${room.id}/state/m.room.power_levels/`);
    const users = { ...levels.users };
    if (level === null || level === (levels.users_default ?? 0)) delete users[user];
    else users[user] = level;
    return this.setState(room, 'm.room.power_levels', { ...levels, users });
  }

  /** Whether only administrators write. @param {Room} room @param {boolean} only */
  async setAnnouncements(room, only) {
    const levels = await this.api.get(at`/rooms/${room.id}/state/m.room.power_levels/`);
    const events = { ...levels.events };
    delete events['m.room.message'];
    if (only) Object.assign(events, { 'm.reaction': 0, 'm.room.redaction': 0 });
    else delete events['m.reaction'];
    return this.setState(room, 'm.room.power_levels', { ...levels, events, events_default: only ? ROLES.admin : 0 });
  }

  /** @param {Room} room @param {'kick' | 'ban' | 'unban'} deed @param {string} user @param {string} [reason] */
  remove(room, deed, user, reason) {
    return this.api.post(at`/rooms/${room.id}/${deed}`, { user_id: user, ...(reason && { reason }) });
  }

  /** Names the room by an address on this server. @param {Room} room @param {string} alias */
  async setAlias(room, alias) {
    const now = room.stateOf('m.room.canonical_alias') ?? {};
    if (alias === (now.alias ?? '')) return;
    if (alias) {
      const known = await this.api.get(at`/directory/room/${alias}`).catch(() => null);
      if (known?.room_id !== room.id) await this.api.put(at`/directory/room/${alias}`, { room_id: room.id });
    }
    const others = [...new Set([...(now.alt_aliases ?? []), ...(now.alias ? [now.alias] : [])])].filter((one) => one !== alias);
    await this.setState(room, 'm.room.canonical_alias', { ...(alias && { alias }), ...(others.length && { alt_aliases: others }) });
  }

  /** @param {Room} room @returns {Promise<boolean>} whether it is in the list of public rooms */
  async isListed(room) {
    return (await this.api.get(at`/directory/list/room/${room.id}`)).visibility === 'public';
  }

  /** @param {Room} room @param {boolean} listed */
  list(room, listed) {
    return this.api.put(at`/directory/list/room/${room.id}`, { visibility: listed ? 'public' : 'private' });
  }

  /** Asks to be let in. @param {string} target @param {{ reason?: string, via?: string[] }} [how] */
  async knock(target, { reason, via = [] } = {}) {
    const answer = await this.api.post(at`/knock/${target}`, { ...(reason && { reason }) }, { query: { via, server_name: via }, timeout: 60_000 });
    return answer.room_id;
  }

  /** Moves the room to a new version. @param {Room} room @param {string} version @returns {Promise<string>} the new room's ID */
  async upgrade(room, version) {
    return (await this.api.post(at`/rooms/${room.id}/upgrade`, { new_version: version })).replacement_room;
  }

  /** @returns {Promise<{ default: string, available: Record<string, string> }>} */
  async versions() {
    return (await this.api.get(at`/capabilities`)).capabilities?.['m.room_versions'] ?? { default: '1', available: {} };
  }

  /** Takes a room that was left out of this person's memory. @param {string} id */
  forget(id) {
    return this.api.post(at`/rooms/${id}/forget`);
  }

  /** Marks a room as `m.favourite` or `m.lowpriority`, or takes the mark away. @param {Room} room @param {string} name @param {boolean} on */
  async tag(room, name, on) {
    const { [name]: _, ...others } = room.accountData('m.tag')?.tags ?? {};
    const tags = { tags: { ...others, ...(on && { [name]: {} }) } };
    room.expectAccountData('m.tag', tags);
    const path = at`/user/${this.me}/rooms/${room.id}/tags/${name}`;
    const saved = on ? this.api.put(path, {}) : this.api.request('DELETE', path);
    await saved.catch((error) => {
      room.data.giveUp('m.tag', tags);
      throw error;
    });
  }
}
