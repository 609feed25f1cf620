/**
 * One room as this person sees it: state, members, name, counts, who types, who has read.
 * Owns what a room's part of a sync answer changes; the timeline is its own module.
 */
import { computed, signal } from '../kit/signal.js';
import { AccountData } from './account-data.js';
import { isMessage, isObject, isShown, threadOf } from './events.js';
import { localpart } from './ids.js';
import { sharedNames, titleOf } from './naming.js';
import { Timeline } from './timeline.js';
import { both, NONE, unreadIn, unreadInThreads } from './unread.js';

/** @typedef {import('./events.js').Event} Event */
/** @typedef {{ id: string, name: string, avatar?: string, membership: string, power: number }} Member */
/** @typedef {import('./unread.js').Unread} Unread */
/** @typedef {'join' | 'invite' | 'knock'} Membership */
/** @typedef {{ id: string, membership: Membership, state: any[], summary: any, unread: Unread, threads?: Array<[string, Unread]>, activity: number, preview: Event | null, receipts: Array<[string, any]>, data?: Array<[string, any]>, unsent?: number, members: any[] }} RoomRecord */

export class Room {
  /** @param {string} id @param {string} me */
  constructor(id, me) {
    this.id = id;
    this.me = me;
    this.membership = signal(/** @type {Membership} */ ('join'));
    this.timeline = new Timeline();
    /** What is unread outside threads; in each thread, by its first event; and altogether. */
    this.unreadMain = signal(NONE);
    this.unreadThreads = signal(/** @type {ReadonlyMap<string, Unread>} */ (new Map()));
    this.unread = computed(() => [...this.unreadThreads.value.values()].reduce(both, this.unreadMain.value));
    this.typing = signal(/** @type {string[]} */ ([]));
    /** When something was last said here. */
    this.activity = signal(0);
    /** The latest event with a row, for the room list. */
    this.preview = signal(/** @type {Event | null} */ (null));
    this.changed = signal(0);
    this.membersChanged = signal(0);
    this.receiptsChanged = signal(0);
    /** Whether all members are known, not only those who spoke lately. */
    this.membersComplete = false;
    /** Whether timeline and members have been read from the disk. */
    this.warm = true;
    this.summary = /** @type {any} */ ({});
    /** @type {Map<string, Map<string, Event>>} */
    this.state = new Map();
    /** What this person keeps about the room: tags, say. */
    this.data = new AccountData();
    /** @type {Map<string, Event>} */
    this.members = new Map();
    /** The latest event each person has read. @type {Map<string, { eventId: string, ts: number }>} */
    this.receipts = new Map();
    /** Members to be written to the disk. @type {Set<string>} */
    this.dirtyMembers = new Set();
    /** Other stretches that are on screen, such as threads: they hear what is said. @type {Set<Timeline>} */
    this.others = new Set();
    this.readers = computed(() => this.#readers());
    this.#names = computed(() => sharedNames(this));
  }
  #names;

  /** @param {string} type @param {string} [key] @returns {any} the content, or undefined */
  stateOf(type, key = '') {
    this.changed.value;
    return this.state.get(type)?.get(key)?.content;
  }

  /** @param {string} type @returns {any} what this person keeps about the room, or undefined */
  accountData(type) {
    this.changed.value;
    return this.data.get(type);
  }

  /** @param {string} name `m.favourite`, say */
  hasTag(name) {
    return isObject(this.accountData('m.tag')?.tags?.[name]);
  }

  /** As it will come by the next sync. @param {string} type @param {any} content */
  expectAccountData(type, content) {
    this.data.expect(type, content);
    this.#bump();
  }

  /** @param {any} data a joined room's part of a sync answer @returns {Event[]} what is new in it */
  applyJoined(data) {
    this.membership.value = 'join';
    if (isObject(data.summary)) Object.assign(this.summary, data.summary);
    const { events = [], prev_batch: before, limited = false } = data.timeline ?? {};
    for (const event of [...(data.state?.events ?? []), ...events]) this.#setState(event);
    const fresh = this.timeline.append(events, before, limited);
    for (const other of this.others) this.#tell(other, fresh.map(({ event }) => event));
    for (const { event } of fresh) this.#noteActivity(event);
    this.timeline.rest();
    this.#previewAgain();
    for (const event of data.ephemeral?.events ?? []) this.#applyEphemeral(event);
    for (const event of data.account_data?.events ?? []) if (isObject(event?.content)) this.data.hear(event.type, event.content);
    if (isObject(data.unread_notifications)) this.unreadMain.value = unreadIn(data.unread_notifications);
    const threads = data.unread_thread_notifications ?? {};
    // Nothing said of threads beside what is said of the rest: nothing is unread in them.
    if (isObject(data.unread_notifications) || Object.keys(threads).length) this.unreadThreads.value = unreadInThreads(threads);
    this.#bump();
    return fresh.map(({ event }) => event);
  }

  /** @param {Timeline} other @param {Event[]} events new ones */
  #tell(other, events) {
    other.hear(events);
    const own = other.thread ? events.filter((event) => threadOf(event) === other.thread) : [];
    if (own.length) other.append(own, undefined, false);
  }

