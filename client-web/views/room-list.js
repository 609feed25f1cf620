/**
 * The list of rooms, in sections that can be folded, with what is unread. Owns the filter
 * (Ctrl+K) and which sections are folded; a long list has only its visible part in the document.
 */
import { h, keyed } from '../kit/dom.js';
import { later } from '../kit/later.js';
import { longList } from '../kit/list.js';
import { menu, menuItem } from '../kit/menu.js';
import { link } from '../kit/router.js';
import { computed, onStop, signal } from '../kit/signal.js';
import { number, t } from '../i18n/index.js';
import { sections } from '../matrix/sections.js';
import { accountMenu } from './account-menu.js';
import { joinDialog } from './dialogs.js';
import { icon, mark, named } from './icons.js';
import { roomName } from './names.js';
import { roomRow } from './room-row.js';

/** Pixels; the same as `--row` and `--section-row` in the style sheet. */
const ROW = 60;
const SECTION_ROW = 36;
const FOLDED = 'hearth.folded';

/** @typedef {import('../matrix/room.js').Room} Room */
/** @typedef {import('./app.js').App} App */
/** @typedef {import('../matrix/sections.js').SectionName} SectionName */
/** @typedef {{ section: SectionName, count: number, unread: number }} Heading */
/** @typedef {Heading | { room: Room }} Line */

const tellings = later(async () => (await import('./notifier.js')).notifier);

/** @param {App} app */
export function roomList(app) {
  const { store } = app.client;
  const typed = signal('');
  const folded = signal(new Set(localStorage.getItem(FOLDED)?.split(' ')));
  const fold = (/** @type {SectionName} */ name) => {
    folded.update((names) => void (names.delete(name) || names.add(name)));
    localStorage.setItem(FOLDED, [...folded.peek()].join(' '));
  };
  const lines = computed(() => (typed.value.trim() ? matching(store.rooms.value, typed.value) : sectioned(store.rooms.value, store.direct.value, folded.value)));
  /** The counts of a section as they are now: its row stays, and so does the focus in it. @type {(line: Heading) => Heading} */
  const figures = (line) => /** @type {Heading} */ (lines.value.find((one) => 'section' in one && one.section === line.section) ?? line);
  const state = computed(() => {
    if (lines.value.length) return 'rooms';
    if (typed.value) return 'noMatch';
    return store.ready.value ? 'empty' : 'loading';
  });
  return h.nav(
    { class: 'sidebar', 'aria-label': () => t('rooms.title') },
    head(app),
    filter(app, typed, lines),
    places(app),
    keyed(
      () => state.value,
      (now) => {
        if (now === 'rooms') {
          return longList({
            items: () => lines.value,
            key: (line) => ('room' in line ? line.room.id : line.section),
            render: (line) => ('room' in line ? roomRow(app, line.room) : sectionRow(line, figures, () => folded.value.has(line.section), () => fold(line.section))),
            height: (line) => ('room' in line ? ROW : SECTION_ROW),
            anew: () => typed.value,
          });
        }
        if (now === 'loading') return loading();
        if (now === 'noMatch') return h.p({ class: 'sidebar-note', role: 'status' }, () => t('rooms.noMatch'));
        return h.div({ class: 'sidebar-empty' }, mark(), h.p({ class: 'sidebar-empty-title' }, () => t('rooms.empty')), h.p(() => t('rooms.emptyHint')), startButtons(app));
      },
    ),
    tellings(app),
  );
}

/**
 * @param {Room[]} rooms
 * @param {ReadonlyMap<string, string>} direct
 * @param {Set<string>} folded
 * @returns {Line[]}
 */
function sectioned(rooms, direct, folded) {
  const found = sections(rooms, direct);
  // One kind of room alone needs no heading.
  if (found.length === 1 && found[0].name === 'rooms') return found[0].rooms.map((room) => ({ room }));
  return found.flatMap(({ name, rooms: some }) => {
    const unread = folded.has(name) ? some.reduce((sum, room) => sum + room.unread.value.count, 0) : 0;
    return [{ section: name, count: some.length, unread }, ...(folded.has(name) ? [] : some.map((room) => ({ room })))];
  });
}

/** What each room's name is compared by; worked out when the name changes. @type {WeakMap<Room, { readonly value: string, peek(): string }>} */
const folds = new WeakMap();

/** @param {Room[]} rooms @param {string} typed @returns {Line[]} */
function matching(rooms, typed) {
  const wanted = plain(typed);
  // Unfollowed: a name that changes meanwhile counts from the next key on, and thousands aren't watched for it.
  return rooms.filter((room) => foldOf(room).peek().includes(wanted)).map((room) => ({ room }));
}

/** @param {Room} room */
function foldOf(room) {
  const known = folds.get(room) ?? computed(() => plain(roomName(room)));
  folds.set(room, known);
  return known;
}

/** Works the names out a few at a time, so that the first key needn't wait for all. @param {Room[]} rooms */
function prepare(rooms, from = 0) {
  const end = performance.now() + 6;
  let at = from;
  for (; at < rooms.length && performance.now() < end; at++) foldOf(rooms[at]).peek();
  if (at < rooms.length) setTimeout(() => prepare(rooms, at));
}

