/**
 * The accounts of the server: who there is, and what an administrator may do about them.
 */
import { h } from '../kit/dom.js';
import { menu, menuItem } from '../kit/menu.js';
import { signal } from '../kit/signal.js';
import { toast } from '../kit/toast.js';
import { ago, exact, t } from '../i18n/index.js';
import { userId } from '../matrix/ids.js';
import { adminList } from './admin-list.js';
import { confirm } from './dialogs.js';
import { attempt } from './errors.js';
import { field, formDialog } from './form.js';
import { icon } from './icons.js';
import { avatar } from './names.js';
import { empty, toggle } from './page.js';

/** @typedef {import('./app.js').App} App */
/** @typedef {import('../matrix/admin.js').Admin} Admin */
/** @typedef {import('../matrix/admin.js').User} User */

const SHORTEST = 8;

/** @param {App} app @param {Admin} admin */
export function usersPart(app, admin) {
  return adminList({
    ask: async ({ search, from }) => {
      const { users, next, total } = await admin.users({ search, from });
      return { rows: users, next, total };
    },
    row: (user, again) => row(app, admin, user, again),
    label: () => t('users.search'),
    actions: (again) => h.button({ type: 'button', class: 'button primary', onclick: () => createUser(app, admin, again) }, icon('plus'), () => t('users.create')),
    none: () => empty('people', () => t('friends.nobody')),
  });
}

/** @param {App} app @param {Admin} admin @param {User} user @param {() => void} again */
function row(app, admin, user, again) {
  return h.li(
    { class: 'row' },
    avatar(user.id, () => user.name, 'medium', 'person', () => user.avatar),
    h.div({ class: 'row-text' }, h.bdi({ class: 'row-title' }, user.name), h.span({ class: 'row-note' }, user.id), h.span({ class: 'row-note', title: () => (user.seen ? exact(user.seen) : '') }, () => (user.seen ? t('sessions.seen', { when: ago(user.seen) }) : t('sessions.never')))),
    h.div(
      { class: 'row-actions' },
      user.admin && h.span({ class: 'chip accent' }, () => t('members.admin')),
      user.locked && h.span({ class: 'chip warn' }, () => t('users.locked')),
      user.suspended && h.span({ class: 'chip warn' }, () => t('users.suspended')),
      user.deactivated && h.span({ class: 'chip bad' }, () => t('users.deactivated')),
      !user.deactivated && deeds(app, admin, user, again),
    ),
  );
}

/** @param {App} app @param {Admin} admin @param {User} user @param {() => void} again */
function deeds(app, admin, user, again) {
  const isMe = user.id === app.client.me;
  const set = (/** @type {Parameters<Admin['setUser']>[1]} */ changes) => async () => {
    if (await attempt(admin.setUser(user.id, changes))) again();
  };
  const makeAdmin = async () => {
    if (await confirm(t('users.makeAdmin'), t('users.makeAdminHint', { name: user.name }), t('users.makeAdmin'))) await set({ admin: true })();
  };
  return menu({ class: 'icon-button', 'aria-label': () => `${t('action.more')}: ${user.name}`, title: () => t('action.more') }, icon('more'), [
    menuItem(() => t('person.profile'), () => app.go('user', user.id), { icon: icon('person') }),
    menuItem(() => t('users.resetPassword'), () => resetDialog(admin, user), { icon: icon('key') }),
    !isMe && (user.admin ? menuItem(() => t('users.takeAdmin'), set({ admin: false }), { icon: icon('shield') }) : menuItem(() => t('users.makeAdmin'), makeAdmin, { icon: icon('shield') })),
    !isMe && !user.admin && menuItem(() => t(user.locked ? 'users.unlock' : 'users.lock'), set({ locked: !user.locked }), { icon: icon('lock') }),
    !isMe && menuItem(() => t('users.deactivate'), () => deactivateDialog(admin, user, again), { icon: icon('block') }),
  ].filter(Boolean));
}

/** @param {App} app @param {Admin} admin @param {() => void} again */
function createUser(app, admin, again) {
  const isAdmin = signal(false);
  return formDialog(
    t('users.create'),
    {
      submit: () => t('users.create'),
      send: async ({ user, name, password }) => {
        const id = userId(user.trim().toLowerCase(), app.client.server);
        if (!id) return t('error.invalidName');
        const taken = await admin.users({ search: id.slice(1).split(':')[0] });
        if (taken.users.some((one) => one.id === id)) return t('error.userInUse');
        await admin.setUser(id, { password, ...(name.trim() && { displayname: name.trim() }), ...(isAdmin.peek() && { admin: true }) });
        again();
      },
    },
    field({ name: 'user', label: () => t('signIn.user'), hint: () => t('register.userHint'), required: true, autofocus: true, spellcheck: 'false', autocapitalize: 'none' }),
    field({ name: 'name', label: () => t('profile.name'), maxlength: 120, dir: 'auto' }),
    field({ name: 'password', type: 'password', label: () => t('signIn.password'), hint: () => t('register.passwordHint'), minlength: SHORTEST, required: true, autocomplete: 'new-password' }),
    toggle(() => t('users.isAdmin'), () => isAdmin.value, (on) => (isAdmin.value = on)),
  );
}

/** @param {Admin} admin @param {User} user */
function resetDialog(admin, user) {
  const signOut = signal(true);
  return formDialog(
    t('users.resetPassword'),
    {
      submit: () => t('users.resetPassword'),
      send: async ({ password }) => {
        await admin.resetPassword(user.id, password, signOut.peek());
        toast(t('password.done'));
      },
    },
    h.p(h.bdi(user.id)),
    field({ name: 'password', type: 'password', label: () => t('password.next'), minlength: SHORTEST, required: true, autocomplete: 'new-password', autofocus: true }),
    toggle(() => t('users.signOut'), () => signOut.value, (on) => (signOut.value = on)),
  );
}

/** @param {Admin} admin @param {User} user @param {() => void} again */
function deactivateDialog(admin, user, again) {
  const erase = signal(false);
  return formDialog(
    t('users.deactivate'),
    {
      submit: () => t('users.deactivate'),
      danger: true,
      send: async () => {
        await admin.deactivate(user.id, erase.peek());
        again();
      },
    },
    h.p({ class: 'wraps' }, t('users.deactivateHint', { name: user.id })),
    toggle(() => t('users.erase'), () => erase.value, (on) => (erase.value = on), { hint: () => t('deactivate.eraseHint') }),
  );
}
