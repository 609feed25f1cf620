/**
 * The signed-in client's frame: rooms, a room, its members; one pane at a time where there
 * is no place for more. Owns which of them stand side by side, from the address.
 */
import { h, keyed } from '../kit/dom.js';
import { later } from '../kit/later.js';
import { link } from '../kit/router.js';
import { idle, watchIdle } from '../kit/idle.js';
import { computed, effect, onStop } from '../kit/signal.js';
import { bringAdmin, t } from '../i18n/index.js';
import { joinDialog } from './dialogs.js';
import { icon, mark } from './icons.js';
import { media, roomName } from './names.js';
import { roomList, startButtons } from './room-list.js';
import { roomView } from './room.js';

/**
 * @typedef {{
 *   client: import('../matrix/client.js').Client,
 *   place: import('../kit/signal.js').Signal<import('../kit/router.js').Place>,
 *   go: (...parts: string[]) => void,
 *   replace: (...parts: string[]) => void,
 *   signOut: () => void,
 * }} App
 */

/**
 * What can stand beside the conversation, by its word in the address: `#/room/!id/members`.
 * @type {Record<string, (app: App, room: import('../matrix/room.js').Room, ...args: string[]) => Node>}
 */
const PANES = {
  members: later(async () => (await import('./members.js')).membersPane),
  member: later(async () => (await import('./member.js')).memberPane),
  settings: later(async () => (await import('./room-settings.js')).roomSettingsPane),
  thread: later(async () => (await import('./thread.js')).threadPane),
  threads: later(async () => (await import('./thread.js')).threadsPane),
  search: later(async () => (await import('./search.js')).searchPane),
  pins: later(async () => (await import('./pins.js')).pinsPane),
};

/**
 * What can stand in the middle, by the first word of the address; a place that isn't known shows
 * the welcome.
 * @type {Record<string, (app: App, ...args: string[]) => Node>}
 */
const PAGES = {
  room: roomView,
  explore: later(async () => (await import('./explore.js')).explorePage),
  settings: later(async () => (await import('./settings.js')).settingsPage),
  friends: later(async () => (await import('./friends.js')).friendsPage),
  search: later(async () => (await import('./search.js')).searchPage),
  user: later(async () => (await import('./person.js')).personPage),
  admin: later(async () => (await Promise.all([import('./admin.js'), bringAdmin()]))[0].adminPage),
};

/** Pages that follow the rest of the address by themselves. */
const KEEPS = new Set(['settings', 'friends', 'admin']);

/** @param {App} app */
export function appView(app) {
  const { place } = app;
  media.value = app.client.media;
  const { people, sync } = app.client;
  const away = new AbortController();
  watchIdle(away.signal);
  onStop(() => away.abort());
  // As chosen here or on another device, from the first sync on; who does nothing is away.
  const seen = computed(() => {
    const { state, status } = people.shown();
    return `${state === 'online' && idle.value ? 'unavailable' : state} ${status}`;
  });
  effect(() => {
    const [state, ...status] = seen.value.split(' ');
    people.present(/** @type {any} */ (state), status.join(' '));
    // The server forgets what is said of a presence when it restarts.
    if (sync.status.value === 'live' && (state !== 'online' || status.join(''))) people.announce().catch(() => {});
  });
  effect(() => {
    // Once there is a connection; what isn't offered isn't shown.
    if (app.client.sync.status.value !== 'live') return;
    app.client.searching.probe();
    app.client.resume();
  });
  const roomId = () => (place.value.name === 'room' ? place.value.args[0] : undefined);
  const main = computed(() => (place.value.name in PAGES ? [place.value.name, ...(KEEPS.has(place.value.name) ? [] : place.value.args.slice(0, 1))].join('\n') : ''));
  // One word, so that the pane is built anew only when it is another.
  const beside = computed(() => (place.value.name === 'room' && place.value.args[1] in PANES ? place.value.args.join('\n') : ''));
  const waiting = computed(() => app.client.store.rooms.value.reduce((sum, room) => sum + room.unread.value.count + Number(room.membership.value === 'invite'), 0));
  effect(() => {
    const room = app.client.store.room(roomId() ?? '');
    document.title = `${waiting.value ? `(${waiting.value}) ` : ''}${room ? `${roomName(room)} · ` : ''}Hearth`;
  });
  effect(() => {
    // A link to a room by its name: ask before joining.
    if (place.value.name !== 'join') return;
    const [target] = place.value.args;
    app.replace('home');
    joinDialog(app, target);
  });
  return h.div(
    { class: () => `app ${main.value ? 'has-main' : ''} ${beside.value ? 'has-pane' : ''}` },
    h.a({ class: 'skip', href: '#main', onclick: skip }, () => t('app.skip')),
    roomList(app),
    keyed(
      () => main.value,
      (wanted) => {
        const [name, ...args] = wanted.split('\n');
        return name ? PAGES[name](app, ...args) : welcome(app);
      },
    ),
    keyed(
      () => (app.client.store.room(roomId() ?? '') ? beside.value : ''),
      (wanted) => wanted && pane(app, wanted.split('\n')),
    ),
    h.div({ class: 'status', role: 'status' }, () => (app.client.sync.status.value === 'offline' ? h.p({ class: 'offline' }, icon('offline'), h.span(t('status.offline'))) : null)),
  );
}

/** @param {App} app @param {string[]} wanted the room's ID, the pane's name, what it is about */
function pane(app, [id, name, ...args]) {
  const room = app.client.store.room(id);
  return room ? PANES[name](app, room, ...args) : null;
}

/** @param {App} app */
function welcome(app) {
  const isNew = () => app.client.store.ready.value && !app.client.store.rooms.value.length;
  const elsewhere = () => h.div({ class: 'start-buttons' }, h.a({ class: 'button quiet', href: link('friends', 'add') }, icon('people'), t('friends.add')), h.a({ class: 'button quiet', href: link('explore') }, icon('compass'), t('explore.rooms')));
  return h.main({ class: 'room welcome', id: 'main' }, h.section({ class: 'stand-in' }, mark(), h.h1(() => t('welcome.title')), h.p(() => t(isNew() ? 'rooms.emptyHint' : 'welcome.text')), startButtons(app), () => (isNew() ? elsewhere() : null)));
}

/** The address's fragment is the place, so the jump is made by hand. @param {Event} event */
function skip(event) {
  event.preventDefault();
  const main = document.getElementById('main');
  /** @type {HTMLElement | null | undefined} */
  const target = main?.querySelector('textarea, .window, button, a');
  target?.focus();
}
