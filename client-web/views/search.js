/**
 * Searching messages: a page for all rooms, a pane for one. Owns asking while one types, the
 * results and the way from each to its place.
 */
import { h, keyed } from '../kit/dom.js';
import { link } from '../kit/router.js';
import { onStop, signal } from '../kit/signal.js';
import { brief, t } from '../i18n/index.js';
import { said } from '../matrix/events.js';
import { localpart } from '../matrix/ids.js';
import { marked } from '../matrix/search.js';
import { words } from './errors.js';
import { icon } from './icons.js';
import { growing } from './lists.js';
import { avatar, hue, memberAvatar, roomName } from './names.js';
import { page, paneHead } from './page.js';
import { iso } from './timeline.js';

/** Typing may go on for this long before it is asked. */
const PAUSE = 300;

/** @typedef {import('./app.js').App} App */
/** @typedef {import('../matrix/room.js').Room} Room */

/** @param {App} app */
export function searchPage(app) {
  return page({ title: () => t('search.title') }, searching(app));
}

/** @param {App} app @param {Room} room */
export function searchPane(app, room) {
  return h.aside({ class: 'pane', 'aria-label': () => t('search.inRoom') }, paneHead(() => t('search.inRoom'), room), h.div({ class: 'pane-body' }, searching(app, room)));
}

/** @param {App} app @param {Room} [room] */
function searching({ client }, room) {
  const typed = signal('');
  const found = signal(/** @type {import('../matrix/search.js').Found | null} */ (null));
  const busy = signal(false);
  const trouble = signal('');
  /** @type {any} */
  let timer;
  let asking = new AbortController();
  onStop(() => {
    clearTimeout(timer);
    asking.abort();
  });

  const ask = async (/** @type {string | undefined} */ next = undefined) => {
    asking.abort();
    const mine = (asking = new AbortController());
    const text = typed.peek().trim();
    trouble.value = '';
    if (!next) found.value = null;
    busy.value = Boolean(text);
    if (!text) return;
    try {
      const answer = await client.searching.find(text, { roomId: room?.id, next, signal: mine.signal });
      const before = next ? (found.peek()?.results ?? []) : [];
      if (!mine.signal.aborted) found.value = { ...answer, results: [...before, ...answer.results] };
    } catch (error) {
      if (!mine.signal.aborted) trouble.value = words(error);
    }
    if (!mine.signal.aborted) busy.value = false;
  };
  const oninput = (/** @type {any} */ event) => {
    typed.value = event.target.value;
    clearTimeout(timer);
    timer = setTimeout(ask, PAUSE);
  };
  const onsubmit = (/** @type {Event} */ event) => {
    event.preventDefault();
    clearTimeout(timer);
    ask();
  };
  const state = () => {
    if (trouble.value) return 'trouble';
    if (!found.value) return busy.value ? 'waiting' : room ? 'search.hintRoom' : 'search.hint';
    return found.value.results.length ? 'found' : 'search.none';
  };
  return [
    h.form(
      { class: 'search-form', role: 'search', onsubmit },
      h.label({ class: 'search-box' }, icon('search'), h.input({ type: 'search', name: 'text', autofocus: true, maxlength: 500, 'aria-label': () => t('search.label'), placeholder: () => t('search.label'), oninput, ref: (/** @type {HTMLElement} */ el) => queueMicrotask(() => el.focus()) })),
    ),
    h.p({ class: 'for-ear', role: 'status' }, () => (found.value ? t('search.count', { count: found.value.count }) : '')),
    keyed(state, (now) => {
      if (now === 'trouble') return h.p({ class: 'pane-note', role: 'alert' }, trouble.peek());
      if (now === 'waiting') return h.div({ class: 'skeleton' }, [1, 2, 3].map((n) => h.div({ class: `skeleton-message n${n}` }, h.i(), h.b(), h.b())));
      if (now !== 'found') return h.div({ class: 'pane-empty' }, icon('search'), h.p(() => t(now)));
      const marks = found.peek()?.words.length ? (found.peek()?.words ?? []) : typed.peek().trim().split(/\s+/);
      return [
        h.p({ class: 'search-count' }, () => t('search.count', { count: found.value?.count ?? 0 })),
        growing({ items: () => found.value?.results ?? [], row: (one) => result(client, one, marks, !room), isMore: () => Boolean(found.value?.next), more: () => ask(found.peek()?.next), busy: () => busy.value, look: 'found-list' }),
      ];
    }),
  ];
}

/**
 * @param {import('../matrix/client.js').Client} client
 * @param {{ event: import('../matrix/events.js').Event, roomId: string }} found
 * @param {string[]} terms
 * @param {boolean} withRoom
 */
function result(client, { event, roomId }, terms, withRoom) {
  const room = client.store.room(roomId);
  const { body, file } = said(event.type, event.content);
  const name = () => room?.nameOf(event.sender) ?? localpart(event.sender);
  return h.li(
    h.a(
      { class: 'found', href: link('room', roomId, event.event_id) },
      room ? memberAvatar(room, event.sender, 'small') : avatar(event.sender, name, 'small'),
      h.span(
        { class: 'found-text' },
        h.span({ class: 'found-top' }, h.bdi({ class: `found-who ${hue(event.sender)}` }, name), h.time({ class: 'message-time', datetime: iso(event.origin_server_ts) }, brief(event.origin_server_ts))),
        withRoom && room && h.bdi({ class: 'found-where' }, () => roomName(room)),
        h.span({ class: 'found-said', dir: 'auto' }, marked(body || file?.name || '', terms).map(({ text, hit }) => (hit ? h.mark(text) : text))),
      ),
    ),
  );
}
