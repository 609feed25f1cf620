/**
 * One room's events in order, with what was said about them since: edits, reactions,
 * redactions, and what this person is still sending. Owns order, de-duplication and the
 * tokens from which to read further back; asks nobody and knows no requests.
 */
import { signal } from '../kit/signal.js';
import { isEvent, isRedacted, isShown, redacted, redactionTarget, relation } from './events.js';

/** @typedef {import('./events.js').Event} Event */
/** @typedef {'sent' | 'sending' | 'failed'} Status */

/** In memory, when nobody is reading further back. */
const MOST = 1000;
/** On disk, for the next start. */
const KEPT = 40;

/** An event's place in the timeline; it stays the same when an echo becomes the event. */
export class Entry {
  /** @param {Event} event @param {string} [key] @param {Status} [status] */
  constructor(event, key = event.event_id, status = 'sent') {
    this.event = event;
    this.key = key;
    this.status = status;
    /** Where to read on before this event, if it begins a stretch. @type {string | undefined} */
    this.before = undefined;
    /** Its number in the timeline: neighbours differ by one. */
    this.order = 0;
    /** Counts what changed about it: edits, reactions, status. */
    this.changed = signal(0);
  }

  touch() {
    this.changed.update((count) => count + 1);
  }
}

export class Timeline {
  /** @type {Entry[]} */
  entries = [];
  /** Local echoes, oldest first; always last in the timeline. @type {Entry[]} */
  pending = [];
  changed = signal(0);
  loading = signal(false);
  /** Whether the first entry is the room's first event that we may see. */
  complete = signal(false);
  /** Where to read on further back. @type {string | undefined} */
  back = undefined;
  /** @type {Map<string, Entry>} */
  #byId = new Map();
  /** Edits and reactions by the event they are about, which may not be here yet. @type {Map<string, Map<string, Event>>} */
  #about = new Map();

  /** @param {string} id */
  find(id) {
    return this.#byId.get(id);
  }

  /** The entries that have a row, echoes last. */
  shown() {
    this.changed.value;
    return [...this.entries, ...this.pending].filter(({ event }) => isShown(event));
  }

