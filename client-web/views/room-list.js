/**
 * The list of rooms: invitations first, then by latest activity, with what is unread.
 * Owns the filter; a long list has only its visible part in the document.
 */
import { h, keyed } from '../kit/dom.js';
import { longList } from '../kit/list.js';
import { menu, menuItem } from '../kit/menu.js';
import { link } from '../kit/router.js';
import { computed, signal } from '../kit/signal.js';
import { brief, t } from '../i18n/index.js';
import { isMessage, isRedacted, oneLine, said } from '../matrix/events.js';
import { createDialog, joinDialog } from './dialogs.js';
import { icon, mark } from './icons.js';
import { roomAvatar, roomName } from './names.js';
import { noticeText } from './notice.js';
import { accountMenu } from './settings-menu.js';

/** Pixels; the same as `--row` in the style sheet. */
const ROW = 60;
/** From this many rooms on, typing is quicker than looking. */
const WORTH_FILTERING = 6;

/** @typedef {import('../matrix/room.js').Room} Room */
/** @typedef {import('./app.js').App} App */

/** @param {App} app */
export function roomList(app) {
  const { store } = app.client;
  const typed = signal('');
  const found = computed(() => {
    const wanted = fold(typed.value);
    const all = [...store.rooms.value].sort((a, b) => Number(b.membership.value === 'invite') - Number(a.membership.value === 'invite'));
    return wanted ? all.filter((room) => fold(roomName(room)).includes(wanted)) : all;
  });
  const state = computed(() => {
    if (found.value.length) return 'rooms';
    if (typed.value) return 'noMatch';
    return store.ready.value ? 'empty' : 'loading';
  });
  return h.nav(
    { class: 'sidebar', 'aria-label': () => t('rooms.title') },
    head(app),
    () => (store.rooms.value.length >= WORTH_FILTERING || typed.value ? filter(typed) : null),
    keyed(
      () => state.value,
      (now) => {
        if (now === 'rooms') return longList({ items: () => found.value, key: (room) => room.id, render: (room) => row(app, room), height: ROW });
        if (now === 'loading') return loading();
        if (now === 'noMatch') return h.p({ class: 'sidebar-note' }, () => t('rooms.noMatch'));
        return h.div({ class: 'sidebar-empty' }, mark(), h.p({ class: 'sidebar-empty-title' }, () => t('rooms.empty')), h.p(() => t('rooms.emptyHint')), startButtons(app));
      },
    ),
  );
}

/** @param {App} app */
export function startButtons(app) {
  return h.div(
    { class: 'start-buttons' },
    h.button({ type: 'button', class: 'button primary', onclick: () => createDialog(app) }, () => t('rooms.create')),
    h.button({ type: 'button', class: 'button', onclick: () => joinDialog(app) }, () => t('rooms.join')),
  );
}

/** @param {App} app */
function head(app) {
  return h.header(
    { class: 'sidebar-head' },
    h.a({ class: 'brand', href: link('home') }, mark(), h.span('Hearth')),
    menu({ class: 'icon-button', 'aria-label': () => t('rooms.new'), title: () => t('rooms.new') }, icon('plus'), [
      menuItem(() => t('rooms.create'), () => createDialog(app), { icon: icon('plus') }),
      menuItem(() => t('rooms.join'), () => joinDialog(app), { icon: icon('search') }),
    ]),
    accountMenu(app.client, app.signOut),
  );
}

/** @param {import('../kit/signal.js').Signal<string>} typed */
function filter(typed) {
  return h.label(
    { class: 'filter search-box' },
    icon('search'),
    h.input({ type: 'search', 'aria-label': () => t('rooms.filter'), placeholder: () => t('rooms.filter'), value: typed.peek(), oninput: (/** @type {any} */ event) => (typed.value = event.target.value) }),
  );
}

/** @param {App} app @param {Room} room */
function row(app, room) {
  const current = () => (app.place.value.name === 'room' && app.place.value.args[0] === room.id ? 'page' : null);
  const invited = () => room.membership.value === 'invite';
  return h.li(
    { class: 'room-row-holder' },
    h.a(
      { class: () => `room-row ${room.unread.value.count || invited() ? 'unread' : ''}`, href: link('room', room.id), 'aria-current': current },
      roomAvatar(room),
      h.span(
        { class: 'room-row-text' },
        h.span({ class: 'room-row-top' }, h.bdi({ class: 'room-row-name' }, () => roomName(room)), h.span({ class: 'room-row-time' }, () => (room.activity.value ? brief(room.activity.value) : ''))),
        h.span({ class: 'room-row-below' }, h.span({ class: 'room-row-preview', dir: 'auto' }, () => preview(room)), () => badge(room)),
      ),
    ),
  );
}

/** @param {Room} room @returns {string} */
function preview(room) {
  if (room.membership.value === 'invite') {
    const { inviter } = room;
    return inviter ? t('invited.title', { name: room.nameOf(inviter) }) : t('invited.titleUnknown');
  }
  const event = room.preview.value;
  if (!event) return t('rooms.none');
  if (!isMessage(event)) return noticeText(room, event);
  const what = said(event.type, event.content);
  const text = isRedacted(event) ? t('message.deleted') : what.file?.name || oneLine(event) || t('message.unknown');
  return event.sender === room.me ? text : `${room.nameOf(event.sender)}: ${text}`;
}

/** @param {Room} room */
function badge(room) {
  const { count, mentions } = room.unread.value;
  if (room.membership.value === 'invite') return h.span({ class: 'badge mention', role: 'img', 'aria-label': t('rooms.invites') }, '!');
  if (!count && !mentions) return null;
  const label = mentions ? `${t('rooms.unread', { count })}, ${t('rooms.mentions', { count: mentions })}` : t('rooms.unread', { count });
  return h.span({ class: `badge ${mentions ? 'mention' : ''}`, role: 'img', 'aria-label': label, title: label }, mentions ? `@${mentions > 99 ? '99+' : mentions}` : count > 99 ? '99+' : String(count));
}

function loading() {
  return h.div({ class: 'skeleton', role: 'img', 'aria-label': () => t('rooms.loading') }, [1, 2, 3, 4, 5].map((n) => h.div({ class: `skeleton-row n${n}` }, h.i(), h.b(), h.b())));
}

/** For comparing as a reader would: without case, accents or width. @param {string} text */
function fold(text) {
  return text.normalize('NFKD').replace(/\p{M}/gu, '').toLowerCase().normalize('NFC').trim();
}
