/**
 * One member of a room, beside the conversation: who they are, their role, and what this
 * person may do about them here.
 */
import { h } from '../kit/dom.js';
import { link } from '../kit/router.js';
import { t } from '../i18n/index.js';
import { ROLES } from '../matrix/rooms.js';
import { confirm } from './dialogs.js';
import { attempt } from './errors.js';
import { icon } from './icons.js';
import { memberAvatar, roleKey, withPresence } from './names.js';
import { paneHead } from './page.js';
import { presenceText, tieButtons } from './person.js';

/** @typedef {import('../matrix/room.js').Room} Room */

/** @param {import('./app.js').App} app @param {Room} room @param {string} id */
export function memberPane(app, room, id) {
  const { client } = app;
  const who = () => room.member(id);
  const name = () => room.nameOf(id);
  return h.aside(
    { class: 'pane member-pane', 'aria-label': () => t('members.one') },
    paneHead(() => t('members.one'), room, 'members'),
    h.div(
      { class: 'pane-scroll' },
      h.section(
        { class: 'person-card' },
        withPresence(client.store, () => id, memberAvatar(room, id, 'huge')),
        h.h3({ dir: 'auto' }, () => who().name),
        h.a({ class: 'row-note', href: link('user', id) }, id),
        () => (presenceText(client.store, id) ? h.p({ class: 'hint', dir: 'auto' }, presenceText(client.store, id)) : null),
        id !== room.me && h.div({ class: 'row-actions' }, tieButtons(app, id)),
      ),
      () => roleField(app, room, id),
      () => (id === room.me ? null : deeds(app, room, id, name)),
    ),
  );
}

/** @param {import('./app.js').App} app @param {Room} room @param {string} id */
function roleField(app, room, id) {
  const { power, membership } = room.member(id);
  if (membership !== 'join' && membership !== 'invite') return h.p({ class: 'chip bad' }, t(membership === 'ban' ? 'members.banned' : membership === 'knock' ? 'members.knocking' : 'members.left'));
  const mine = room.power(room.me);
  const may = room.maySet('m.room.power_levels') && power !== Infinity && (id === room.me ? mine !== Infinity : room.outranks(id));
  if (!may) return h.p({ class: 'member-role-line' }, h.span({ class: 'hint' }, t('members.role')), h.span({ class: 'chip' }, t(roleKey(power))));
  const change = async (/** @type {any} */ event) => {
    const wanted = Number(event.target.value);
    if (id === room.me && !(await confirm(t('members.role'), t('members.demoteSelf'), t('members.demote')))) {
      event.target.value = String(power);
      return;
    }
    if ((await attempt(app.client.rooms.setPower(room, id, wanted))) === undefined) event.target.value = String(power);
  };
  const levels = [...new Set([...Object.values(ROLES), power])].filter((level) => level <= mine).sort((a, b) => a - b);
  const named = (/** @type {number} */ level) => (/** @type {number[]} */ (Object.values(ROLES)).includes(level) ? t(roleKey(level)) : `${t(roleKey(level))} (${level})`);
  return h.div({ class: 'field' }, h.label({ for: 'member-role' }, t('members.role')), h.select({ id: 'member-role', onchange: change }, levels.map((level) => h.option({ value: String(level), selected: level === power }, named(level)))));
}

/** @param {import('./app.js').App} app @param {Room} room @param {string} id @param {() => string} name */
function deeds(app, room, id, name) {
  const { rooms } = app.client;
  const { membership } = room.member(id);
  const outranks = room.outranks(id);
  const values = () => ({ name: name(), room: room.title().kind === 'name' ? /** @type {any} */ (room.title()).name : '' });
  /** @param {'kick' | 'ban'} deed @param {import('../i18n/index.js').Key} key @param {import('../i18n/index.js').Key} hint */
  const harsh = (deed, key, hint) => async () => {
    if (await confirm(t(key), t(hint, values()), t(key))) await attempt(rooms.remove(room, deed, id));
  };
  const button = (/** @type {import('./icons.js').IconName} */ picture, /** @type {import('../i18n/index.js').Key} */ key, /** @type {() => any} */ act, danger = true) =>
    h.button({ type: 'button', class: `button ${danger ? 'danger-text' : ''}`, onclick: act }, icon(picture), t(key));
  return h.div(
    { class: 'member-deeds' },
    membership === 'knock' && room.may('invite') && button('check', 'members.letIn', () => attempt(app.client.invite(room, id)), false),
    membership === 'knock' && room.may('kick') && outranks && button('leave', 'members.refuse', () => attempt(rooms.remove(room, 'kick', id))),
    membership === 'join' && room.may('kick') && outranks && button('leave', 'members.kick', harsh('kick', 'members.kick', 'members.kickHint')),
    membership === 'invite' && room.may('kick') && outranks && button('leave', 'members.withdraw', () => attempt(rooms.remove(room, 'kick', id))),
    membership !== 'ban' && room.may('ban') && outranks && button('block', 'members.ban', harsh('ban', 'members.ban', 'members.banHint')),
    membership === 'ban' && room.may('ban') && outranks && button('check', 'members.unban', () => attempt(rooms.remove(room, 'unban', id)), false),
  );
}
