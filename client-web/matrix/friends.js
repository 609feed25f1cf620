/**
 * Friends, as they follow from direct rooms and invitations: nothing about them is kept
 * beside those. Owns that derivation and the deeds, by the server's extension where it has
 * it and by plain Matrix where not. `spec/friends.md` of the server says what counts as what.
 */
import { computed } from '../kit/signal.js';
import { at } from './api.js';
import { isObject } from './events.js';

const PATH = '/_matrix/client/unstable/chat.hearth.friends';
const FEATURE = 'chat.hearth.friends';
export const LONGEST_NOTE = 500;

/** @typedef {import('./room.js').Room} Room */
/** @typedef {'friend' | 'incoming' | 'outgoing'} Relation */
/** @typedef {{ user: string, relation: Relation, room: Room, note: string, sent: number }} Tie */

export class Friends {
  /** @param {{ api: import('./api.js').Api, store: import('./store.js').Store, account: import('./account.js').Account, me: string, offers(feature: string): Promise<boolean>, join(target: string): Promise<string>, leave(id: string): Promise<void> }} client */
  constructor(client) {
    this.client = client;
    this.api = client.api;
    this.store = client.store;
    /** Everybody who is something to this person. @type {{ readonly value: Map<string, Tie>, peek(): Map<string, Tie> }} */
    this.ties = computed(() => derive(this.store, client.me));
  }

  /** @param {Relation} relation @returns {Tie[]} */
  with(relation) {
    return [...this.ties.value.values()].filter((tie) => tie.relation === relation);
  }

  /** @param {string} user @param {string} [note] @returns {Promise<string>} the room's ID */
  async request(user, note = '') {
    if (await this.client.offers(FEATURE)) return (await this.#post('request', { user_id: user, ...(note && { note }) })).room_id;
    const tie = this.ties.peek().get(user);
    if (tie?.relation === 'incoming') return this.accept(user);
    if (tie) return tie.room.id;
    const { room_id: id } = await this.api.post(at`/createRoom`, { preset: 'trusted_private_chat', is_direct: true, ...(!note && { invite: [user] }) });
    if (note) await this.api.put(at`/rooms/${id}/state/m.room.member/${user}`, { membership: 'invite', is_direct: true, reason: note });
    await this.#setDirect(user, id, true);
    return id;
  }

  /** @param {string} user @returns {Promise<string>} the room's ID */
  async accept(user) {
    if (await this.client.offers(FEATURE)) return (await this.#post('accept', { user_id: user })).room_id;
    const id = await this.client.join(this.#tie(user).room.id);
    await this.#setDirect(user, id, true);
    return id;
  }

  /** @param {string} user */
  async reject(user) {
    const { room } = this.#tie(user);
    if (await this.client.offers(FEATURE)) await this.#post('reject', { user_id: user });
    else await this.api.post(at`/rooms/${room.id}/leave`);
    await this.#gone(room);
  }

  /** Takes back what was asked. @param {string} user */
  async cancel(user) {
    const { room } = this.#tie(user);
    if (await this.client.offers(FEATURE)) return this.#post('cancel', { user_id: user });
    await this.api.post(at`/rooms/${room.id}/kick`, { user_id: user });
    return this.#part(user, room);
  }

  /** Ends a friendship. @param {string} user */
  async remove(user) {
    const { room } = this.#tie(user);
    if (await this.client.offers(FEATURE)) return this.#post('remove', { user_id: user });
    return this.#part(user, room);
  }

  /** @param {string} user @param {Room} room */
  async #part(user, room) {
    await this.client.leave(room.id);
    await this.#setDirect(user, room.id, false);
  }

  /** The sync need not tell of a refused invitation. @param {Room} room */
  #gone(room) {
    this.store.apply({ rooms: { leave: { [room.id]: {} } } });
    return this.store.save();
  }

  /** @param {string} user @param {string} id @param {boolean} isDirect */
  #setDirect(user, id, isDirect) {
    const now = this.store.accountData('m.direct');
    const ids = (Array.isArray(now?.[user]) ? now[user] : []).filter((/** @type {unknown} */ one) => one !== id);
    const { [user]: _, ...others } = isObject(now) ? now : {};
    const left = isDirect ? [id, ...ids] : ids;
    return this.client.account.saveData('m.direct', { ...others, ...(left.length && { [user]: left }) });
  }

  /** @param {string} user */
  #tie(user) {
    const tie = this.ties.peek().get(user);
    if (!tie) throw new Error('nothing is known of them');
    return tie;
  }

  /** @param {string} deed @param {object} body */
  #post(deed, body) {
    return this.api.post(`${PATH}/${deed}`, body, { timeout: 120_000 });
  }
}

/** What counts before what, if one person is several things. */
const RANK = { friend: 3, incoming: 2, outgoing: 1 };

/**
 * @param {import('./store.js').Store} store
 * @param {string} me
 */
function derive(store, me) {
  /** @type {Map<string, Tie>} */
  const found = new Map();
  const ignored = store.ignored();
  // The latest activity first: of several rooms with one person, that one counts.
  for (const room of store.rooms.value) {
    const tie = tieOf(room, store.direct.value.get(room.id), me);
    if (!tie || (tie.relation === 'incoming' && ignored.has(tie.user))) continue;
    const known = found.get(tie.user);
    if (!known || RANK[tie.relation] > RANK[known.relation]) found.set(tie.user, tie);
  }
  return found;
}

/** @param {Room} room @param {string | undefined} direct @param {string} me @returns {Tie | null} */
function tieOf(room, direct, me) {
  room.membersChanged.value;
  if (room.membership.value === 'invite') {
    const { inviter } = room;
    const event = room.members.get(me);
    return room.invitedDirectly && inviter && inviter !== me ? { user: inviter, relation: 'incoming', room, ...said(event) } : null;
  }
  if (!direct || direct === me) return null;
  const event = room.members.get(direct);
  const membership = event?.content.membership ?? byCount(room);
  if (membership === 'join') return { user: direct, relation: 'friend', room, note: '', sent: 0 };
  return membership === 'invite' ? { user: direct, relation: 'outgoing', room, ...said(event) } : null;
}

/** Of a room of two whose other member the sync hasn't named yet. @param {Room} room */
function byCount(room) {
  if ((room.summary['m.joined_member_count'] ?? 0) > 1) return 'join';
  return (room.summary['m.invited_member_count'] ?? 0) > 0 ? 'invite' : 'leave';
}

/** @param {import('./events.js').Event | undefined} event an invitation */
function said(event) {
  const reason = event?.content.reason;
  return { note: typeof reason === 'string' ? reason.trim().slice(0, LONGEST_NOTE) : '', sent: Number(event?.origin_server_ts) || 0 };
}
