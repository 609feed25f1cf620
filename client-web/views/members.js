/**
 * Who is in the room, who is invited or asks to come, and who is banned: by role, then by name.
 */
import { h, keyed } from '../kit/dom.js';
import { longList } from '../kit/list.js';
import { link } from '../kit/router.js';
import { computed, effect, signal } from '../kit/signal.js';
import { language, t } from '../i18n/index.js';
import { words } from './errors.js';
import { icon } from './icons.js';
import { memberAvatar, roleKey, withPresence } from './names.js';
import { paneHead } from './page.js';

/** Pixels; the same as `--member-row` in the style sheet. */
const ROW = 56;
/** From this many on, typing is quicker than looking. */
const WORTH_FILTERING = 12;

/** @typedef {import('../matrix/room.js').Member} Member */

/** @param {import('./app.js').App} app @param {import('../matrix/room.js').Room} room */
export function membersPane(app, room) {
  const trouble = signal('');
  const typed = signal('');
  const arriving = computed(() => room.isArriving());
  effect(() => {
    // The server answers when it knows them all.
    if (!arriving.value) app.client.loadMembers(room).catch((error) => (trouble.value = words(error)));
  });
  // Put in order once, and not at each key: there may be thousands.
  const everybody = computed(() => {
    const order = new Intl.Collator(language.value);
    const sorted = (/** @type {string} */ membership) => room.membersWith(membership).sort((a, b) => b.power - a.power || order.compare(a.name, b.name));
    return [...sorted('knock'), ...sorted('join'), ...sorted('invite'), ...(room.may('ban') ? sorted('ban') : [])];
  });
  const people = computed(() => {
    const wanted = typed.value.trim().toLowerCase();
    return wanted ? everybody.value.filter(({ id, name }) => `${name} ${id}`.toLowerCase().includes(wanted)) : everybody.value;
  });
  return h.aside(
    { class: 'pane members', 'aria-label': () => t('members.title') },
    paneHead(() => t('room.memberCount', { count: room.memberCount }), room),
    keyed(() => arriving.value, (still) => still && h.p({ class: 'members-arriving', role: 'status' }, icon('clock'), h.span(() => t('members.arriving')))),
    keyed(() => trouble.value, (text) => text && h.p({ class: 'members-trouble', role: 'alert' }, icon('alert'), h.span(() => t('members.failed'), ' ', text))),
    keyed(
      () => people.value.length >= WORTH_FILTERING || Boolean(typed.value),
      (many) => many && h.label({ class: 'filter search-box' }, icon('search'), h.input({ type: 'search', 'aria-label': () => t('members.filter'), placeholder: () => t('members.filter'), oninput: (/** @type {any} */ event) => (typed.value = event.target.value) })),
    ),
    longList({ items: () => people.value, key: (member) => `${member.id} ${member.membership} ${member.power} ${member.name}`, render: (member) => row(app, room, member), height: ROW, anew: () => typed.value }),
  );
}

/** @param {import('./app.js').App} app @param {import('../matrix/room.js').Room} room @param {Member} member */
function row(app, room, member) {
  return h.li(
    { class: `member-holder ${member.membership}` },
    h.a(
      { class: 'member', href: link('room', room.id, 'member', member.id) },
      withPresence(app.client.store, () => member.id, memberAvatar(room, member.id, 'small')),
      h.span({ class: 'member-text' }, h.bdi({ class: 'member-name' }, member.name, member.id === room.me && h.span({ class: 'member-you' }, () => ` (${t('members.you')})`)), h.bdi({ class: 'member-id' }, member.id)),
      h.span({ class: 'member-role' }, () => role(member)),
    ),
  );
}

/** @param {Member} member */
function role(member) {
  switch (member.membership) {
    case 'invite': return t('members.invited');
    case 'knock': return t('members.knocking');
    case 'ban': return t('members.banned');
    default: return member.power >= 50 ? t(roleKey(member.power)) : '';
  }
}
