/**
 * The small dialogs by which rooms are joined and left.
 */
import { h } from '../kit/dom.js';
import { openDialog } from '../kit/dialog.js';
import { signal } from '../kit/signal.js';
import { toast } from '../kit/toast.js';
import { t } from '../i18n/index.js';
import { ApiError } from '../matrix/api.js';
import { roomTarget } from '../matrix/ids.js';
import { attempt } from './errors.js';
import { cancelButton, field, form } from './form.js';
import { roomName } from './names.js';
import { toggle } from './page.js';

/** @typedef {import('./app.js').App} App */
/** @typedef {import('../matrix/room.js').Room} Room */

/** @param {App} app @param {string} [given] */
export function joinDialog(app, given = '') {
  return openDialog(
    t('join.title'),
    (close) => {
      /** The room that let nobody in just like that. @type {import('../kit/signal.js').Signal<ReturnType<typeof roomTarget>>} */
      const refused = signal(/** @type {ReturnType<typeof roomTarget>} */ (null));
      const knock = async () => {
        const room = refused.peek();
        if (!room || !(await attempt(app.client.rooms.knock(room.id, { via: room.via })))) return;
        close();
        toast(t('join.asked'));
      };
      return form(
        {
          submit: () => t('join.submit'),
          cancel: close,
          special: { M_NOT_FOUND: 'join.none' },
          send: async ({ target }) => {
            const room = roomTarget(target, app.client.server);
            if (!room) return t('join.invalid');
            refused.value = null;
            try {
              const id = await app.client.join(room.id, room.via);
              close();
              app.go('room', id);
            } catch (error) {
              if (error instanceof ApiError && error.code === 'M_FORBIDDEN') refused.value = room;
              throw error;
            }
          },
        },
        field({ name: 'target', label: () => t('join.target'), hint: () => t('join.hint'), required: true, autofocus: true, value: given, spellcheck: 'false', autocapitalize: 'none' }),
        () => (refused.value ? h.button({ type: 'button', class: 'button', onclick: knock }, t('explore.knock')) : null),
      );
    },
  );
}

/** @param {App} app @param {Room} room */
export async function leaveDialog(app, room) {
  const forget = signal(false);
  const sure = await openDialog(
    t('room.leave'),
    (close) => [
      h.p({ class: 'wraps' }, t('room.leaveConfirm', { room: roomName(room) })),
      toggle(() => t('room.forget'), () => forget.value, (on) => (forget.value = on), { hint: () => t('room.forgetHint') }),
      h.footer(cancelButton(close), h.button({ type: 'button', class: 'button danger', onclick: () => close(true) }, t('action.leave'))),
    ],
  );
  if (!sure) return;
  const left = app.client.leave(room.id).then(() => app.go('home'));
  await attempt(forget.peek() ? left.then(() => app.client.rooms.forget(room.id)) : left);
}

/**
 * Asks before something that can't be undone easily.
 * @param {string} title
 * @param {string} text
 * @param {string} deed
 * @returns {Promise<boolean | undefined>}
 */
export function confirm(title, text, deed) {
  return openDialog(title, (close) => [h.p({ class: 'wraps' }, text), h.footer(cancelButton(close), h.button({ type: 'button', class: 'button danger', onclick: () => close(true) }, deed))]);
}

/** Tells whoever made the first account what that means. @param {() => void} go */
export async function welcomeAdmin(go) {
  const wants = await openDialog(
    t('admin.welcome'),
    (close) => [
      h.p(t('admin.welcomeText')),
      h.footer(h.button({ type: 'button', class: 'button', onclick: () => close() }, t('admin.later')), h.button({ type: 'button', class: 'button primary', onclick: () => close(true) }, t('admin.go'))),
    ],
  );
  if (wants) go();
}
