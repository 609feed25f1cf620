/**
 * One conversation on screen: a room's or a thread's. Owns which stretch of it is shown (the
 * present, or a part of the past), what is being answered or edited, and going to a message.
 */
import { computed, onStop, signal } from '../kit/signal.js';
import { isMessage, threadOf } from '../matrix/events.js';
import { attempt } from './errors.js';

/** @typedef {import('../matrix/timeline.js').Timeline} Timeline */
/** @typedef {import('../matrix/entry.js').Entry} Entry */
/** @typedef {import('./rows.js').Row} Row */
/** @typedef {{ show(isIt: (row: Row) => boolean): void, jumpToEnd(): void, stay(): void }} View */
/** @typedef {ReturnType<typeof talkIn>} Talk */

/**
 * @param {import('./app.js').App} app
 * @param {import('../matrix/room.js').Room} room
 * @param {string} [thread] its first event
 */
export function talkIn(app, room, thread) {
  const { client } = app;
  const present = thread ? client.reading.thread(room, thread) : room.timeline;
  const timeline = signal(present);
  /** @type {View | undefined} */
  let view;

  /** Messages that are only quoted here. @type {Map<string, import('../kit/signal.js').Signal<import('../matrix/events.js').Event | undefined>>} */
  const asked = new Map();

  /** @param {Timeline} next */
  const change = (next) => {
    const last = timeline.peek();
    if (last === next) return;
    if (last !== present) room.others.delete(last);
    if (next !== room.timeline) room.others.add(next);
    timeline.value = next;
  };
  onStop(() => {
    room.others.delete(present);
    room.others.delete(timeline.peek());
  });

  return {
    app,
    client,
    room,
    thread,
    present,
    timeline,
    /** The message that is being answered. */
    replyTo: signal(/** @type {Entry | null} */ (null)),
    /** The message that is being edited. */
    editing: signal(/** @type {Entry | null} */ (null)),
    /** Very long messages that are shown whole, by their entries' keys. @type {Set<string>} */
    unfolded: new Set(),
    /** The latest message of this person that has arrived. */
    lastOwn: computed(() => present.shown().findLast((entry) => entry.event.sender === room.me && entry.status === 'sent' && isMessage(entry.event))),
    /** Set by the view of the rows. @param {View} made */
    shownBy(made) {
      view = made;
    },
    change,
    /** An event that isn't in sight, once it has come. @param {string} id */
    ask(id) {
      const known = asked.get(id);
      if (known) return known;
      const one = signal(/** @type {import('../matrix/events.js').Event | undefined} */ (undefined));
      asked.set(id, one);
      client.reading.event(room, id).then((event) => (one.value = event), () => {});
      return one;
    },
    /** What is in sight stays there, whatever grows below it. */
    stay() {
      view?.stay();
    },
    /** Back to the newest message. */
    newest() {
      change(present);
      view?.jumpToEnd();
    },
    /** Goes to a message, wherever it is. @param {string} id */
    async show(id) {
      const here = timeline.peek().find(id);
      if (here?.isShown(thread)) return view?.show((row) => 'entry' in row && row.entry === here);
      if (thread) return app.go('room', room.id, id);
      const found = await attempt(client.reading.around(room, id));
      if (!found) return;
      const event = found.find(id)?.event;
      const root = event && threadOf(event);
      if (root) return app.go('room', room.id, 'thread', root);
      change(found);
      view?.show((row) => 'entry' in row && row.entry.event.event_id === id);
    },
    /** Goes to where the unread begin. @param {string} readUpTo */
    async showUnread(readUpTo) {
      const isIt = (/** @type {Row} */ row) => row.kind === 'new';
      if (timeline.peek().find(readUpTo)) return view?.show(isIt);
      const found = await attempt(client.reading.around(room, readUpTo));
      if (!found) return;
      change(found);
      view?.show(isIt);
    },
  };
}