/** @param {Heading} line @param {(line: Heading) => Heading} figures @param {() => boolean} folded @param {() => void} fold */
function sectionRow(line, figures, folded, fold) {
  const badge = () => {
    const { count, unread } = figures(line);
    return unread ? h.span({ class: 'badge' }, number(unread)) : h.span({ class: 'badge quiet' }, number(count));
  };
  return h.li(
    { class: 'room-section' },
    h.button({ type: 'button', 'aria-expanded': () => String(!folded()), onclick: fold }, icon('fold'), h.span({ class: 'room-section-name' }, () => t(`section.${line.section}`)), badge),
  );
}

/** @param {App} app */
export function startButtons(app) {
  return h.div(
    { class: 'start-buttons' },
    h.button({ type: 'button', class: 'button primary', onclick: () => createRoom(app) }, () => t('rooms.create')),
    h.button({ type: 'button', class: 'button', onclick: () => joinDialog(app) }, () => t('rooms.join')),
  );
}

/** @param {App} app */
function head(app) {
  return h.header(
    { class: 'sidebar-head' },
    h.a({ class: 'brand', href: link('home') }, mark(), h.span('Hearth')),
    menu({ ...named(() => t('rooms.new')) }, icon('plus'), [
      menuItem(() => t('rooms.create'), () => createRoom(app), { icon: icon('plus') }),
      menuItem(() => t('rooms.join'), () => joinDialog(app), { icon: icon('link') }),
    ]),
    accountMenu(app),
  );
}

/** The places that are no rooms. @param {App} app */
function places(app) {
  const to = (/** @type {string} */ name, /** @type {import('./icons.js').IconName} */ picture, /** @type {() => string} */ text, /** @type {any} */ badge = null) =>
    h.a({ class: 'side-place', href: link(name), 'aria-current': () => (app.place.value.name === name ? 'page' : null) }, icon(picture), h.span(text), badge);
  const asked = () => app.client.friends.with('incoming').length;
  const badge = () => (asked() ? h.span({ class: 'badge mention', 'aria-label': t('friends.waiting', { count: asked() }), role: 'img' }, number(asked())) : null);
  return h.div({ class: 'side-places' }, to('friends', 'people', () => t('friends.title'), badge), to('explore', 'compass', () => t('explore.title')), () => (app.client.searching.offered.value ? to('search', 'search', () => t('search.title')) : null));
}

/**
 * @param {App} app
 * @param {import('../kit/signal.js').Signal<string>} typed
 * @param {{ peek(): Line[] }} lines
 */
function filter(app, typed, lines) {
  const first = () => lines.peek().find((line) => 'room' in line);
  const onkeydown = (/** @type {KeyboardEvent} */ event) => {
    if (event.isComposing) return;
    const found = first();
    if (event.key === 'Escape') {
      typed.value = '';
      input.blur();
    } else if (event.key === 'Enter' && found && 'room' in found && typed.peek().trim()) {
      typed.value = '';
      input.blur();
      app.go('room', found.room.id);
    } else if (event.key === 'ArrowDown') {
      event.preventDefault();
      /** @type {HTMLElement | null | undefined} */ (input.closest('nav')?.querySelector('.room-row'))?.focus();
    }
  };
  /** @type {HTMLInputElement} */
  const input = h.input({ type: 'search', 'aria-label': () => t('rooms.filter'), placeholder: () => t('rooms.filter'), 'aria-keyshortcuts': 'Control+K', value: () => typed.value, onfocus: () => prepare(app.client.store.rooms.peek()), oninput: () => (typed.value = input.value), onkeydown });
  const shortcut = new AbortController();
  onStop(() => shortcut.abort());
  addEventListener(
    'keydown',
    (event) => {
      if (!(event.ctrlKey || event.metaKey) || event.altKey || event.shiftKey || event.key.toLowerCase() !== 'k') return;
      event.preventDefault();
      if (input.checkVisibility()) return input.focus();
      // On a small screen the list has to come into sight first.
      app.go('home');
      requestAnimationFrame(() => requestAnimationFrame(() => input.focus()));
    },
    { signal: shortcut.signal },
  );
  return h.label({ class: 'filter search-box' }, icon('search'), input, h.kbd({ class: 'key', 'aria-hidden': 'true' }, 'Ctrl K'));
}

function loading() {
  return h.div({ class: 'skeleton', role: 'img', 'aria-label': () => t('rooms.loading') }, [1, 2, 3, 4, 5].map((n) => h.div({ class: `skeleton-row n${n}` }, h.i(), h.b(), h.b())));
}

/** For comparing as a reader would: without case, accents or width. @param {string} text */
function plain(text) {
  // Most names have none of what the rest is about.
  if (/^[\x20-\x7e]*$/.test(text)) return text.toLowerCase().trim();
  return text.normalize('NFKD').replace(/\p{M}/gu, '').toLowerCase().normalize('NFC').trim();
}

/** The dialog comes when it is first wanted. @param {App} app */
async function createRoom(app) {
  (await import('./create-room.js')).createDialog(app);
}