  /** A room seen from outside. @param {'invite' | 'knock'} membership @param {any[]} [events] what is told of it */
  applyOutside(membership, events = []) {
    this.membership.value = membership;
    for (const event of events) this.#setState(event);
    this.activity.value = Math.max(this.activity.peek(), Date.now());
    this.#bump();
  }

  /** Members that the server sent beside older events. @param {any[]} events */
  noteMembers(events) {
    const fresh = events.filter((event) => event?.type === 'm.room.member' && !this.members.has(event.state_key));
    for (const event of fresh) this.#setState(event);
    if (fresh.length) this.#bump();
  }

  /** Everybody in the room. @param {any[]} events @param {Map<string, Event>} before who was known when that was asked for */
  setMembers(events, before) {
    // What a sync has brought since is newer than the answer.
    for (const event of events) if (this.members.get(event?.state_key) === before.get(event?.state_key)) this.#setState(event);
    this.membersComplete = true;
    this.#bump();
  }

  /** @param {string} id @returns {Member} */
  member(id) {
    this.membersChanged.value;
    const content = this.members.get(id)?.content;
    const name = typeof content?.displayname === 'string' ? content.displayname.trim().slice(0, 120) : '';
    return {
      id,
      name: name || localpart(id) || id,
      avatar: typeof content?.avatar_url === 'string' ? content.avatar_url : undefined,
      membership: typeof content?.membership === 'string' ? content.membership : 'leave',
      power: this.power(id),
    };
  }

  /** A name that tells this person from others of the same name here. @param {string} id */
  nameOf(id) {
    const { name } = this.member(id);
    return this.#names.value.has(name) ? `${name} (${id})` : name;
  }

  /** @param {string} membership */
  membersWith(membership) {
    this.membersChanged.value;
    return [...this.members].filter(([, event]) => event.content.membership === membership).map(([id]) => this.member(id));
  }

  /** @param {string} id spec: from room version 12 on, creators stand above all numbers */
  power(id) {
    const levels = this.stateOf('m.room.power_levels');
    const create = this.state.get('m.room.create')?.get('');
    const isCreator = create?.sender === id || create?.content.additional_creators?.includes?.(id);
    if (isCreator && (!levels || Number(create?.content.room_version) >= 12)) return Infinity;
    const level = levels?.users?.[id] ?? levels?.users_default ?? 0;
    return Number.isFinite(Number(level)) ? Number(level) : 0;
  }

  /** Whether this person may do it. @param {'invite' | 'redact' | 'kick' | 'ban'} action */
  may(action) {
    const usual = action === 'invite' ? 0 : 50;
    return this.power(this.me) >= Number(this.stateOf('m.room.power_levels')?.[action] ?? usual);
  }

  /** Whether this person stands above another. @param {string} id */
  outranks(id) {
    return id !== this.me && this.power(this.me) > this.power(id);
  }

  /** Whether this person may send messages, or other events. @param {string} [type] */
  maySend(type = 'm.room.message') {
    const levels = this.stateOf('m.room.power_levels');
    return this.power(this.me) >= Number(levels?.events?.[type] ?? levels?.events_default ?? 0);
  }

  /** Whether this person may change the room's state. @param {string} type */
  maySet(type) {
    const levels = this.stateOf('m.room.power_levels');
    return this.power(this.me) >= Number(levels?.events?.[type] ?? levels?.state_default ?? (levels ? 50 : 0));
  }