  /**
   * Adds what a sync brought. Returns the entries that are new.
   * @param {any[]} events oldest first
   * @param {string | undefined} before
   * @param {boolean} limited whether events between the known ones and these are missing
   */
  append(events, before, limited) {
    const known = events.some((event) => this.#byId.has(event?.event_id));
    // Over a gap nothing can be put in order: begin anew, and read back through the gap.
    if (limited && !known) this.#reset();
    const fresh = events.filter(isEvent).filter((event) => !this.#byId.has(event.event_id)).map((event) => this.#enter(event));
    if (!this.entries.length) this.back = before;
    if (fresh.length) {
      if (!known) fresh[0].before = before;
      let order = this.entries.at(-1)?.order ?? 0;
      for (const entry of fresh) entry.order = ++order;
      this.entries.push(...fresh);
    }
    if (fresh.length || limited) this.#bump();
    return fresh;
  }

  /**
   * Adds what reading back brought.
   * @param {any[]} events newest first, as the server gives them
   * @param {string | undefined} before absent at the start of the room
   */
  prepend(events, before) {
    const fresh = events.filter(isEvent).filter((event) => !this.#byId.has(event.event_id)).map((event) => this.#enter(event)).reverse();
    this.back = before;
    let order = this.entries[0]?.order ?? 1;
    for (const entry of fresh.toReversed()) entry.order = --order;
    this.entries.unshift(...fresh);
    if (this.entries[0]) this.entries[0].before = before;
    this.#bump();
  }

  /**
   * Shows a message before the server has it.
   * @param {Event} event with `unsigned.transaction_id`
   * @param {Status} [status]
   */
  echo(event, status = 'sending') {
    const entry = new Entry(event, event.unsigned?.transaction_id, status);
    this.pending.push(entry);
    this.#bump();
    return entry;
  }

  /** The server has answered with the event's ID; the event itself comes by sync. @param {Entry} entry @param {string} id */
  confirm(entry, id) {
    entry.status = 'sent';
    entry.event = { ...entry.event, event_id: id };
    // The sync may have been quicker, from before the answer was known here.
    if (this.#byId.has(id) && this.#byId.get(id) !== entry) this.drop(entry);
    entry.touch();
  }

  /** @param {Entry} entry @param {Status} status */
  mark(entry, status) {
    entry.status = status;
    entry.touch();
  }

  /** Takes a local echo away. @param {Entry} entry */
  drop(entry) {
    this.pending = this.pending.filter((one) => one !== entry);
    this.#bump();
  }

  /** Takes back what was said in an event. @param {string} id @param {any} because */
  redact(id, because) {
    const entry = this.#byId.get(id);
    if (entry && !isRedacted(entry.event)) {
      this.#forgetRelation(entry.event);
      entry.event = redacted(entry.event, because);
      entry.touch();
      this.#bump();
    }
  }

  /**
   * What the event says now: its content or that of its latest edit.
   * @param {Entry} entry
   * @returns {{ content: Record<string, any>, edited: boolean, redacted: boolean }}
   */
  current(entry) {
    entry.changed.value;
    const { event } = entry;
    if (isRedacted(event)) return { content: {}, edited: false, redacted: true };
    const edit = this.#latestEdit(event);
    if (!edit) return { content: event.content, edited: false, redacted: false };
    // spec: an edit can't change what the message replies to
    const relates = event.content['m.relates_to'];
    return { content: { ...edit.content['m.new_content'], ...(relates && { 'm.relates_to': relates }) }, edited: true, redacted: false };
  }

  /**
   * @param {Entry} entry
   * @returns {Array<{ key: string, senders: string[] }>}
   */
  reactions(entry) {
    entry.changed.value;
    if (isRedacted(entry.event)) return [];
    /** @type {Map<string, Set<string>>} */
    const found = new Map();
    for (const event of this.#about.get(entry.event.event_id)?.values() ?? []) {
      const { rel_type, key } = relation(event) ?? {};
      if (rel_type !== 'm.annotation' || typeof key !== 'string' || !key) continue;
      found.set(key, (found.get(key) ?? new Set()).add(event.sender));
    }
    return [...found].map(([key, senders]) => ({ key, senders: [...senders] }));
  }

  /** The entry's neighbour before it, if it is here. @param {Entry} entry @returns {Entry | undefined} */
  previous(entry) {
    return this.entries[entry.order - this.entries[0].order - 1];
  }

  /** Lets old entries go, as far as they can be read again. @param {number} most */
  trim(most = MOST) {
    if (this.entries.length <= most * 2) return;
    const at = this.#border(most);
    for (const { event } of this.entries.splice(0, at)) {
      this.#byId.delete(event.event_id);
      this.#about.delete(event.event_id);
    }
    if (at) this.back = this.entries[0].before;
    this.#bump();
  }

  /** For the disk. */
  snapshot() {
    const kept = this.entries.slice(this.#border(KEPT));
    return {
      events: kept.map(({ event }) => event),
      before: kept.length === this.entries.length ? this.back : kept[0]?.before,
      pending: this.pending.map(({ event }) => event),
    };
  }

  /** @param {ReturnType<Timeline['snapshot']>} saved */
  restore({ events, before, pending }) {
    this.append(events, before, false);
    // What was being sent when the page closed is offered again, with the same transaction ID.
    for (const event of pending) this.echo(event, 'failed');
  }

  /** The last place at which a stretch begins and at least `least` entries follow. @param {number} least */
  #border(least) {
    for (let at = this.entries.length - least; at > 0; at--) if (this.entries[at]?.before) return at;
    return 0;
  }

  /** @param {Event} event */
  #enter(event) {
    const txn = event.unsigned?.transaction_id;
    const echo = this.pending.find((one) => one.event.event_id === event.event_id || (txn && one.key === txn));
    const entry = echo ?? new Entry(event);
    if (echo) {
      this.pending = this.pending.filter((one) => one !== echo);
      echo.event = event;
      echo.status = 'sent';
      echo.touch();
    }
    this.#byId.set(event.event_id, entry);
    this.#relate(event);
    return entry;
  }

  /** @param {Event} event */
  #relate(event) {
    if (event.type === 'm.room.redaction') {
      const target = redactionTarget(event);
      if (target) this.redact(target, event);
    }
    const target = relation(event)?.event_id;
    if (typeof target !== 'string' || isRedacted(event) || !isAbout(event)) return;
    const about = this.#about.get(target) ?? new Map();
    this.#about.set(target, about.set(event.event_id, event));
    this.#byId.get(target)?.touch();
  }

  /** @param {Event} event */
  #forgetRelation(event) {
    const target = relation(event)?.event_id;
    if (typeof target === 'string' && this.#about.get(target)?.delete(event.event_id)) this.#byId.get(target)?.touch();
  }

  /** @param {Event} event the original; spec: client-server-api#validity-of-replacement-events */
  #latestEdit(event) {
    const bundled = event.unsigned?.['m.relations']?.['m.replace'];
    const edits = [...(this.#about.get(event.event_id)?.values() ?? []), ...(isEvent(bundled) ? [bundled] : [])];
    return edits
      .filter((edit) => relation(edit)?.rel_type === 'm.replace' && edit.sender === event.sender && edit.type === event.type)
      .filter((edit) => typeof edit.content['m.new_content'] === 'object' && edit.content['m.new_content'] && event.state_key === undefined)
      .sort((a, b) => a.origin_server_ts - b.origin_server_ts || (a.event_id < b.event_id ? -1 : 1))
      .at(-1);
  }

  #reset() {
    this.entries = [];
    this.#byId.clear();
    this.#about.clear();
  }

  #bump() {
    this.complete.value = !this.back || this.entries[0]?.event.type === 'm.room.create';
    this.changed.update((count) => count + 1);
  }
}

/** @param {Event} event */
function isAbout(event) {
  const type = relation(event)?.rel_type;
  return type === 'm.replace' || (type === 'm.annotation' && event.type === 'm.reaction');
}
