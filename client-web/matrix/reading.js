/**
 * Reading beyond what the sync brings: further back, around an event, at a date, a thread,
 * pinned messages, what a message said before. Owns the requests; the timelines own the order.
 */
import { at, v1 } from './api.js';
import { isEvent } from './events.js';
import { Timeline } from './timeline.js';

const PAGE = 50;
/** Events on each side of one that is jumped to. */
const AROUND = 40;
const LAZY = JSON.stringify({ lazy_load_members: true });

/** @typedef {import('./room.js').Room} Room */
/** @typedef {import('./events.js').Event} Event */

export class Reading {
  /** @param {import('./api.js').Api} api */
  constructor(api) {
    this.api = api;
  }

  /** Reads older events. @param {Room} room @param {Timeline} [timeline] */
  async back(room, timeline = room.timeline) {
    if (timeline.loading.peek() || timeline.complete.peek() || !timeline.back || !room.warm) return;
    const from = timeline.back;
    await during(timeline, async () => {
      if (timeline.thread) return this.#threadBack(room, timeline, from);
      const page = await this.api.get(at`/rooms/${room.id}/messages`, { query: { dir: 'b', from, limit: PAGE, filter: LAZY } });
      // A gap in the sync may have begun the timeline anew meanwhile.
      if (timeline.back !== from) return;
      room.noteMembers(page.state ?? []);
      timeline.prepend(page.chunk ?? [], page.end === from ? undefined : page.end);
    });
  }

  /**
   * Reads a part of the past on towards the present.
   * @param {Room} room @param {Timeline} timeline
   * @returns {Promise<boolean>} whether it has reached what the room's own timeline has: that one took it over
   */
  async forward(room, timeline) {
    const from = timeline.forward;
    if (timeline.loading.peek() || !from) return false;
    return during(timeline, async () => {
      const page = await this.api.get(at`/rooms/${room.id}/messages`, { query: { dir: 'f', from, limit: PAGE, filter: LAZY } });
      if (timeline.forward !== from) return false;
      room.noteMembers(page.state ?? []);
      const chunk = page.chunk ?? [];
      timeline.extend(chunk, page.end === from || !chunk.length ? undefined : page.end, from);
      return room.timeline.takeOver(timeline);
    });
  }

  /**
   * A part of the past around an event, or the room's own timeline if the event is there.
   * @param {Room} room @param {string} eventId
   * @returns {Promise<Timeline>}
   */
  async around(room, eventId) {
    if (room.timeline.find(eventId)) return room.timeline;
    const page = await this.api.get(at`/rooms/${room.id}/context/${eventId}`, { query: { limit: AROUND * 2, filter: LAZY } });
    room.noteMembers((page.state ?? []).filter((/** @type {any} */ event) => event?.type === 'm.room.member'));
    const timeline = new Timeline();
    const events = [...(page.events_before ?? []).toReversed(), page.event, ...(page.events_after ?? [])];
    timeline.hear(room.timeline.relations.all());
    timeline.open(events, page.events_before?.length ? page.start : undefined, page.end);
    return room.timeline.takeOver(timeline) ? room.timeline : timeline;
  }

  /** The first event at or after a time. @param {Room} room @param {number} ts @returns {Promise<string>} */
  async atTime(room, ts) {
    const answer = await this.api.get(v1`/rooms/${room.id}/timestamp_to_event`, { query: { ts, dir: 'f' } });
    return answer.event_id;
  }

  /** One event, from memory or the server. @param {Room} room @param {string} id @returns {Promise<Event | undefined>} */
  async event(room, id) {
    for (const timeline of [room.timeline, ...room.others]) {
      const found = timeline.find(id)?.event;
      if (found) return found;
    }
    const event = await this.api.get(at`/rooms/${room.id}/event/${id}`);
    return isEvent(event) ? event : undefined;
  }

  /** Opens a thread; it hears what is said until it is closed. @param {Room} room @param {string} root @returns {Timeline} */
  thread(room, root) {
    const timeline = new Timeline({ thread: root, main: room.timeline });
    // Not complete until the first page says so.
    timeline.back = 'first';
    // What was said about its messages is known here already, in part.
    timeline.hear(room.timeline.relations.all());
    room.others.add(timeline);
    return timeline;
  }

  /** @param {Room} room @param {Timeline} timeline @param {string} from */
  async #threadBack(room, timeline, from) {
    const root = /** @type {string} */ (timeline.thread);
    const query = { dir: 'b', limit: PAGE, ...(from !== 'first' && { from }) };
    const page = await this.api.get(v1`/rooms/${room.id}/relations/${root}/m.thread`, { query });
    const more = page.next_batch === from ? undefined : page.next_batch;
    const first = more ? [] : [await this.event(room, root).catch(() => undefined)];
    if (timeline.back !== from) return;
    timeline.prepend([...(page.chunk ?? []), ...first], more);
  }

  /** What a message has said, oldest first; the original is the first. @param {Room} room @param {string} id @returns {Promise<Event[]>} */
  async history(room, id) {
    const { chunk } = await this.api.get(v1`/rooms/${room.id}/relations/${id}/m.replace`, { query: { dir: 'b', limit: 100 } });
    const original = await this.api.get(at`/rooms/${room.id}/event/${id}`);
    const edits = (chunk ?? []).filter((/** @type {any} */ event) => isEvent(event) && event.sender === original.sender);
    return [original, ...edits.sort((/** @type {Event} */ a, /** @type {Event} */ b) => a.origin_server_ts - b.origin_server_ts)];
  }

  /** The room's threads, latest first. @param {Room} room @param {string} [from] @returns {Promise<{ events: Event[], next?: string }>} */
  async threads(room, from) {
    const page = await this.api.get(v1`/rooms/${room.id}/threads`, { query: { limit: 30, ...(from && { from }) } });
    return { events: (page.chunk ?? []).filter(isEvent), next: page.next_batch };
  }
}

/** @template T @param {Timeline} timeline @param {() => Promise<T>} work */
async function during(timeline, work) {
  timeline.loading.value = true;
  try {
    return await work();
  } finally {
    timeline.loading.value = false;
  }
}
