/**
 * Everything this person sees, as signals: fed by sync answers alone, kept on the disk.
 * Owns the three steps of an answer (read what it touches, apply, write) and the list of
 * rooms; asks the network nothing.
 */
import { computed, signal } from '../kit/signal.js';
import { AccountData } from './account-data.js';
import { inMemory } from './disk.js';
import { isObject } from './events.js';
import { Room } from './room.js';

/** @typedef {{ state: 'online' | 'unavailable' | 'offline', since: number, now: boolean, status: string }} Presence
 * `since`: when they were last active, or 0; `now`: whether they are active now */

/** People whose presence is remembered over a reload. */
const MOST_PRESENT = 1000;

export class Store {
  /** @type {Map<string, Room>} */
  #rooms = new Map();
  #roomsChanged = signal(0);
  #accountData = new AccountData();
  #accountChanged = signal(0);
  /** @type {Map<string, Presence>} */
  #presence = new Map();
  #presenceChanged = signal(0);
  /** Whether at least one answer has been applied, now or before the reload. */
  ready = signal(false);
  /** The token of the last answer that is on the disk. @type {string | undefined} */
  since = undefined;
  /** Told what has just come in, for whoever is to be told; an invitation has no events. @type {(room: Room, events: import('./events.js').Event[]) => void} */
  onNews = () => {};
  /** @type {Set<Room>} */
  #dirty = new Set();
  /** @type {Set<string>} */
  #gone = new Set();
  /** Rooms in which something waited to be sent when the page closed. @type {string[]} */
  unsent = [];
  /** Whether it is this tab that writes to the disk. */
  #writes = false;
  /** What is written waits for what was being written. @type {Promise<void>} */
  #writing = Promise.resolve();

