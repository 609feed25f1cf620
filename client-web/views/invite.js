/**
 * Inviting people to a room: friends are picked, others are named by their address.
 */
import { h } from '../kit/dom.js';
import { signal } from '../kit/signal.js';
import { toast } from '../kit/toast.js';
import { t } from '../i18n/index.js';
import { userId } from '../matrix/ids.js';
import { field, formDialog } from './form.js';
import { avatar, roomName } from './names.js';

/** More than these are found by typing. */
const MOST = 40;

/** @param {import('./app.js').App} app @param {import('../matrix/room.js').Room} room */
export function inviteDialog(app, room) {
  const { friends, people } = app.client;
  const typed = signal('');
  const picked = signal(/** @type {Set<string>} */ (new Set()));
  const isIn = (/** @type {string} */ id) => ['join', 'invite', 'ban'].includes(room.member(id).membership);
  const matching = () => {
    const wanted = typed.value.trim().toLowerCase();
    return friends.with('friend').filter(({ user }) => !isIn(user) && (!wanted || picked.value.has(user) || user.toLowerCase().includes(wanted) || people.profile(user).value.name.toLowerCase().includes(wanted))).slice(0, MOST);
  };
  const pick = (/** @type {string} */ id, /** @type {boolean} */ on) => picked.update((ids) => void (on ? ids.add(id) : ids.delete(id)));
  const choice = (/** @type {string} */ id) => {
    const profile = people.profile(id);
    return h.li(h.label({ class: 'choice' }, h.input({ type: 'checkbox', checked: picked.peek().has(id), onchange: (/** @type {any} */ event) => pick(id, event.target.checked) }), avatar(id, () => profile.value.name, 'small', 'person', () => profile.value.avatar), h.span({ class: 'choice-text' }, h.bdi(() => profile.value.name), h.bdi({ class: 'hint' }, id))));
  };
  return formDialog(
    t('invite.title', { room: roomName(room) }),
    {
      submit: () => t('invite.submit'),
      send: async () => {
        const text = typed.peek().trim();
        const id = userId(text, app.client.server);
        const wanted = new Set(picked.peek());
        // What is typed may only have been there to find a friend by.
        if (text && !wanted.size) {
          if (!id) return t('invite.invalid');
          wanted.add(id);
        }
        if (!wanted.size) return t('invite.nobody');
        for (const one of wanted) {
          await app.client.invite(room, one);
          pick(one, false);
        }
        toast(wanted.size > 1 ? t('invite.doneMany', { count: wanted.size }) : t('invite.done', { name: [...wanted][0] }));
      },
    },
    field({ name: 'user', label: () => t('invite.user'), hint: () => t('invite.hint'), autofocus: true, spellcheck: 'false', autocapitalize: 'none', oninput: (/** @type {any} */ event) => (typed.value = event.target.value) }),
    () => (matching().length ? h.fieldset(h.legend(t('invite.friends')), h.ul({ class: 'picker', role: 'list' }, matching().map(({ user }) => choice(user)))) : null),
  );
}
