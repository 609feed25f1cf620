/**
 * Sends what a person writes: in order per room, shown at once, tried again while the reason
 * passes, and always under the same transaction ID, so that nothing is said twice.
 * Owns the queues; refuses to know how a message was written.
 */
import { ApiError, at, pause } from './api.js';

/** Attempts at what may pass by itself, before the person is asked. */
const ATTEMPTS = 5;
const FIRST_WAIT = 700;

export class Sender {
  /** @type {Map<string, Promise<void>>} */
  #queues = new Map();
  #count = 0;

  /**
   * @param {{ api: import('./api.js').Api, sync: Pick<import('./sync.js').Sync, 'request'>, store: Pick<import('./store.js').Store, 'touch' | 'save'>, wait?: (ms: number) => Promise<void> }} parts
   */
  constructor({ api, sync, store, wait = pause }) {
    this.api = api;
    this.sync = sync;
    this.store = store;
    this.wait = wait;
    // Distinct from those of an earlier page of the same device.
    this.run = `${Date.now().toString(36)}${Math.random().toString(36).slice(2, 8)}`;
  }

  /**
   * Shows and sends a message. Resolves when it has arrived or has failed.
   * @param {import('./room.js').Room} room
   * @param {Record<string, any>} content
   */
  message(room, content) {
    const txn = this.#transaction();
    const entry = room.timeline.echo({
      type: 'm.room.message',
      event_id: `~${txn}`,
      sender: room.me,
      origin_server_ts: Date.now(),
      content,
      unsigned: { transaction_id: txn },
    });
    room.activity.value = Date.now();
    this.#keep(room);
    return this.#queue(room, entry);
  }

  /**
   * Says something about another event, such as an edit or a reaction: shown at once, taken
   * back if the server won't have it.
   * @param {import('./room.js').Room} room
   * @param {string} type
   * @param {Record<string, any>} content with `m.relates_to`
   */
  async about(room, type, content) {
    const txn = this.#transaction();
    const event = { type, event_id: `~${txn}`, sender: room.me, origin_server_ts: Date.now(), content, unsigned: { transaction_id: txn } };
    const takeBack = [room.timeline, ...room.others].map((timeline) => timeline.say(event));
    try {
      await this.#deliver(room, event, txn);
    } catch (error) {
      takeBack.forEach((one) => one());
      throw error;
    }
  }

  /** Tries again what failed while the server couldn't be reached. @param {Iterable<import('./room.js').Room>} rooms */
  resume(rooms) {
    for (const room of rooms) {
      for (const entry of room.timeline.pending) if (entry.status === 'failed' && entry.passing) this.retry(room, entry);
    }
  }

  /** @param {import('./room.js').Room} room @param {import('./entry.js').Entry} entry */
  retry(room, entry) {
    room.timeline.mark(entry, 'sending');
    return this.#queue(room, entry);
  }

  /** Gives up a message that failed. @param {import('./room.js').Room} room @param {import('./entry.js').Entry} entry */
  discard(room, entry) {
    room.timeline.drop(entry);
    this.#keep(room);
  }

  /** Deletes an event for everyone. @param {import('./room.js').Room} room @param {string} eventId */
  async redact(room, eventId) {
    const txn = this.#transaction();
    await this.#try(() => this.sync.request('redact', { room_id: room.id, event_id: eventId, txn_id: txn }) ?? this.api.put(at`/rooms/${room.id}/redact/${eventId}/${txn}`));
    for (const timeline of [room.timeline, ...room.others]) timeline.redact(eventId, { sender: room.me });
  }

  /** @param {import('./room.js').Room} room @param {import('./entry.js').Entry} entry */
  #queue(room, entry) {
    const turn = (this.#queues.get(room.id) ?? Promise.resolve()).catch(() => {}).then(() => this.#send(room, entry));
    this.#queues.set(room.id, turn);
    return turn;
  }

  /** @param {import('./room.js').Room} room @param {import('./entry.js').Entry} entry */
  async #send(room, entry) {
    try {
      const { event_id: id } = await this.#deliver(room, entry.event, entry.key);
      room.timeline.confirm(entry, id);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      // The sync may have brought it although the answer was lost.
      if (entry.status !== 'sent') room.timeline.mark(entry, 'failed', error.passing);
    }
    this.#keep(room);
  }

  /** @param {import('./room.js').Room} room @param {import('./events.js').Event} event @param {string} txn */
  #deliver(room, { type, content }, txn) {
    return this.#try(
      () =>
        this.sync.request('send', { room_id: room.id, event_type: type, txn_id: txn, content }) ??
        this.api.put(at`/rooms/${room.id}/send/${type}/${txn}`, content),
    );
  }

  /**
   * @template T
   * @param {() => Promise<T>} attempt
   */
  async #try(attempt) {
    for (let left = ATTEMPTS - 1, delay = FIRST_WAIT; ; left--, delay *= 2) {
      try {
        return await attempt();
      } catch (error) {
        if (!(error instanceof ApiError) || !error.passing || left <= 0) throw error;
        await this.wait(error.retryAfter ?? delay);
      }
    }
  }

  /** @param {import('./room.js').Room} room */
  #keep(room) {
    this.store.touch(room);
    // A full disk costs the memory of unsent messages over a reload, not the sending.
    this.store.save().catch(() => {});
  }

  #transaction() {
    return `${this.run}.${++this.#count}`;
  }
}
