/**
 * A stretch of events in order: a room's own timeline, a thread, or a part of the past, with
 * what was said about them since (`Relations`) and, in the room's own, what this person is
 * still sending. Owns order, de-duplication and the tokens from which to read on; asks
 * nobody and knows no requests.
 */
import { signal } from '../kit/signal.js';
import { Entry } from './entry.js';
import { isEvent, isRedacted, redacted, redactionTarget, threadOf } from './events.js';
import { Relations } from './relations.js';

/** @typedef {import('./events.js').Event} Event */
/** @typedef {import('./entry.js').Status} Status */
/** @typedef {import('./entry.js').Now} Now */

/** In memory, when nobody is reading further back. */
const MOST = 500;
/** In memory, of a room that nobody looks at. */
const UNSEEN = 150;
/** On disk, for the next start. */
const KEPT = 40;
/** How old an unsent message may be to be sent after a reload without asking. */
const RESUMED = 60 * 60_000;

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
  /** Where to read on towards the present; only a part of the past has it. @type {string | undefined} */
  forward = undefined;
  /** @type {Map<string, Entry>} */
  #byId = new Map();
  relations = new Relations();

  /** @param {{ thread?: string, main?: Timeline }} [of] a thread's first event, and the room's own timeline */
  constructor({ thread, main } = {}) {
    this.thread = thread;
    /** What is being sent is kept in one place. */
    this.main = main;
  }

  /** @param {string} id */
  find(id) {
    return this.#byId.get(id);
  }

  /** The entries that have a row, echoes last. */
  shown() {
    this.changed.value;
    if (this.main) return [...this.entries.filter((entry) => entry.isShown(this.thread)), ...this.main.pendingIn(this.thread)];
    return [...this.entries, ...this.pending].filter((entry) => entry.isShown(this.thread));
  }

  /** What is being sent to a thread. @param {string | undefined} thread */
  pendingIn(thread) {
    this.changed.value;
    return this.pending.filter(({ event }) => threadOf(event) === thread);
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
    const fresh = events.filter(isEvent).filter((event) => !this.#byId.has(event.event_id)).map((event) => this.#enter(event));
    this.#precede(fresh.reverse(), before);
  }

  /** @param {Entry[]} older @param {string | undefined} before */
  #precede(older, before) {
    this.back = before;
    let order = this.entries[0]?.order ?? 1;
    for (const entry of older.toReversed()) entry.order = --order;
    this.entries.unshift(...older);
    if (this.entries[0]) this.entries[0].before = before;
    this.#bump();
  }

  /**
   * Adds what reading on towards the present brought.
   * @param {any[]} events oldest first
   * @param {string | undefined} after absent at the present
   * @param {string} [from] where the reading began
   */
  extend(events, after, from) {
    this.append(events, from, false);
    this.forward = after;
    this.#bump();
  }

  /** Begins with a part of the past. @param {any[]} events oldest first @param {string | undefined} before @param {string | undefined} after */
  open(events, before, after) {
    this.append(events, before, false);
    this.back = before;
    this.forward = after;
    this.#bump();
  }

  /**
   * Takes a part of the past that reaches this timeline's first event, or what is here already.
   * @param {Timeline} past
   * @returns {boolean} whether it does
   */
  takeOver(past) {
    const first = this.entries[0];
    const meets = past.entries.findIndex(({ event }) => this.#byId.has(event.event_id));
    if (!first || meets < 0) return past.forward === undefined && this.#follow(past);
    const at = past.entries.findIndex(({ event }) => event.event_id === first.event.event_id);
    // What is on screen is of the past: its entries take the place of those here.
    for (const entry of past.entries) this.#adopt(entry);
    if (at > 0) this.#precede(past.entries.slice(0, at), past.back);
    for (const event of past.relations.all()) this.#relate(event);
    return true;
  }

  /** @param {Entry} entry */
  #adopt(entry) {
    const mine = this.#byId.get(entry.event.event_id);
    if (mine) {
      Object.assign(entry, { event: mine.event, before: mine.before, order: mine.order });
      this.entries[mine.order - this.entries[0].order] = entry;
    }
    this.#byId.set(entry.event.event_id, entry);
  }

  /** The past has reached the present without meeting what is here: it is what is here. @param {Timeline} past */
  #follow(past) {
    if (this.entries.length) return false;
    this.append(past.entries.map(({ event }) => event), past.back, false);
    return true;
  }

  /** Hears what was said in the room just now, if it is about an event here. @param {any[]} events */
  hear(events) {
    for (const event of events.filter(isEvent)) this.#relate(event);
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
  mark(entry, status, passing = false) {
    entry.status = status;
    entry.passing = passing;
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
      this.#touch(this.relations.forget(entry.event));
      entry.event = redacted(entry.event, because);
      entry.touch();
      this.#bump();
    } else this.#touch(this.relations.forgetId(id));
  }

  /** An event as it reads now, with the content of its latest edit. @param {Event} event @returns {Event} */
  reads(event) {
    const { edited, content } = saysNow(event, this.relations.latestEdit(event));
    return edited ? { ...event, content } : event;
  }

  /**
   * What an entry's event says now: its content or that of its latest edit.
   * @param {Entry} entry
   * @returns {Now} the same object until it is something else
   */
  current(entry) {
    entry.changed.value;
    const { event } = entry;
    const edit = isRedacted(event) ? undefined : this.relations.latestEdit(event);
    if (entry.said?.event === event && entry.said.edit === edit) return entry.said.now;
    const now = saysNow(event, edit);
    // An echo that became the event says the same: what is on screen can stay.
    const same = entry.said && JSON.stringify(entry.said.now) === JSON.stringify(now) ? entry.said.now : now;
    entry.said = { event, edit, now: same };
    return same;
  }

  /** @param {Entry} entry */
  reactions(entry) {
    entry.changed.value;
    return isRedacted(entry.event) ? [] : this.relations.reactions(entry.event.event_id);
  }

  /** How many replies an entry's thread has, and the latest. @param {Entry} entry */
  threadSummary(entry) {
    entry.changed.value;
    return this.relations.thread(entry.event);
  }

  /**
   * Says something about an event before the server has it: an edit, a reaction.
   * @param {Event} event with `unsigned.transaction_id`
   * @returns {() => void} takes it back
   */
  say(event) {
    this.#relate(event);
    return () => this.#touch(this.relations.forget(event));
  }

  /** The entry's neighbour before it, if it is here. @param {Entry} entry @returns {Entry | undefined} */
  previous(entry) {
    return this.entries[entry.order - this.entries[0].order - 1];
  }

  /** Says that it is on screen, where the view knows when to let go; returns what ends that. */
  watch() {
    this.#watchers++;
    return () => {
      this.#watchers--;
      this.trim();
    };
  }
  #watchers = 0;

  /** Lets go of what nobody looks at. */
  rest() {
    if (!this.#watchers) this.trim(UNSEEN);
  }

  /** Lets old entries go, as far as they can be read again. @param {number} most */
  trim(most = MOST) {
    if (this.entries.length <= most * 2) return;
    const at = this.#border(most);
    for (const { event } of this.entries.splice(0, at)) {
      this.#byId.delete(event.event_id);
      this.relations.drop(event.event_id);
    }
    if (at) this.back = this.entries[0].before;
    // What was said about events that are no longer here comes again with them.
    this.relations.keep((id) => this.#byId.has(id));
    this.#bump();
  }

  /**
   * Whoever reads far back keeps in memory what is near: the older part becomes a stretch of its own, from which
   * one reads on towards the present.
   * @returns {Timeline | undefined} undefined as long as there is little, or where nothing can be read again
   */
  split() {
    const at = this.entries.length > MOST * 2 && !this.thread ? this.entries.findIndex(({ before }, index) => index >= MOST && before) : -1;
    if (at < 0) return undefined;
    const past = new Timeline();
    past.entries = this.entries.slice(0, at);
    for (const entry of past.entries) past.#byId.set(entry.event.event_id, entry);
    for (const event of this.relations.all()) past.relations.add(event);
    past.relations.keep((id) => past.#byId.has(id));
    past.back = this.back;
    past.forward = this.entries[at].before;
    past.#bump();
    this.trim(UNSEEN);
    return past;
  }

  /** For the disk. */
  snapshot() {
    const kept = this.entries.slice(this.#border(KEPT));
    return {
      events: kept.map(({ event }) => event),
      before: kept.length === this.entries.length ? this.back : kept[0]?.before,
      // What was refused for good stays, to be looked at again; so does what was under way.
      pending: this.pending.map(({ event, status, passing }) => ({ event, passing: passing || status === 'sending' })),
    };
  }

  /** @param {ReturnType<Timeline['snapshot']>} saved */
  restore({ events, before, pending }) {
    this.append(events, before, false);
    // What was being sent when the page closed is tried again, with the same transaction ID, if
    // that was lately; else it is offered.
    for (const { event, passing } of pending) {
      if (this.pending.some(({ key }) => key === event.unsigned?.transaction_id)) continue;
      this.echo(event, 'failed').passing = passing && Date.now() - event.origin_server_ts < RESUMED;
    }
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
    // In a thread, the echo was the room's, and so is its key.
    const entry = echo ?? new Entry(event, this.main?.find(event.event_id)?.key);
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
    if (!isRedacted(event)) this.#touch(this.relations.add(event));
  }

  /** @param {string | undefined} id */
  #touch(id) {
    if (id) this.#byId.get(id)?.touch();
  }

  #reset() {
    this.entries = [];
    this.#byId.clear();
    this.relations.clear();
  }

  #bump() {
    this.complete.value = !this.back || this.entries[0]?.event.type === 'm.room.create';
    this.changed.update((count) => count + 1);
  }
}

/** @param {Event} event @param {Event | undefined} edit @returns {Now} */
function saysNow(event, edit) {
  if (isRedacted(event)) return { content: {}, edited: false, redacted: true };
  if (!edit) return { content: event.content, edited: false, redacted: false };
  // spec: an edit can't change what the message replies to
  const relates = event.content['m.relates_to'];
  return { content: { ...edit.content['m.new_content'], ...(relates && { 'm.relates_to': relates }) }, edited: true, redacted: false };
}
