/**
 * What was said about events: edits, reactions, replies in threads, by the event they are
 * about, which may come later. Owns which of them count; knows no order of events.
 * spec: client-server-api#forming-relationships-between-events
 */
import { isEvent, isObject, relation, threadOf } from './events.js';

/** @typedef {import('./events.js').Event} Event */
/** @typedef {{ key: string, senders: string[], own: (userId: string) => string | undefined }} Reaction `own` is the ID of a person's reaction, to take it back */

export class Relations {
  /** @type {Map<string, Map<string, Event>>} */
  #about = new Map();
  /** Who is about what: a redaction names only the one. @type {Map<string, string>} */
  #target = new Map();

  /** @param {Event} event @returns {string | undefined} the event it is about, if it counts */
  add(event) {
    const target = relation(event)?.event_id;
    if (typeof target !== 'string' || !isAbout(event)) return undefined;
    const about = this.#about.get(target) ?? new Map();
    // The event itself takes the place of what stood for it.
    const txn = event.unsigned?.transaction_id;
    if (txn && event.event_id !== `~${txn}` && about.delete(`~${txn}`)) this.#target.delete(`~${txn}`);
    this.#about.set(target, about.set(event.event_id, event));
    this.#target.set(event.event_id, target);
    return target;
  }

  /** @param {Event} event @returns {string | undefined} the event it was about */
  forget(event) {
    return this.forgetId(event.event_id);
  }

  /** @param {string} id @returns {string | undefined} */
  forgetId(id) {
    const target = this.#target.get(id);
    if (target === undefined) return undefined;
    this.#target.delete(id);
    this.#about.get(target)?.delete(id);
    return target;
  }

  /** Lets go of all that is about an event. @param {string} id */
  drop(id) {
    for (const about of this.#about.get(id)?.keys() ?? []) this.#target.delete(about);
    this.#about.delete(id);
  }

  /** Lets go of all that is about events other than these. @param {(id: string) => boolean} isKept */
  keep(isKept) {
    for (const id of this.#about.keys()) if (!isKept(id)) this.drop(id);
  }

  /** @returns {Event[]} */
  all() {
    return [...this.#about.values()].flatMap((about) => [...about.values()]);
  }

  clear() {
    this.#about.clear();
    this.#target.clear();
  }

  /** @param {string} id @returns {Reaction[]} in the order in which they were first given */
  reactions(id) {
    /** @type {Map<string, Map<string, string>>} */
    const found = new Map();
    for (const event of this.#about.get(id)?.values() ?? []) {
      const { rel_type, key } = relation(event) ?? {};
      if (rel_type !== 'm.annotation' || typeof key !== 'string' || !key) continue;
      found.set(key, (found.get(key) ?? new Map()).set(event.sender, event.event_id));
    }
    return [...found].map(([key, by]) => ({ key, senders: [...by.keys()], own: (userId) => by.get(userId) }));
  }

  /** @param {Event} event the original; spec: client-server-api#validity-of-replacement-events */
  latestEdit(event) {
    const bundled = event.unsigned?.['m.relations']?.['m.replace'];
    return [...(this.#about.get(event.event_id)?.values() ?? []), ...(isEvent(bundled) ? [bundled] : [])]
      .filter((edit) => relation(edit)?.rel_type === 'm.replace' && edit.sender === event.sender && edit.type === event.type)
      .filter((edit) => isObject(edit.content['m.new_content']) && event.state_key === undefined)
      .sort((a, b) => a.origin_server_ts - b.origin_server_ts || (a.event_id < b.event_id ? -1 : 1))
      .at(-1);
  }

  /**
   * What the server bundled, and what has come since.
   * @param {Event} event the thread's first
   * @returns {{ count: number, latest: Event | undefined }}
   */
  thread(event) {
    const given = event.unsigned?.['m.relations']?.['m.thread'];
    const bundled = isEvent(given?.latest_event) ? given.latest_event : undefined;
    const base = bundled && Number.isFinite(given.count) ? given.count : 0;
    const heard = [...(this.#about.get(event.event_id)?.values() ?? [])].filter(threadOf);
    const later = bundled ? heard.filter((one) => one.event_id !== bundled.event_id && one.origin_server_ts > bundled.origin_server_ts) : heard;
    const latest = [...(bundled ? [bundled] : []), ...later].sort((a, b) => a.origin_server_ts - b.origin_server_ts).at(-1);
    return { count: Math.max(base + later.length, heard.length), latest };
  }
}

/** @param {Event} event */
function isAbout(event) {
  const type = relation(event)?.rel_type;
  return type === 'm.replace' || type === 'm.thread' || (type === 'm.annotation' && event.type === 'm.reaction');
}
