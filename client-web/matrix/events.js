/**
 * Reading events: which are shown, what a message says, what it relates to.
 * Owns the tolerance for malformed content: whatever comes, these functions answer.
 *
 * @typedef {{
 *   type: string, event_id: string, sender: string, origin_server_ts: number,
 *   content: Record<string, any>, state_key?: string, redacts?: string,
 *   unsigned?: { transaction_id?: string, redacted_because?: any, prev_content?: any, 'm.relations'?: any, [more: string]: any },
 * }} Event
 *
 * @typedef {{ kind: 'text' | 'notice' | 'emote' | 'file' | 'encrypted' | 'unknown', body: string, html?: string,
 *   file?: FileInfo, replyTo?: string }} Said
 *
 * @typedef {{ name: string, caption: string, msgtype: string, url?: string, encrypted: boolean, size?: number, type: string,
 *   width?: number, height?: number, duration?: number, thumbnail?: string, color?: string }} FileInfo
 */
import { wordsOf } from './html-rules.js';

/** State changes that are told in the timeline. */
const TOLD_STATE = new Set([
  'm.room.create', 'm.room.member', 'm.room.name', 'm.room.topic', 'm.room.avatar', 'm.room.encryption', 'm.room.tombstone',
]);
const SAID = new Set(['m.room.message', 'm.room.encrypted', 'm.sticker']);
const FILES = new Set(['m.image', 'm.video', 'm.audio', 'm.file']);

/** Whether this has the shape that everything else relies on. @param {any} event @returns {event is Event} */
export function isEvent(event) {
  return Boolean(event) && typeof event.type === 'string' && typeof event.event_id === 'string' && typeof event.sender === 'string' && isObject(event.content);
}

