/**
 * What a signed-in person can do, as the views call it: one object that holds the parts
 * together and one function per deed. Owns no state of its own beyond what is under way.
 */
import { signal } from '../kit/signal.js';
import { Account } from './account.js';
import { Api, ApiError, at } from './api.js';
import { openDisk } from './disk.js';
import { Friends } from './friends.js';
import { serverOf } from './ids.js';
import { Media } from './media.js';
import { People } from './people.js';
import { Reading } from './reading.js';
import { Rooms } from './rooms.js';
import { Saying } from './saying.js';
import { Search } from './search.js';
import { Sender } from './sender.js';
import { Store } from './store.js';
import { Sync } from './sync.js';

/** The server forgets that somebody types after this long, unless told again. */
const TYPING_FOR = 25_000;

/** @typedef {import('./room.js').Room} Room */

export class Client {
  /** Told once when the session has ended at the server. @type {(error: ApiError) => void} */
  onSignedOut = () => {};

  /**
   * @param {import('./session.js').Session} session
   * @param {import('./disk.js').Disk} disk
   * @param {string} [home] the address that the client itself came from
   */
  constructor(session, disk, home = session.base) {
    this.session = session;
    this.me = session.userId;
    this.server = serverOf(session.userId);
    this.disk = disk;
    this.api = new Api({ base: session.base, token: session.token });
    this.media = new Media(this.api);
    this.store = new Store(session.userId, disk);
    // A server takes WebSockets from its own pages only; those of others poll.
    const isHome = new URL(session.base).host === new URL(home).host;
    this.sync = new Sync({ api: this.api, take: (sync) => this.store.take(sync), since: () => this.store.since, ...(!isHome && { WebSocket: null }) });
    this.sender = new Sender({ api: this.api, sync: this.sync, store: this.store });
    this.rooms = new Rooms(this);
    this.account = new Account(this);
    this.people = new People(this);
    this.friends = new Friends(this);
    this.reading = new Reading(this.api);
    this.searching = new Search(this.api);
    this.saying = new Saying({ api: this.api, sender: this.sender, store: this.store });
    /** @type {Map<string, { typing: boolean, until: number }>} */
    this.typingSaid = new Map();
    /** @type {Promise<unknown>} */
    this.typingTurn = Promise.resolve();
    /** @type {Map<string, string>} */
    this.readSaid = new Map();
    /** Of several tabs of one person, the one that keeps the disk also tells what is new. */
    this.isFirst = signal(false);
    /** Whether this person administers the server, as far as it has said. */
    this.isAdmin = signal(false);
    disk.turn.then(() => (this.isFirst.value = true));
    this.api.onSignedOut = (error) => {
      this.sync.stop();
      this.onSignedOut(error);
    };
  }

  /** @param {import('./session.js').Session} session @param {string} home */
  static async open(session, home) {
    const client = new Client(session, await openDisk(session.userId), home);
    await client.store.restore();
    return client;
  }

  /** Asks whether this person administers the server. */
  async askAdmin() {
    const { capabilities } = await this.api.get(at`/capabilities`);
    this.isAdmin.value = capabilities?.['chat.hearth.admin']?.enabled === true;
    return this.isAdmin.peek();
  }

  /** Whether the server has an extension of that name. @param {string} feature */
  async offers(feature) {
    this.versions ??= this.api.get('/_matrix/client/versions');
    this.versions.catch(() => (this.versions = undefined));
    return (await this.versions)?.unstable_features?.[feature] === true;
  }
  /** @type {Promise<any> | undefined} */
  versions = undefined;

  /** Ends the session here and, if it can be reached, at the server. */
  async signOut() {
    this.sync.stop();
    await this.api.post(at`/logout`, {}, { timeout: 8000, waits: 0 }).catch(() => {});
    await this.disk.destroy();
  }

  /** @param {string} target room ID or alias @param {string[]} [via] @returns {Promise<string>} the room's ID */
  async join(target, via = []) {
    const answer = await this.api.post(at`/join/${target}`, {}, { query: { via, server_name: via }, timeout: 120_000 });
    return answer.room_id;
  }