  /** @returns {string[]} the pinned events' IDs, the latest pinned last */
  pinned() {
    const ids = this.stateOf('m.room.pinned_events')?.pinned;
    return Array.isArray(ids) ? ids.filter((id) => typeof id === 'string').slice(-100) : [];
  }

  /** @returns {import('./naming.js').Title} */
  title() {
    return titleOf(this);
  }

  /** The other people who stand for a room without a name. @returns {string[]} */
  heroes() {
    this.changed.value;
    const given = this.summary['m.heroes'];
    const heroes = Array.isArray(given) ? given.filter((id) => typeof id === 'string') : [...this.members.keys()];
    return heroes.filter((id) => id !== this.me).slice(0, 5);
  }

  /** Whether the invitation is to a chat of two. */
  get invitedDirectly() {
    this.changed.value;
    return this.members.get(this.me)?.content.is_direct === true;
  }

  /** Who invited this person. */
  get inviter() {
    this.changed.value;
    return this.members.get(this.me)?.sender;
  }

  /** Whether the server has yet to learn from others who is here. spec: `spec/federation.md` */
  isArriving() {
    return Boolean(this.changed.value) && this.summary['chat.hearth.partial'] === true;
  }

  get memberCount() {
    this.changed.value;
    return this.summary['m.joined_member_count'] ?? this.membersWith('join').length;
  }

  /** The latest event here that somebody else made, for a read receipt: what is in threads is read there. */
  latestFromOthers() {
    return this.timeline.entries.findLast(({ event }) => event.sender !== this.me && !threadOf(event))?.event;
  }

  /** Says that nothing is unread in a thread, or outside of them. @param {string} [thread] its first event */
  clearUnread(thread) {
    if (thread) this.unreadThreads.value = new Map([...this.unreadThreads.peek()].filter(([root]) => root !== thread));
    else this.unreadMain.value = NONE;
  }

  /** Whether this person's receipt has reached the event. @param {string} eventId */
  hasRead(eventId) {
    const mine = this.receipts.get(this.me);
    return mine?.eventId === eventId || this.#isBefore(mine?.eventId, eventId) === false;
  }

  /** The ID of the latest event that this person has read. */
  readUpTo() {
    const marker = this.data.get('m.fully_read')?.event_id;
    return typeof marker === 'string' && marker ? marker : this.receipts.get(this.me)?.eventId;
  }

  /** Who has read an entry or what came after it. @param {import('./entry.js').Entry} entry @returns {Array<{ userId: string, ts: number }>} */
  seenBy(entry) {
    this.receiptsChanged.value;
    return [...this.receipts].filter(([, { eventId }]) => (this.timeline.find(eventId)?.order ?? -Infinity) >= entry.order).map(([userId, { ts }]) => ({ userId, ts }));
  }

