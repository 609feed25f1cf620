/**
 * Who is in the room, and who is invited: by role, then by name.
 */
import { h, keyed } from '../kit/dom.js';
import { longList } from '../kit/list.js';
import { link } from '../kit/router.js';
import { computed, signal } from '../kit/signal.js';
import { language, t } from '../i18n/index.js';
import { words } from './errors.js';
import { icon } from './icons.js';
import { memberAvatar } from './names.js';

/** Pixels; the same as `--member-row` in the style sheet. */
const ROW = 56;

/** @typedef {import('../matrix/room.js').Member} Member */

/** @param {import('./app.js').App} app @param {import('../matrix/room.js').Room} room */
export function membersPane(app, room) {
  const trouble = signal('');
  app.client.loadMembers(room).catch((error) => (trouble.value = words(error)));
  const people = computed(() => {
    const order = new Intl.Collator(language.value);
    const sorted = (/** @type {string} */ membership) => room.membersWith(membership).sort((a, b) => b.power - a.power || order.compare(a.name, b.name));
    return [...sorted('join'), ...sorted('invite')];
  });
  return h.aside(
    { class: 'pane members', 'aria-label': () => t('members.title') },
    h.header(
      { class: 'pane-head' },
      h.h2(() => t('room.memberCount', { count: room.memberCount })),
      h.a({ class: 'icon-button', href: link('room', room.id), 'aria-label': () => t('action.close'), title: () => t('action.close') }, h.span({ class: 'cross', 'aria-hidden': 'true' })),
    ),
    keyed(() => trouble.value, (text) => text && h.p({ class: 'members-trouble', role: 'alert' }, icon('alert'), h.span(() => t('members.failed'), ' ', text))),
    longList({ items: () => people.value, key: (member) => `${member.id} ${member.membership} ${member.power} ${member.name}`, render: (member) => row(room, member), height: ROW }),
  );
}

/** @param {import('../matrix/room.js').Room} room @param {Member} member */
function row(room, member) {
  return h.li(
    { class: `member ${member.membership}` },
    memberAvatar(room, member.id, 'small'),
    h.span({ class: 'member-text' }, h.bdi({ class: 'member-name' }, member.name, member.id === room.me && h.span({ class: 'member-you' }, () => ` (${t('members.you')})`)), h.bdi({ class: 'member-id' }, member.id)),
    h.span({ class: 'member-role' }, () => role(member)),
  );
}

/** @param {Member} member */
function role(member) {
  if (member.membership === 'invite') return t('members.invited');
  if (member.power >= 100) return t('members.admin');
  return member.power >= 50 ? t('members.moderator') : '';
}
