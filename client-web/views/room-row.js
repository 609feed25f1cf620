/**
 * One room in the list: its picture, its name, what was said last, what is unread.
 */
import { h } from '../kit/dom.js';
import { link } from '../kit/router.js';
import { brief, t } from '../i18n/index.js';
import { isMessage, isRedacted, oneLine, said } from '../matrix/events.js';
import { roomAvatar, roomName, withPresence } from './names.js';
import { noticeText } from './notice.js';

/** @typedef {import('../matrix/room.js').Room} Room */
/** @typedef {import('./app.js').App} App */

/** @param {App} app @param {Room} room */
export function roomRow(app, room) {
  const current = () => (app.place.value.name === 'room' && app.place.value.args[0] === room.id ? 'page' : null);
  const invited = () => room.membership.value === 'invite';
  return h.li(
    { class: 'room-row-holder' },
    h.a(
      { class: () => `room-row ${room.unread.value.count || invited() ? 'unread' : ''}`, href: link('room', room.id), 'aria-current': current },
      withPresence(app.client.store, () => app.client.store.direct.value.get(room.id), roomAvatar(room)),
      h.span(
        { class: 'room-row-text' },
        h.span({ class: 'room-row-top' }, h.bdi({ class: 'room-row-name' }, () => roomName(room)), h.span({ class: 'room-row-time' }, () => (room.activity.value ? brief(room.activity.value) : ''))),
        h.span({ class: 'room-row-below' }, h.span({ class: 'room-row-preview', dir: 'auto' }, () => preview(room, app.client.store.direct.value.has(room.id))), () => badge(room)),
      ),
    ),
  );
}

/** @param {Room} room @param {boolean} isDirect a chat of two, where it is clear who speaks @returns {string} */
function preview(room, isDirect) {
  if (room.membership.value === 'knock') return t('join.asked');
  if (room.membership.value === 'invite') {
    const { inviter } = room;
    return inviter ? t(room.invitedDirectly ? 'invited.friend' : 'invited.title', { name: room.nameOf(inviter) }) : t('invited.titleUnknown');
  }
  const event = room.preview.value;
  if (!event) return t('rooms.none');
  if (!isMessage(event)) return noticeText(room, event);
  const what = said(event.type, event.content);
  const text = isRedacted(event) ? t('message.deleted') : what.file?.name || oneLine(event) || t('message.unknown');
  return isDirect || event.sender === room.me ? text : `${room.nameOf(event.sender)}: ${text}`;
}

/** @param {Room} room */
function badge(room) {
  const { count, mentions } = room.unread.value;
  if (room.membership.value === 'invite') return h.span({ class: 'badge mention', role: 'img', 'aria-label': t('rooms.invites') }, '!');
  if (!count && !mentions) return null;
  const label = mentions ? `${t('rooms.unread', { count })}, ${t('rooms.mentions', { count: mentions })}` : t('rooms.unread', { count });
  return h.span({ class: `badge ${mentions ? 'mention' : ''}`, role: 'img', 'aria-label': label, title: label }, mentions ? `@${mentions > 99 ? '99+' : mentions}` : count > 99 ? '99+' : String(count));
}
