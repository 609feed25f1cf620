/**
 * The conversation: rows in a window that grows upwards, kept at its end while one is there.
 * Owns when older messages are wanted and when what is in sight counts as read.
 */
import { h } from '../kit/dom.js';
import { computed, effect, onStop, signal } from '../kit/signal.js';
import { windowed } from '../kit/window.js';
import { day, exact, t, time } from '../i18n/index.js';
import { words } from './errors.js';
import { icon } from './icons.js';
import { messageRow } from './message.js';
import { roomAvatar, roomName } from './names.js';
import { noticeText } from './notice.js';
import { rows } from './rows.js';

/** @typedef {import('./rows.js').Row} Row */
/** @typedef {import('../matrix/room.js').Room} Room */
/** @typedef {import('../matrix/client.js').Client} Client */

/** Whether anybody can see this page. */
const inSight = signal(globalThis.document?.visibilityState === 'visible');
globalThis.document?.addEventListener('visibilitychange', () => {
  inSight.value = document.visibilityState === 'visible';
});

/** @param {Client} client @param {Room} room */
export function timelineView(client, room) {
  const { timeline } = room;
  const trouble = signal('');
  const newAfter = room.unread.peek().count ? room.receipts.get(room.me)?.eventId : undefined;
  const all = computed(() => rows(timeline.shown(), { complete: timeline.complete.value, newAfter, me: room.me }));

  const older = async () => {
    if (trouble.peek()) return;
    try {
      await client.readBack(room);
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
    render: (row) => render(client, room, row, { trouble, again }),
    onTop: older,
  });
  view.el.setAttribute('role', 'log');
  effect(() => view.el.setAttribute('aria-label', t('timeline.label')));
  effect(() => {
    view.el.setAttribute('aria-busy', String(timeline.loading.value));
    // One page may not have been enough to fill the view.
    if (!timeline.loading.value) requestAnimationFrame(view.look);
  });
  effect(() => {
    timeline.changed.value;
    room.unread.value;
    if (inSight.value && view.atEnd.value) client.read(room);
  });
  effect(() => {
    timeline.changed.value;
    if (view.atEnd.value) timeline.trim();
  });
  onStop(() => timeline.trim());
  return h.div(
    { class: 'timeline' },
    view.el,
    h.button(
      { type: 'button', class: 'jump', hidden: () => view.atEnd.value, 'aria-label': () => t('timeline.jump'), title: () => t('timeline.jump'), onclick: () => view.jumpToEnd() },
      icon('down'),
    ),
  );
}

/**
 * @param {Client} client
 * @param {Room} room
 * @param {Row} row
 * @param {{ trouble: import('../kit/signal.js').Signal<string>, again: () => void }} older
 */
function render(client, room, row, { trouble, again }) {
  switch (row.kind) {
    case 'top': return row.complete ? start(room) : h.li({ class: 'top-more' }, () => (trouble.value ? failed(trouble.value, again) : skeleton()));
    case 'day': return h.li({ class: 'day' }, h.time({ datetime: new Date(row.ts).toISOString() }, () => day(row.ts)));
    case 'new': return h.li({ class: 'new-line' }, h.span(() => t('timeline.new')));
    case 'notice': return noticeRow(room, row.entry);
    case 'message': return messageRow(client, room, row.entry, row.head);
  }
}

/** @param {Room} room @param {import('../matrix/timeline.js').Entry} entry */
function noticeRow(room, entry) {
  const { origin_server_ts: ts } = entry.event;
  return h.li(
    { class: 'notice', title: () => exact(ts) },
    h.bdi(() => (entry.changed.value, noticeText(room, entry.event))),
    ' ',
    h.time({ class: 'notice-time', datetime: new Date(ts).toISOString() }, () => time(ts)),
  );
}

/** @param {Room} room */
function start(room) {
  return h.li(
    { class: 'room-start' },
    roomAvatar(room, 'large'),
    h.h2({ dir: 'auto' }, () => t('timeline.start', { room: roomName(room) })),
    h.p({ dir: 'auto' }, () => topic(room)),
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
