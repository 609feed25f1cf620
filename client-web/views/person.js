/**
 * One person: their row in a list, their page, and what one can do about them. Owns which
 * deeds are offered, by what they are to this person.
 */
import { h, keyed } from '../kit/dom.js';
import { menu, menuItem } from '../kit/menu.js';
import { link } from '../kit/router.js';
import { toast } from '../kit/toast.js';
import { ago, t } from '../i18n/index.js';
import { LONGEST_NOTE } from '../matrix/friends.js';
import { parseTarget, serverOf } from '../matrix/ids.js';
import { confirm } from './dialogs.js';
import { attempt } from './errors.js';
import { field, formDialog } from './form.js';
import { icon } from './icons.js';
import { avatar, roomAvatar, roomName, withPresence } from './names.js';
import { empty, page, section } from './page.js';

/** @typedef {import('./app.js').App} App */

/**
 * @param {App} app
 * @param {string} id
 * @param {{ note?: () => string, actions?: any }} more
 */
export function personRow(app, id, { note, actions }) {
  const profile = app.client.people.profile(id, met(app, id));
  return h.li(
    { class: 'row' },
    withPresence(app.client.store, () => id, avatar(id, () => profile.value.name, 'medium', 'person', () => profile.value.avatar)),
    h.div({ class: 'row-text' }, h.a({ class: 'row-title row-link', href: link('user', id), dir: 'auto' }, () => profile.value.name), () => (note?.() ? h.span({ class: 'row-note wraps clamp', dir: 'auto' }, note()) : null)),
    h.div({ class: 'row-actions' }, actions),
  );
}

/** A friend as the chat with them has them, which saves asking. @param {App} app @param {string} id */
function met(app, id) {
  const room = app.client.friends.ties.peek().get(id)?.room;
  if (!room?.members.get(id)?.content.displayname) return undefined;
  const { name, avatar: picture } = room.member(id);
  return { id, name, avatar: picture };
}

/** Whether somebody is there, and what they say about it. @param {import('../matrix/store.js').Store} store @param {string} id */
export function presenceText(store, id) {
  const presence = store.presence(id);
  if (!presence) return '';
  const seen = presence.state === 'offline' && presence.since ? t('presence.seen', { when: ago(presence.since) }) : t(`presence.${presence.state}`);
  return presence.status ? `${seen} · ${presence.status}` : seen;
}

/**
 * What can be done about somebody, by what they are now.
 * @param {App} app
 * @param {string} id
 * @param {() => void} [ask] how to ask them to be friends
 */
export function tieButtons(app, id, ask = () => befriend(app, id)) {
  const { friends, people, store } = app.client;
  const name = () => people.profile(id).peek().name;
  const button = (/** @type {import('../i18n/index.js').Key} */ key, /** @type {() => any} */ act, look = '') =>
    h.button({ type: 'button', class: `button small ${look}`, 'aria-label': () => `${t(key)}: ${name()}`, onclick: act }, () => t(key));
  return () => {
    if (store.ignored().has(id)) return button('person.unblock', () => attempt(people.block(id, false)));
    const tie = friends.ties.value.get(id);
    switch (tie?.relation) {
      case 'friend': return [h.a({ class: 'button small primary', href: link('room', tie.room.id), 'aria-label': `${t('person.chat')}: ${name()}` }, () => t('person.chat')), more(app, id, true)];
      case 'incoming': return [button('person.accept', () => accept(app, id), 'primary'), button('invited.reject', () => attempt(friends.reject(id))), more(app, id, false)];
      case 'outgoing': return [h.span({ class: 'chip' }, () => t('person.asked')), button('person.cancel', () => attempt(friends.cancel(id)))];
      default: return [button('person.befriend', ask, 'primary'), more(app, id, false)];
    }
  };
}

/** @param {App} app @param {string} id */
async function accept(app, id) {
  const room = await attempt(app.client.friends.accept(id));
  if (room) app.go('room', room);
}

