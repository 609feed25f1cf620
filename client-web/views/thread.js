/**
 * A thread beside the conversation; and the list of a room's threads.
 */
import { h, keyed } from '../kit/dom.js';
import { link } from '../kit/router.js';
import { onStop, signal } from '../kit/signal.js';
import { brief, t } from '../i18n/index.js';
import { composer } from './composer.js';
import { words } from './errors.js';
import { icon } from './icons.js';
import { paneHead } from './page.js';
import { summary } from './message-body.js';
import { growing } from './lists.js';
import { hue, memberAvatar, unreadBadge } from './names.js';
import { filesInto } from './drop.js';
import { talkIn } from './talk.js';
import { iso, timelineView } from './timeline.js';

/** @typedef {import('./app.js').App} App */
/** @typedef {import('../matrix/room.js').Room} Room */

/** @param {App} app @param {Room} room @param {string} root its first event */
export function threadPane(app, room, root) {
  const warm = signal(room.warm);
  if (!room.warm) app.client.warm(room).then(() => (warm.value = true));
  return h.aside(
    { class: 'pane thread', 'aria-label': () => t('thread.title') },
    paneHead(() => t('thread.title'), room, 'threads', () => t('threads.title')),
    keyed(() => warm.value, (ready) => ready && conversation(app, room, root)),
  );
}

/** @param {App} app @param {Room} room @param {string} root */
function conversation(app, room, root) {
  const talk = talkIn(app, room, root);
  const place = room.maySend() ? composer(talk) : null;
  return filesInto(h.div({ class: 'thread-talk' }, timelineView(talk), place), place);
}

/** @param {App} app @param {Room} room */
export function threadsPane(app, room) {
  const found = signal(/** @type {import('../matrix/events.js').Event[] | null} */ (null));
  const next = signal(/** @type {string | undefined} */ (undefined));
  const trouble = signal('');
  let over = false;
  onStop(() => (over = true));
  const more = async () => {
    try {
      const page = await app.client.reading.threads(room, next.peek());
      if (over) return;
      found.value = [...(found.peek() ?? []), ...page.events];
      next.value = page.next;
    } catch (error) {
      if (!over) trouble.value = words(error);
    }
  };
  more();
  return h.aside(
    { class: 'pane', 'aria-label': () => t('threads.title') },
    paneHead(() => t('threads.title'), room),
    h.div({ class: 'pane-body' }, keyed(() => (trouble.value ? 'trouble' : found.value && (found.value.length ? 'found' : 'none')), (now) => {
      if (now === 'trouble') return h.p({ class: 'pane-note', role: 'alert' }, trouble.peek());
      if (!now) return h.div({ class: 'skeleton' }, [1, 2].map((n) => h.div({ class: `skeleton-message n${n}` }, h.i(), h.b(), h.b())));
      if (now === 'none') return h.div({ class: 'pane-empty' }, icon('thread'), h.p(() => t('threads.empty')));
      const row = (/** @type {import('../matrix/events.js').Event} */ event) => card(room, event, link('room', room.id, 'thread', event.event_id), threadFacts(room, event));
      return growing({ items: () => found.value ?? [], row, isMore: () => Boolean(next.value), more, look: 'found-list' });
    })),
  );
}

/** @param {Room} room @param {import('../matrix/events.js').Event} event */
function threadFacts(room, event) {
  const { count } = room.timeline.relations.thread(event);
  const unread = () => room.unreadThreads.value.get(event.event_id)?.count ?? 0;
  return count ? h.span({ class: 'found-facts' }, icon('thread'), t('thread.count', { count }), () => (unread() ? unreadBadge(unread()) : null)) : null;
}

/**
 * A message in a list beside the conversation, as a link to its place.
 * @param {Room} room @param {import('../matrix/events.js').Event} event @param {string} href @param {any} [facts]
 */
export function card(room, event, href, facts) {
  return h.li(
    h.a(
      { class: 'found', href },
      memberAvatar(room, event.sender, 'small'),
      h.span(
        { class: 'found-text' },
        h.span({ class: 'found-top' }, h.bdi({ class: `found-who ${hue(event.sender)}` }, () => room.nameOf(event.sender)), h.time({ class: 'message-time', datetime: iso(event.origin_server_ts) }, brief(event.origin_server_ts))),
        h.span({ class: 'found-said', dir: 'auto' }, summary(event)),
        facts,
      ),
    ),
  );
}