  /** Leaves a room or turns an invitation down. @param {string} id */
  async leave(id) {
    await this.api.post(at`/rooms/${id}/leave`);
    // The sync says so too, but a server need not tell of a refused invitation.
    this.store.apply({ rooms: { leave: { [id]: {} } } });
    await this.store.save();
  }

  /** @param {Room} room @param {string} userId */
  invite(room, userId) {
    return this.api.post(at`/rooms/${room.id}/invite`, { user_id: userId }, { timeout: 60_000 });
  }

  /** Sends what waited for the connection, here or before a reload. */
  async resume() {
    await this.store.warm(this.store.unsent.splice(0));
    this.sender.resume(this.store.rooms.peek());
  }

  /** Reads a room from the disk, if it isn't in memory yet. @param {Room} room */
  warm(room) {
    return this.store.warm([room.id]);
  }

  /** Learns of everybody in a room, once. @param {Room} room */
  async loadMembers(room) {
    if (room.membersComplete) return;
    const before = new Map(room.members);
    const { chunk } = await this.api.get(at`/rooms/${room.id}/members`, { query: { not_membership: 'leave' } });
    room.setMembers(chunk ?? [], before);
    this.store.touch(room);
    await this.store.save();
  }

  /** Says that this person types, or has stopped; at most as often as needed. @param {Room} room @param {boolean} typing */
  typing(room, typing) {
    const said = this.typingSaid.get(room.id);
    const isKnown = typing ? said?.typing && said.until > Date.now() : !said?.typing;
    if (isKnown) return;
    // Told again a little before the server forgets.
    this.typingSaid.set(room.id, { typing, until: Date.now() + TYPING_FOR * 0.7 });
    const how = { typing, ...(typing && { timeout: TYPING_FOR }) };
    // One after the other: the last word must be the last to arrive.
    this.typingTurn = this.typingTurn
      .then(() => this.sync.request('typing', { room_id: room.id, ...how }) ?? this.api.put(at`/rooms/${room.id}/typing/${this.me}`, how, { waits: 0 }))
      .catch(() => {});
  }

  /** Says that this person has read all there is in a room. @param {Room} room */
  read(room) {
    const event = room.latestFromOthers();
    if (!event || this.readSaid.get(room.id) === event.event_id) return;
    const { count, mentions } = room.unreadMain.peek();
    if (room.hasRead(event.event_id) && !count && !mentions) return;
    this.readSaid.set(room.id, event.event_id);
    room.clearUnread();
    // Of a thread, what is read is said by itself; the mark of how far one has come knows none.
    const marker = { 'm.fully_read': event.event_id };
    const done = this.sync.request('read_markers', { room_id: room.id, ...marker }) ?? this.api.post(at`/rooms/${room.id}/read_markers`, marker, { waits: 1 });
    // Said again when the room is next looked at.
    Promise.all([done, this.#receive(room, event.event_id, 'main')]).catch(() => this.readSaid.delete(room.id));
  }

  /** Says that this person has read a thread. @param {Room} room @param {string} thread @param {import('./timeline.js').Timeline} timeline */
  readThread(room, thread, timeline) {
    const event = timeline.entries.findLast(({ event }) => event.sender !== this.me && event.event_id !== thread)?.event;
    const key = `${room.id} ${thread}`;
    if (!event || this.readSaid.get(key) === event.event_id) return;
    this.readSaid.set(key, event.event_id);
    room.clearUnread(thread);
    this.#receive(room, event.event_id, thread).catch(() => this.readSaid.delete(key));
  }

  /** Whether others are told is this person's choice. @param {Room} room @param {string} event @param {string} thread its first event, or `main` */
  #receive(room, event, thread) {
    const type = this.store.accountData('chat.hearth.settings')?.privateReceipts === true ? 'm.read.private' : 'm.read';
    return this.sync.request('receipt', { room_id: room.id, receipt_type: type, event_id: event, thread_id: thread }) ?? this.api.post(at`/rooms/${room.id}/receipt/${type}/${event}`, { thread_id: thread }, { waits: 1 });
  }
}
