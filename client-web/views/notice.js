/**
 * A change of the room in one sentence.
 */
import { t } from '../i18n/index.js';

/**
 * @param {import('../matrix/room.js').Room} room
 * @param {import('../matrix/events.js').Event} event
 * @returns {string}
 */
export function noticeText(room, event) {
  const name = room.nameOf(event.sender);
  const text = (/** @type {unknown} */ value) => (typeof value === 'string' ? value.trim().slice(0, 300) : '');
  switch (event.type) {
    case 'm.room.create': return t('notice.create', { name });
    case 'm.room.member': return memberText(room, event);
    case 'm.room.name': return text(event.content.name) ? t('notice.roomName', { name, text: text(event.content.name) }) : t('notice.roomNameGone', { name });
    case 'm.room.topic': return text(event.content.topic) ? t('notice.topic', { name, text: text(event.content.topic) }) : t('notice.topicGone', { name });
    case 'm.room.avatar': return t('notice.roomPicture', { name });
    case 'm.room.encryption': return t('notice.encryption', { name });
    case 'm.room.tombstone': return t('notice.upgrade', { name });
    default: return `${name}: ${t('message.unknown')}`;
  }
}

/**
 * @param {import('../matrix/room.js').Room} room
 * @param {import('../matrix/events.js').Event} event
 */
function memberText(room, { sender, state_key: who = '', content, unsigned }) {
  const name = room.nameOf(sender);
  const target = room.nameOf(who);
  const before = unsigned?.prev_content?.membership ?? 'leave';
  const own = sender === who;
  switch (content.membership) {
    case 'invite': return t('notice.invite', { name, target });
    case 'ban': return t('notice.ban', { name, target });
    case 'knock': return t('notice.knock', { name: target });
    case 'join': {
      if (before !== 'join') return t('notice.join', { name: target });
      const was = unsigned?.prev_content?.displayname;
      const now = content.displayname;
      return was !== now ? t('notice.rename', { was: String(was ?? who).slice(0, 120), name: String(now ?? who).slice(0, 120) }) : t('notice.picture', { name: target });
    }
    default:
      if (own) return t(before === 'invite' ? 'notice.reject' : 'notice.leave', { name: target });
      if (before === 'ban') return t('notice.unban', { name, target });
      return t(before === 'invite' ? 'notice.withdraw' : 'notice.kick', { name, target });
  }
}