  /**
   * @param {string} me
   * @param {import('./disk.js').Disk} disk
   */
  constructor(me, disk) {
    this.me = me;
    this.disk = disk;
    // Of several tabs one writes. When its turn comes, this one writes all it knows.
    disk.turn.then(() => {
      for (const room of this.#rooms.values()) this.#dirty.add(room);
      this.#writes = true;
    });
    /** Latest activity first. */
    this.rooms = computed(() => {
      this.#roomsChanged.value;
      return [...this.#rooms.values()].sort((a, b) => b.activity.value - a.activity.value || (a.id < b.id ? -1 : 1));
    });
    /** Room ID → the person it is a direct chat with. */
    this.direct = computed(() => this.#directRooms());
  }

  /** Shows what the disk has, at once. */
  async restore() {
    const { meta, rooms } = await this.disk.load();
    this.since = meta.since;
    for (const [type, content] of Object.entries(meta.accountData ?? {})) this.#accountData.set(type, content);
    for (const [user, presence] of meta.presence ?? []) this.#presence.set(user, presence);
    for (const record of rooms) {
      this.#rooms.set(record.id, Room.from(record, this.me));
      if (record.unsent) this.unsent.push(record.id);
    }
    this.#roomsChanged.update((count) => count + 1);
    this.ready.value = Boolean(this.since);
  }

  /** @param {string} id */
  room(id) {
    this.#roomsChanged.value;
    return this.#rooms.get(id);
  }

  /** @param {string} type */
  accountData(type) {
    this.#accountChanged.value;
    return this.#accountData.get(type);
  }

  /** Where somebody is, as far as this server tells. @param {string} user @returns {Presence | undefined} */
  presence(user) {
    this.#presenceChanged.value;
    return this.#presence.get(user);
  }

  /** People that this person wants to hear nothing of. @returns {Set<string>} */
  ignored() {
    const users = this.accountData('m.ignored_user_list')?.ignored_users;
    return new Set(isObject(users) ? Object.keys(users) : []);
  }

  /**
   * Account data as it will come by the next sync, so that what was chosen shows at once.
   * @param {string} type
   * @param {any} content
   */
  expectAccountData(type, content) {
    this.#accountData.expect(type, content);
    this.#accountChanged.update((count) => count + 1);
  }

  /** Account data that can't be kept. @param {string} type @param {any} content */
  giveUpAccountData(type, content) {
    this.#accountData.giveUp(type, content);
  }

  /** Takes one sync answer: reads, applies, writes. @param {any} sync */
  async take(sync) {
    await this.warm(Object.keys(sync.rooms?.join ?? {}));
    this.apply(sync);
    await this.save(sync.next_batch);
  }

  /** Reads timelines and members of rooms that are still only on the disk. @param {string[]} ids */
  async warm(ids) {
    const cold = ids.map((id) => this.#rooms.get(id)).filter((room) => room && !room.warm);
    if (!cold.length) return;
    const found = await this.disk.warm(cold.map((room) => /** @type {Room} */ (room).id));
    for (const room of cold) room?.warmUp(found.get(room.id)?.timeline, found.get(room.id)?.members ?? []);
  }

  /** Changes memory as one answer says; every room it names must be warm. @param {any} sync */
  apply(sync) {
    for (const event of sync.account_data?.events ?? []) {
      if (!isObject(event?.content)) continue;
      this.#accountData.hear(event.type, event.content);
      this.#accountChanged.update((count) => count + 1);
    }
    for (const event of sync.presence?.events ?? []) this.#applyPresence(event);
    const { join = {}, invite = {}, knock = {}, leave = {} } = sync.rooms ?? {};
    for (const [id, data] of Object.entries(join)) {
      const room = this.#entered(id);
      const events = room.applyJoined(data);
      // The first answer of all tells the past.
      if (this.since !== undefined && events.length) this.onNews(room, events);
    }
    for (const [id, data] of Object.entries(invite)) {
      const isNew = !this.#rooms.has(id);
      const room = this.#entered(id);
      room.applyOutside('invite', data.invite_state?.events);
      if (this.since !== undefined && isNew) this.onNews(room, []);
    }
    for (const [id, data] of Object.entries(knock)) this.#entered(id).applyOutside('knock', data.knock_state?.events);
    for (const id of Object.keys(leave)) this.#drop(id);
    this.ready.value = true;
  }

  /** Writes what has changed, with the token up to which it holds, in one transaction. @param {string} [since] */
  save(since) {
    this.#writing = this.#writing.catch(() => {}).then(() => this.#write(since));
    return this.#writing;
  }

  /** Says that a room has changed without a sync: an echo, say. @param {Room} room */
  touch(room) {
    this.#dirty.add(room);
  }

  /** @param {any} event */
  #applyPresence(event) {
    const { presence: state, last_active_ago: ago, currently_active: now = false, status_msg: status } = event?.content ?? {};
    if (typeof event?.sender !== 'string' || !['online', 'unavailable', 'offline'].includes(state)) return;
    const since = Number.isFinite(ago) ? Date.now() - ago : (this.#presence.get(event.sender)?.since ?? 0);
    this.#presence.delete(event.sender);
    this.#presence.set(event.sender, { state, since, now: now === true, status: typeof status === 'string' ? status.slice(0, 500) : '' });
    for (const user of this.#presence.keys()) {
      if (this.#presence.size <= MOST_PRESENT) break;
      this.#presence.delete(user);
    }
    this.#presenceChanged.update((count) => count + 1);
  }

  /** A room left or forgotten elsewhere. @param {string} id */
  #drop(id) {
    const room = this.#rooms.get(id);
    if (!room) return;
    this.#rooms.delete(id);
    this.#dirty.delete(room);
    this.#gone.add(id);
    this.#roomsChanged.update((count) => count + 1);
  }

  /** @param {string} id */
  #entered(id) {
    let room = this.#rooms.get(id);
    if (!room) {
      room = new Room(id, this.me);
      this.#rooms.set(id, room);
      this.#gone.delete(id);
      this.#roomsChanged.update((count) => count + 1);
    }
    this.#dirty.add(room);
    return room;
  }

  /** @param {string} [since] */
  async #write(since) {
    if (!this.#writes) {
      if (since !== undefined) this.since = since;
      return;
    }
    const rooms = [...this.#dirty];
    const gone = [...this.#gone];
    this.#dirty.clear();
    this.#gone.clear();
    const members = rooms.flatMap((room) => {
      const users = [...room.dirtyMembers];
      room.dirtyMembers.clear();
      return users.map((user) => ({ room: room.id, user, event: room.members.get(user) }));
    });
    const changes = {
      ...(since !== undefined && { meta: { since, accountData: Object.fromEntries(this.#accountData), presence: [...this.#presence] } }),
      rooms: rooms.map((room) => room.record()),
      // A cold room's timeline on the disk knows more than memory does.
      timelines: rooms.filter((room) => room.warm).map((room) => ({ id: room.id, timeline: room.timeline.snapshot() })),
      members,
      gone,
    };
    try {
      await this.disk.write(changes);
    } catch (error) {
      // Full or broken: go on in memory, from a whole answer, since what is on the disk is not.
      this.disk.destroy().catch(() => {});
      this.disk = inMemory();
      this.#writes = true;
      this.since = undefined;
      throw error;
    }
    if (since !== undefined) this.since = since;
  }

  #directRooms() {
    this.#accountChanged.value;
    /** @type {Map<string, string>} */
    const found = new Map();
    for (const [user, ids] of Object.entries(this.#accountData.get('m.direct') ?? {})) {
      if (Array.isArray(ids)) for (const id of ids) if (typeof id === 'string') found.set(id, user);
    }
    return found;
  }
}
