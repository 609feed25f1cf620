/**
 * The settings of the account itself: password, sessions, and ending it.
 */
import { h } from '../kit/dom.js';
import { toast } from '../kit/toast.js';
import { brief, exact, t } from '../i18n/index.js';
import { field, form, formDialog } from './form.js';
import { icon } from './icons.js';
import { fetched, section, toggle } from './page.js';
import { signal } from '../kit/signal.js';

/** @typedef {import('./app.js').App} App */
/** @typedef {import('../matrix/account.js').Device} Device */

const SHORTEST = 8;

/** @param {App} app */
export function accountSettings(app) {
  const { account } = app.client;
  const others = signal(true);
  return [
    section(
      () => t('password.title'),
      null,
      h.div(
        { class: 'card' },
        form(
          {
            submit: () => t('password.submit'),
            special: { M_FORBIDDEN: 'error.wrongPassword' },
            clear: true,
            send: async ({ now, next, again }) => {
              if (next !== again) return t('password.differ');
              await account.changePassword({ now, next, others: others.peek() });
              toast(t('password.done'));
            },
          },
          // For the browser's store of passwords.
          h.input({ type: 'text', name: 'user', autocomplete: 'username', value: app.client.me, hidden: true, readonly: true }),
          field({ name: 'now', type: 'password', label: () => t('password.now'), autocomplete: 'current-password', required: true }),
          h.div(
            { class: 'field-pair' },
            field({ name: 'next', type: 'password', label: () => t('password.next'), autocomplete: 'new-password', minlength: SHORTEST, required: true }),
            field({ name: 'again', type: 'password', label: () => t('password.again'), autocomplete: 'new-password', minlength: SHORTEST, required: true }),
          ),
          toggle(() => t('password.others'), () => others.value, (on) => (others.value = on)),
        ),
      ),
    ),
    section(
      () => t('deactivate.title'),
      () => t('deactivate.hint'),
      h.div(h.button({ type: 'button', class: 'button danger-text', onclick: () => deactivateDialog(app) }, () => t('deactivate.button'))),
    ),
  ];
}

/** @param {App} app */
export function sessionSettings(app) {
  const { account } = app.client;
  return fetched(
    () => account.devices(),
    (devices, again) => {
      const others = devices.filter(({ current }) => !current);
      const one = devices.filter(({ current }) => current);
      return [
        section(() => t('sessions.this'), null, h.ul({ class: 'card flush', role: 'list' }, one.map((device) => deviceRow(app, device, again)))),
        others.length > 0 &&
          section(
            () => t('sessions.others'),
            () => t('sessions.othersHint'),
            h.ul({ class: 'card flush', role: 'list' }, others.map((device) => deviceRow(app, device, again))),
            h.div(h.button({ type: 'button', class: 'button danger-text', onclick: () => signOutDialog(app, others, again) }, () => t('sessions.endAll'))),
          ),
      ];
    },
  );
}

/** @param {App} app @param {Device} device @param {() => void} again */
function deviceRow(app, device, again) {
  const name = device.name || device.id;
  return h.li(
    { class: 'row' },
    h.span({ class: 'row-icon' }, icon('device')),
    h.div(
      { class: 'row-text' },
      h.bdi({ class: 'row-title' }, name),
      h.span({ class: 'row-note', title: () => (device.seen ? exact(device.seen) : '') }, () => [device.current ? t('sessions.now') : device.seen ? t('sessions.seen', { when: brief(device.seen) }) : t('sessions.never'), device.ip, device.id].filter(Boolean).join(' · ')),
    ),
    h.div(
      { class: 'row-actions' },
      h.button({ type: 'button', class: 'button small quiet', 'aria-label': () => `${t('sessions.rename')}: ${name}`, onclick: () => renameDialog(app, device, again) }, () => t('sessions.rename')),
      !device.current && h.button({ type: 'button', class: 'button small', 'aria-label': () => `${t('account.signOut')}: ${name}`, onclick: () => signOutDialog(app, [device], again) }, () => t('account.signOut')),
    ),
  );
}

/** @param {App} app @param {Device} device @param {() => void} again */
function renameDialog(app, device, again) {
  return formDialog(
    t('sessions.rename'),
    {
      submit: () => t('action.save'),
      send: async ({ name }) => {
        await app.client.account.rename(device.id, name.trim());
        again();
      },
    },
    field({ name: 'name', label: () => t('sessions.name'), value: device.name, maxlength: 100, autofocus: true, required: true }),
  );
}

/** @param {App} app @param {Device[]} devices @param {() => void} again */
function signOutDialog(app, devices, again) {
  return formDialog(
    devices.length > 1 ? t('sessions.endAll') : t('account.signOut'),
    {
      submit: () => t('account.signOut'),
      danger: true,
      special: { M_FORBIDDEN: 'error.wrongPassword' },
      send: async ({ password }) => {
        await app.client.account.signOut(devices.map(({ id }) => id), password);
        toast(t('sessions.ended'));
        again();
      },
    },
    h.p(t('sessions.endHint', { count: devices.length })),
    field({ name: 'password', type: 'password', label: () => t('password.yours'), autocomplete: 'current-password', required: true, autofocus: true }),
  );
}

/** @param {App} app */
function deactivateDialog(app) {
  const erase = signal(false);
  return formDialog(
    t('deactivate.title'),
    {
      submit: () => t('deactivate.submit'),
      danger: true,
      special: { M_FORBIDDEN: 'error.wrongPassword' },
      send: async ({ password }) => {
        await app.client.account.deactivate(password, erase.peek());
        app.signOut();
      },
    },
    h.p(t('deactivate.warning')),
    toggle(() => t('deactivate.erase'), () => erase.value, (on) => (erase.value = on), { hint: () => t('deactivate.eraseHint') }),
    field({ name: 'password', type: 'password', label: () => t('password.yours'), autocomplete: 'current-password', required: true, autofocus: true }),
  );
}
