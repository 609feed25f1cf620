/**
 * One message's row: who, when, what, and what became of it. Owns how these stand together;
 * each part has its own file.
 */
import { h, keyed } from '../kit/dom.js';
import { link } from '../kit/router.js';
import { onStop } from '../kit/signal.js';
import { brief, exact, narrowTime, t, time } from '../i18n/index.js';
import { isRedacted, oneLine } from '../matrix/events.js';
import { icon } from './icons.js';
import { messageBody } from './message-body.js';
import { hue, memberAvatar, unreadBadge } from './names.js';
import { reactions } from './reactions.js';
import { readers } from './readers.js';
import { iso } from './timeline.js';

/** @typedef {import('../matrix/entry.js').Entry} Entry */
/** @typedef {import('./talk.js').Talk} Talk */

/** Which entry a row shows, for what acts on rows. No weak one: those make the collector's work longer than a frame. @type {Map<Element, Entry>} */
const shownIn = new Map();

/** @param {Element | null} row */
export function entryOf(row) {
  return row ? shownIn.get(row) : undefined;
}

/**
 * @param {Talk} talk
 * @param {Entry} entry
 * @param {boolean} head whether it begins a group
 */
export function messageRow(talk, entry, head) {
  const { room } = talk;
  const { sender, origin_server_ts: ts } = entry.event;
  const status = () => (entry.changed.value, entry.status);
  const stamp = (/** @type {string} */ text) => h.time({ class: 'message-time', datetime: iso(ts), title: exact(ts) }, text);
  const chosen = () => (talk.replyTo.value === entry || talk.editing.value === entry ? 'chosen' : '');
  const row = h.li(
    { class: () => `message ${head ? 'head' : ''} ${status()} ${sender === room.me ? 'own' : ''} ${chosen()}`, tabindex: '-1', 'data-event-id': () => (entry.changed.value, entry.event.event_id) },
    head ? memberAvatar(room, sender) : h.span({ class: 'message-gutter' }, () => stamp(narrowTime(ts))),
    h.div(
      { class: 'message-main' },
      // For the ear, each message says whose it is.
      head
        ? h.div({ class: 'message-head' }, h.a({ class: `message-sender ${hue(sender)}`, href: link('user', sender), title: sender }, h.bdi(() => room.nameOf(sender))), () => stamp(time(ts)))
        : h.span({ class: 'for-ear' }, () => room.nameOf(sender)),
      keyed(() => talk.timeline.peek().current(entry), (now) => messageBody(talk, entry, now)),
      () => reactions(talk, entry),
      talk.thread ? null : threadLine(talk, entry),
      () => (status() === 'failed' ? failed(talk, entry) : null),
    ),
    h.div(
      { class: 'message-side' },
      () => (status() === 'sending' ? h.span({ class: 'message-sending', role: 'img', 'aria-label': t('message.sending'), title: t('message.sending') }, icon('clock')) : null),
      () => (isPinned(talk, entry) ? h.span({ class: 'message-pinned', role: 'img', 'aria-label': t('message.pinned'), title: t('message.pinned') }, icon('pin')) : null),
      talk.thread ? null : readers(talk, entry),
    ),
  );
  shownIn.set(row, entry);
  onStop(() => shownIn.delete(row));
  return row;
}

/** @param {Talk} talk @param {Entry} entry */
function isPinned({ room }, entry) {
  entry.changed.value;
  return !isRedacted(entry.event) && room.pinned().includes(entry.event.event_id);
}

/** The thread that begins with this message. @param {Talk} talk @param {Entry} entry */
function threadLine({ room, timeline }, entry) {
  const summary = () => timeline.peek().threadSummary(entry);
  return () => {
    const { count, latest } = summary();
    if (!count) return null;
    const unread = room.unreadThreads.value.get(entry.event.event_id)?.count ?? 0;
    return h.a(
      { class: `thread-line ${unread ? 'unread' : ''}`, href: link('room', room.id, 'thread', entry.event.event_id) },
      icon('thread'),
      h.span({ class: 'thread-count' }, t('thread.count', { count })),
      unread > 0 && unreadBadge(unread),
      latest && h.span({ class: 'thread-latest', dir: 'auto' }, h.bdi(room.nameOf(latest.sender)), `: ${oneLine(latest).slice(0, 80)}`),
      latest && h.time({ class: 'message-time', datetime: iso(latest.origin_server_ts) }, brief(latest.origin_server_ts)),
    );
  };
}

/** @param {Talk} talk @param {Entry} entry */
function failed({ client, room }, entry) {
  return h.div(
    { class: 'message-failed', role: 'alert' },
    icon('alert'),
    h.span(entry.passing ? t('message.waiting') : t('message.failed')),
    h.button({ type: 'button', class: 'link', onclick: () => client.sender.retry(room, entry) }, t('action.retry')),
    h.button({ type: 'button', class: 'link', onclick: () => client.sender.discard(room, entry) }, t('action.discard')),
  );
}

