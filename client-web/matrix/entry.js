/**
 * An event's place in a timeline, with what has become of it. Owns nothing but that; timelines
 * put entries in order, and rows on screen hold on to them.
 */
import { signal } from '../kit/signal.js';
import { isShown } from './events.js';

/** @typedef {import('./events.js').Event} Event */
/** @typedef {'sent' | 'sending' | 'failed'} Status */
/** @typedef {{ content: Record<string, any>, edited: boolean, redacted: boolean }} Now */

/** It stays the same when an echo becomes the event. */
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
    /** Whether sending failed for a reason that may pass by itself. */
    this.passing = false;
    /** Counts what changed about it: edits, reactions, status. */
    this.changed = signal(0);
  }
  /** What it says, as long as that is so. @type {{ event: Event, edit: Event | undefined, now: Now } | undefined} */
  said = undefined;
  /** What `isShown` said, and of which event. @type {{ event: Event, yes: boolean } | undefined} */
  #shown = undefined;

  /** Long timelines ask this often. @param {string | undefined} thread */
  isShown(thread) {
    if (this.#shown?.event !== this.event) this.#shown = { event: this.event, yes: isShown(this.event, thread) };
    return this.#shown.yes;
  }

  /** Which day it is of: the same number for the same day, where this person is. */
  day() {
    const ts = this.event.origin_server_ts;
    if (this.#day?.ts !== ts) {
      const date = new Date(ts);
      this.#day = { ts, day: date.getFullYear() * 400 + date.getMonth() * 32 + date.getDate() };
    }
    return this.#day.day;
  }
  /** Making a date of a time is dear, and long rooms ask for thousands. @type {{ ts: number, day: number } | undefined} */
  #day = undefined;

  touch() {
    this.changed.update((count) => count + 1);
  }
}