  /** @param {string} userId @param {string} eventId @param {number} ts */
  setReceipt(userId, eventId, ts) {
    const known = this.receipts.get(userId);
    // Receipts only go forward; where the order isn't known, the later word counts.
    if (known && (this.#isBefore(eventId, known.eventId) ?? ts < known.ts)) return;
    this.receipts.set(userId, { eventId, ts });
    this.receiptsChanged.update((count) => count + 1);
  }

  /** @param {string | undefined} id @param {string} other @returns {boolean | undefined} undefined if it can't be told */
  #isBefore(id, other) {
    const [a, b] = [this.timeline.find(id ?? ''), this.timeline.find(other)];
    return a && b ? a.order < b.order : undefined;
  }

  /** @returns {RoomRecord} for the disk; all but timeline and members */
  record() {
    const state = [...this.state.values()].flatMap((byKey) => [...byKey.values()]);
    const preview = this.preview.peek();
    const shown = [...this.heroes(), this.me, ...(preview ? [preview.sender] : [])];
    return {
      id: this.id,
      membership: this.membership.peek(),
      state,
      summary: this.summary,
      unread: this.unreadMain.peek(),
      threads: [...this.unreadThreads.peek()],
      activity: this.activity.peek(),
      preview,
      receipts: [...this.receipts],
      data: [...this.data],
      unsent: this.timeline.pending.length,
      // Those whose names the room list needs before the room is opened.
      members: shown.flatMap((id) => this.members.get(id) ?? []),
    };
  }

  /** @param {RoomRecord} record @param {string} me */
  static from(record, me) {
    const room = new Room(record.id, me);
    room.membership.value = record.membership;
    for (const event of [...record.state, ...record.members]) room.#setState(event);
    room.summary = record.summary;
    room.unreadMain.value = record.unread;
    room.unreadThreads.value = new Map(record.threads);
    room.activity.value = record.activity;
    room.preview.value = record.preview;
    room.receipts = new Map(record.receipts);
    room.data = new AccountData(record.data);
    room.dirtyMembers.clear();
    room.warm = record.membership !== 'join';
    return room;
  }

  /** @param {ReturnType<Timeline['snapshot']> | undefined} timeline @param {any[]} members */
  warmUp(timeline, members) {
    if (this.warm) return;
    for (const event of members) this.#setState(event);
    this.dirtyMembers.clear();
    if (timeline) this.timeline.restore(timeline);
    // Another tab may have written it since the room was read.
    for (const { event } of this.timeline.entries) this.#noteActivity(event);
    this.#previewAgain();
    this.warm = true;
    this.#bump();
  }

  /** @param {any} event state, whole or stripped */
  #setState(event) {
    if (typeof event?.state_key !== 'string' || !isObject(event.content)) return;
    if (event.type === 'm.room.member') {
      this.members.set(event.state_key, event);
      this.dirtyMembers.add(event.state_key);
      this.#newMembers = true;
      return;
    }
    this.state.set(event.type, (this.state.get(event.type) ?? new Map()).set(event.state_key, event));
  }

  /** @param {Event} event */
  #noteActivity(event) {
    const ts = Math.min(Number(event.origin_server_ts) || 0, Date.now());
    const isOwnEntry = event.type === 'm.room.member' && event.state_key === this.me;
    if (isMessage(event) || isOwnEntry || event.type === 'm.room.create') this.activity.value = Math.max(this.activity.peek(), ts);
    if (isShown(event) || threadOf(event)) this.preview.value = event;
    // Who writes has read what came before.
    if (isMessage(event) && !threadOf(event)) this.setReceipt(event.sender, event.event_id, ts);
  }

  /** What was said last may have been edited or taken back since, also where the timeline has let go of it. */
  #previewAgain() {
    const preview = this.preview.peek();
    if (preview) this.preview.value = this.timeline.reads(this.timeline.find(preview.event_id)?.event ?? preview);
  }

  /** @param {any} event */
  #applyEphemeral(event) {
    if (!isObject(event?.content)) return;
    if (event.type === 'm.typing' && Array.isArray(event.content.user_ids)) this.typing.value = event.content.user_ids.filter((/** @type {any} */ id) => typeof id === 'string' && id !== this.me).slice(0, 20);
    if (event.type !== 'm.receipt') return;
    for (const [eventId, kinds] of Object.entries(event.content)) {
      for (const kind of ['m.read', 'm.read.private']) {
        for (const [userId, receipt] of Object.entries(kinds?.[kind] ?? {})) {
          const thread = /** @type {any} */ (receipt)?.thread_id;
          if (thread === undefined || thread === 'main') this.setReceipt(userId, eventId, Number(/** @type {any} */ (receipt)?.ts) || 0);
        }
      }
    }
  }

  /** Entry key → who has read up to there, others only. @returns {Map<string, string[]>} */
  #readers() {
    this.receiptsChanged.value;
    this.timeline.changed.value;
    /** @type {Map<string, string[]>} */
    const found = new Map();
    for (const [userId, { eventId }] of this.receipts) {
      if (userId === this.me) continue;
      // A receipt for an event without a row stands at the row before it.
      let entry = this.timeline.find(eventId);
      while (entry && !entry.isShown(undefined)) entry = this.timeline.previous(entry);
      if (!entry) continue;
      const { key } = entry;
      found.set(key, [...(found.get(key) ?? []), userId]);
    }
    return found;
  }

  /** Says once what changed, however many members came. */
  #bump() {
    if (this.#newMembers) this.membersChanged.update((count) => count + 1);
    this.#newMembers = false;
    this.changed.update((count) => count + 1);
  }
  #newMembers = false;
}
