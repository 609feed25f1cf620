/**
 * The conversation: rows in a window that grows upwards, kept at its end while one is there.
 * Owns when older messages are wanted, what in sight counts as read, and moving from message
 * to message by keyboard.
 */
import { h } from '../kit/dom.js';
import { link } from '../kit/router.js';
import { computed, effect, onStop, signal } from '../kit/signal.js';
import { windowed } from '../kit/window.js';
import { day, exact, t, time } from '../i18n/index.js';
import { predecessor } from '../matrix/moves.js';
import { words } from './errors.js';
import { icon } from './icons.js';
import { messageRow } from './message.js';
import { messageTools } from './message-tools.js';
import { roomAvatar, roomName } from './names.js';
import { noticeText } from './notice.js';
import { rows } from './rows.js';

/** @typedef {import('./rows.js').Row} Row */
/** @typedef {import('./talk.js').Talk} Talk */
/** @typedef {import('../matrix/room.js').Room} Room */

/** Whether anybody can see this page. */
const inSight = signal(globalThis.document?.visibilityState === 'visible');
globalThis.document?.addEventListener('visibilitychange', () => {
  inSight.value = document.visibilityState === 'visible';
});

/** @param {Talk} talk */
export function timelineView(talk) {
  const { client, room, thread, timeline, present } = talk;
  const trouble = signal('');
  const unread = thread ? 0 : room.unreadMain.peek().count;
  const newAfter = unread ? room.readUpTo() : undefined;
  /** Whether the line before what is new has been in sight. */
  const found = signal(!newAfter);
  const all = computed(() => rows(timeline.value.shown(), { complete: timeline.value.complete.value, newAfter, me: room.me }));

  const more = async (/** @type {() => Promise<unknown>} */ read) => {
    if (trouble.peek()) return;
    try {
      await read();
    } catch (error) {
      trouble.value = words(error);
    }
  };
  const again = () => {
    trouble.value = '';
    view.look();
  };
  const view = windowed({
    items: () => all.value,
    key: (row) => row.key,
    render: (row) => render(talk, row, { trouble, again, found }),
    onTop: () =>
      more(async () => {
        await client.reading.back(room, timeline.peek());
        const past = view.atEnd.peek() ? undefined : timeline.peek().split();
        if (past) talk.change(past);
      }),
    onBottom: () =>
      more(async () => {
        if (await client.reading.forward(room, timeline.peek())) talk.change(room.timeline);
        else if (timeline.peek() !== present) timeline.peek().trim();
      }),
    open: () => timeline.peek() !== present,
  });
  talk.shownBy(view);
  const tools = messageTools(talk, view.el);
  view.el.setAttribute('role', 'log');
  effect(() => view.el.setAttribute('aria-label', thread ? t('thread.label') : t('timeline.label')));
  effect(() => {
    const loading = timeline.value.loading.value;
    view.el.setAttribute('aria-busy', String(loading));
    // One page may not have been enough to fill the view.
    if (!loading) requestAnimationFrame(view.look);
  });
  effect(() => {
    present.changed.value;
    room.unread.value;
    if (!inSight.value || !view.atEnd.value || timeline.value !== present) return;
    if (thread) client.readThread(room, thread, present);
    else client.read(room);
  });
  effect(() => {
    present.changed.value;
    if ((view.atEnd.value || timeline.value !== present) && !thread) present.trim();
  });
  onStop(present.watch());
  onStop(tools.stop);
  const away = () => !view.atEnd.value || timeline.value !== present;
  return h.div(
    { class: 'timeline' },
    view.el,
    h.button({ type: 'button', class: 'first-unread', hidden: () => found.value, onclick: () => ((found.value = true), talk.showUnread(newAfter ?? '')) }, icon('up'), h.span(() => t('timeline.firstUnread', { count: unread }))),
    h.button({ type: 'button', class: 'jump', hidden: () => !away(), 'aria-label': () => t('timeline.jump'), title: () => t('timeline.jump'), onclick: () => talk.newest() }, icon('down')),
  );
}

/**
 * @param {Talk} talk
 * @param {Row} row
 * @param {{ trouble: import('../kit/signal.js').Signal<string>, again: () => void, found: import('../kit/signal.js').Signal<boolean> }} state
 */
function render(talk, row, { trouble, again, found }) {
  switch (row.kind) {
    case 'top': return row.complete ? start(talk) : h.li({ class: 'top-more' }, () => (trouble.value ? failed(trouble.value, again) : skeleton()));
    case 'day': return h.li({ class: 'day' }, h.time({ datetime: iso(row.ts) }, () => day(row.ts)));
    case 'new': return newLine(found);
    case 'notice': return noticeRow(talk.room, row.entry);
    case 'message': return messageRow(talk, row.entry, row.head);
  }
}

/** A server may let a time through that is none. @param {number} ts */
export function iso(ts) {
  const date = new Date(ts);
  return Number.isNaN(date.getTime()) ? undefined : date.toISOString();
}

/** @param {import('../kit/signal.js').Signal<boolean>} found */
function newLine(found) {
  const line = h.li({ class: 'new-line' }, h.span(() => t('timeline.new')));
  const watch = new IntersectionObserver(([{ isIntersecting }]) => isIntersecting && (found.value = true));
  watch.observe(line);
  onStop(() => watch.disconnect());
  return line;
}

/** @param {Room} room @param {import('../matrix/entry.js').Entry} entry */
function noticeRow(room, entry) {
  const { origin_server_ts: ts } = entry.event;
  return h.li(
    { class: 'notice', tabindex: '-1', title: () => exact(ts) },
    h.bdi(() => (entry.changed.value, noticeText(room, entry.event))),
    ' ',
    h.time({ class: 'notice-time', datetime: iso(ts) }, () => time(ts)),
  );
}

/** @param {Talk} talk */
function start({ room, thread }) {
  if (thread) return h.li({ class: 'thread-start' });
  return h.li(
    { class: 'room-start' },
    roomAvatar(room, 'large'),
    h.h2({ dir: 'auto' }, () => t('timeline.start', { room: roomName(room) })),
    h.p({ dir: 'auto' }, () => topic(room)),
    () => (predecessor(room) ? h.a({ class: 'button small', href: link('room', predecessor(room)) }, t('room.earlier')) : null),
  );
}

/** @param {Room} room */
function topic(room) {
  const text = room.stateOf('m.room.topic')?.topic;
  return typeof text === 'string' ? text.slice(0, 1000) : '';
}

/** @param {string} text @param {() => void} again */
function failed(text, again) {
  return h.div({ class: 'top-failed', role: 'alert' }, h.p(t('timeline.olderFailed'), ' ', text), h.button({ type: 'button', class: 'button', onclick: again }, t('action.retry')));
}

function skeleton() {
  return h.div({ class: 'skeleton', role: 'img', 'aria-label': t('timeline.older') }, [1, 2, 3].map((n) => h.div({ class: `skeleton-message n${n}` }, h.i(), h.b(), h.b())));
}
