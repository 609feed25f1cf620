/**
 * The small dialogs by which rooms are joined, shared and left.
 */
import { h } from '../kit/dom.js';
import { openDialog } from '../kit/dialog.js';
import { toast } from '../kit/toast.js';
import { t } from '../i18n/index.js';
import { roomTarget, userId } from '../matrix/ids.js';
import { attempt } from './errors.js';
import { field, form } from './form.js';
import { roomName } from './names.js';

/** @typedef {import('./app.js').App} App */
/** @typedef {import('../matrix/room.js').Room} Room */

const labels = () => ({ closeLabel: t('action.close') });

/** @param {(result?: any) => void} close */
const cancel = (close) => () => h.button({ type: 'button', class: 'button', onclick: () => close() }, t('action.cancel'));

/** @param {App} app @param {string} [given] */
export function joinDialog(app, given = '') {
  return openDialog(
    t('join.title'),
    (close) =>
      form(
        {
          submit: () => t('join.submit'),
          cancel: cancel(close),
          send: async ({ target }) => {
            const room = roomTarget(target, app.client.server);
            if (!room) return t('join.invalid');
            const id = await app.client.join(room.id, room.via);
            close();
            app.go('room', id);
          },
        },
        field({ name: 'target', label: () => t('join.target'), hint: () => t('join.hint'), required: true, autofocus: true, value: given, spellcheck: 'false', autocapitalize: 'none' }),
      ),
    labels(),
  );
}

/** @param {App} app @param {Room} room */
export function inviteDialog(app, room) {
  return openDialog(
    t('invite.title', { room: roomName(room) }),
    (close) =>
      form(
        {
          submit: () => t('invite.submit'),
          cancel: cancel(close),
          send: async ({ user }) => {
            const id = userId(user, app.client.server);
            if (!id) return t('invite.invalid');
            await app.client.invite(room, id);
            close();
            toast(t('invite.done', { name: id }));
          },
        },
        field({ name: 'user', label: () => t('invite.user'), hint: () => t('invite.hint'), required: true, autofocus: true, spellcheck: 'false', autocapitalize: 'none' }),
      ),
    labels(),
  );
}

/** @param {App} app @param {Room} room */
export async function leaveDialog(app, room) {
  const sure = await openDialog(
    t('room.leave'),
    (close) => [
      h.p(t('room.leaveConfirm', { room: roomName(room) })),
      h.footer(cancel(close)(), h.button({ type: 'button', class: 'button danger', onclick: () => close(true) }, t('action.leave'))),
    ],
    labels(),
  );
  if (!sure) return;
  await attempt(app.client.leave(room.id).then(() => app.go('home')));
}

/**
 * Asks before something that can't be undone easily.
 * @param {string} title
 * @param {string} text
 * @param {string} deed
 * @returns {Promise<boolean | undefined>}
 */
export function confirm(title, text, deed) {
  return openDialog(title, (close) => [h.p({ class: 'wraps' }, text), h.footer(cancel(close)(), h.button({ type: 'button', class: 'button danger', onclick: () => close(true) }, deed))], labels());
}