/** @param {any} value */
export function isObject(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A message, as opposed to a change of the room. @param {Event} event */
export function isMessage(event) {
  return SAID.has(event.type) && event.state_key === undefined;
}

/**
 * Whether a timeline has a row for this event.
 * @param {Event} event
 * @param {string} [thread] the timeline's thread; without one, it is the room's own
 */
export function isShown(event, thread) {
  if (event.state_key !== undefined) return !thread && TOLD_STATE.has(event.type) && !isSilentMember(event);
  if (event.type === 'm.room.redaction' || event.type === 'm.reaction') return false;
  if (relation(event)?.rel_type === 'm.replace') return false;
  if (threadOf(event) !== thread && event.event_id !== thread) return false;
  // What this client doesn't know gets a row that says so, if it seems to be meant for reading.
  return isMessage(event) || typeof event.content.body === 'string';
}

/** A membership event that changes nothing a reader would see. @param {Event} event */
function isSilentMember({ type, content, unsigned }) {
  const before = unsigned?.prev_content;
  return type === 'm.room.member' && before?.membership === content.membership && before?.displayname === content.displayname && before?.avatar_url === content.avatar_url;
}

/** @param {Event} event @returns {{ rel_type?: string, event_id?: string, key?: string, 'm.in_reply_to'?: any } | undefined} */
export function relation(event) {
  const found = event.content['m.relates_to'];
  return isObject(found) ? found : undefined;
}

/** The first event of the thread that this one is in. @param {Event} event */
export function threadOf(event) {
  const found = relation(event);
  return found?.rel_type === 'm.thread' && typeof found.event_id === 'string' ? found.event_id : undefined;
}

/** What this replies to. In a thread, what is only there for clients that know no threads is no reply. @param {Record<string, any>} content */
export function repliedTo(content) {
  const relates = content['m.relates_to'];
  if (!isObject(relates) || (relates.rel_type === 'm.thread' && relates.is_falling_back)) return undefined;
  const id = relates['m.in_reply_to']?.event_id;
  return typeof id === 'string' ? id : undefined;
}

/** @param {Event} event */
export function isRedacted(event) {
  return Boolean(event.unsigned?.redacted_because);
}

/** The event that a redaction is about. spec: room version 11 moved it into the content. @param {Event} event */
export function redactionTarget(event) {
  const target = event.content.redacts ?? event.redacts;
  return typeof target === 'string' ? target : undefined;
}

/** The event without what was said in it. @param {Event} event @param {any} because @returns {Event} */
export function redacted(event, because) {
  const { membership } = event.content;
  const kept = {
    ...(event.type === 'm.room.member' && membership && { membership }),
    // Servers keep nothing of it, but while it is known to have been an edit, it gets no row;
    // and what was in a thread stays there.
    ...(relation(event)?.rel_type === 'm.replace' && { 'm.relates_to': { rel_type: 'm.replace' } }),
    ...(threadOf(event) && { 'm.relates_to': { rel_type: 'm.thread', event_id: threadOf(event) } }),
  };
  return { ...event, content: kept, unsigned: { ...event.unsigned, redacted_because: because } };
}

/**
 * What a message says, from its content or that of its latest edit.
 * @param {string} type
 * @param {Record<string, any>} content
 * @returns {Said}
 */
export function said(type, content) {
  if (type === 'm.room.encrypted') return { kind: 'encrypted', body: '' };
  const replyTo = repliedTo(content);
  const reply = replyTo ? { replyTo } : {};
  const body = typeof content.body === 'string' ? withoutFallback(content.body, Boolean(reply.replyTo)) : '';
  const html = content.format === 'org.matrix.custom.html' && typeof content.formatted_body === 'string' ? { html: content.formatted_body } : {};
  switch (type === 'm.sticker' ? 'm.image' : content.msgtype) {
    case 'm.text': return { kind: 'text', body, ...html, ...reply };
    case 'm.notice': return { kind: 'notice', body, ...html, ...reply };
    case 'm.emote': return { kind: 'emote', body, ...html, ...reply };
    case 'm.image': case 'm.video': case 'm.audio': case 'm.file': return { kind: 'file', body, ...html, ...reply, file: file(type, content) };
    default: return { kind: 'unknown', body };
  }
}

/** @param {string} type @param {Record<string, any>} content @returns {FileInfo} */
function file(type, content) {
  const info = isObject(content.info) ? content.info : {};
  const number = (/** @type {unknown} */ value, most = Infinity) => (typeof value === 'number' && value >= 0 && value <= most ? value : undefined);
  const text = (/** @type {unknown} */ value) => (typeof value === 'string' ? value : '');
  const msgtype = FILES.has(content.msgtype) ? content.msgtype : 'm.image';
  return {
    name: text(content.filename) || text(content.body),
    // spec: where a file name stands apart, the body is a caption
    caption: text(content.filename) && text(content.body) !== text(content.filename) && type !== 'm.sticker' ? text(content.body) : '',
    msgtype,
    url: text(content.url) || undefined,
    encrypted: isObject(content.file),
    size: number(info.size),
    type: text(info.mimetype).slice(0, 100),
    width: number(info.w, 100_000),
    height: number(info.h, 100_000),
    duration: number(info.duration, 1e9),
    thumbnail: text(info.thumbnail_url) || undefined,
    color: /^#[0-9a-f]{6}$/i.test(text(info['chat.hearth.color'])) ? info['chat.hearth.color'] : undefined,
  };
}

/**
 * Older clients begin a reply with the quoted message. spec: client-server-api#rich-replies
 * @param {string} body
 * @param {boolean} isReply
 */
function withoutFallback(body, isReply) {
  if (!isReply || !body.startsWith('> ')) return body;
  const lines = body.split('\n');
  const first = lines.findIndex((line) => !line.startsWith('>'));
  return first < 0 ? body : lines.slice(lines[first] === '' ? first + 1 : first).join('\n');
}

/** A message's text for one line: a preview, a quote. @param {Event} event */
export function oneLine(event) {
  const { body, html, kind } = said(event.type, event.content);
  const words = (html && wordsOf(html)?.trim()) || body;
  return kind === 'encrypted' ? '' : words.slice(0, 300).replace(/\s+/g, ' ').trim();
}