/** @param {App} app @param {string} id @param {boolean} isFriend */
function more(app, id, isFriend) {
  const { people } = app.client;
  return menu({ class: 'icon-button', 'aria-label': () => `${t('action.more')}: ${people.profile(id).value.name}`, title: () => t('action.more') }, icon('more'), [
    menuItem(() => t('person.profile'), () => app.go('user', id), { icon: icon('person') }),
    isFriend && menuItem(() => t('person.unfriend'), () => unfriend(app, id), { icon: icon('leave') }),
    menuItem(() => t('person.block'), () => block(app, id, isFriend), { icon: icon('block') }),
  ].filter(Boolean));
}

/** Asks somebody, with a note. @param {App} app @param {string} id */
export function befriend(app, id) {
  const profile = app.client.people.profile(id);
  return formDialog(
    t('person.befriendTitle', { name: profile.peek().name }),
    {
      submit: () => t('person.send'),
      special: { M_FORBIDDEN: 'person.refused', M_INVITE_BLOCKED: 'person.refused', M_NOT_FOUND: 'person.unknown' },
      send: async ({ note }) => {
        await app.client.friends.request(id, note.trim());
        toast(t('person.sent', { name: profile.peek().name }));
      },
    },
    field({ name: 'note', label: () => t('person.note'), hint: () => t('person.noteHint'), maxlength: LONGEST_NOTE, autofocus: true, dir: 'auto' }),
  );
}

/** @param {App} app @param {string} id */
async function unfriend(app, id) {
  const sure = await confirm(t('person.unfriend'), t('person.unfriendHint', { name: app.client.people.profile(id).peek().name }), t('person.unfriend'));
  if (sure) await attempt(app.client.friends.remove(id));
}

/** @param {App} app @param {string} id @param {boolean} isFriend */
async function block(app, id, isFriend) {
  const sure = await confirm(t('person.block'), t('person.blockHint', { name: app.client.people.profile(id).peek().name }), t('person.block'));
  if (!sure) return;
  const { friends, people } = app.client;
  await attempt(people.block(id, true));
  if (isFriend) await attempt(friends.remove(id));
}

/** @param {App} app @param {string} id */
export function personPage(app, id) {
  const { client } = app;
  if (parseTarget(id)?.kind !== 'user') return page({ title: () => t('person.profile') }, empty('person', () => t('friends.nobody'), () => t('friends.nobodyHint')));
  const profile = client.people.profile(id);
  // Whoever is a friend was somebody, whatever has become of them.
  const isNobody = () => profile.value.missing && !client.friends.ties.value.has(id) && !client.store.ignored().has(id);
  const shared = () => client.store.rooms.value.filter((room) => room.membership.value === 'join' && room.member(id).membership === 'join' && client.store.direct.value.get(room.id) !== id);
  const card = () =>
    h.section(
      { class: 'person-card' },
      withPresence(client.store, () => id, avatar(id, () => profile.value.name, 'huge', 'person', () => profile.value.avatar)),
      h.h2({ dir: 'auto' }, () => profile.value.name),
      h.bdi({ class: 'row-note' }, id),
      () => (presenceText(client.store, id) ? h.p({ dir: 'auto' }, presenceText(client.store, id)) : null),
      id === client.me ? h.a({ class: 'button', href: link('settings', 'profile') }, () => t('person.editOwn')) : h.div({ class: 'row-actions' }, tieButtons(app, id)),
    );
  return page(
    { title: () => profile.value.name },
    keyed(isNobody, (none) => (none ? empty('person', () => t('friends.nobody'), () => t('friends.nobodyAt', { server: serverOf(id) })) : card())),
    () => (id !== client.me && shared().length ? section(() => t('person.shared'), null, h.ul({ class: 'card flush', role: 'list' }, shared().slice(0, 50).map((room) => h.li({ class: 'row' }, roomAvatar(room, 'small'), h.a({ class: 'row-title row-link row-text', href: link('room', room.id), dir: 'auto' }, () => roomName(room)))))) : null),
  );
}
