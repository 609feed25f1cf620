/**
 * What a message says: words, a file, what it answers, or why it can't be shown.
 */
import { h } from '../kit/dom.js';
import { t } from '../i18n/index.js';
import { oneLine, said } from '../matrix/events.js';
import { attachment } from './attachment.js';
import { fold } from './folded.js';
import { formatted, plain } from './formatted.js';
import { icon } from './icons.js';
import { hue } from './names.js';

/** @typedef {import('../matrix/entry.js').Entry} Entry */
/** @typedef {import('./talk.js').Talk} Talk */
/** @typedef {{ content: Record<string, any>, edited: boolean, redacted: boolean }} Now */

/**
 * @param {Talk} talk
 * @param {Entry} entry
 * @param {Now} now
 */
export function messageBody(talk, entry, now) {
  if (now.redacted) return h.p({ class: 'message-body gone' }, icon('trash'), h.span(() => deletedText(talk, entry)));
  const what = said(entry.event.type, now.content);
  const edited = now.edited && h.button({ type: 'button', class: 'message-edited', title: () => t('message.history'), onclick: async () => (await import('./history.js')).historyDialog(talk, entry) }, () => t('message.edited'));
  const quote = what.replyTo && quoted(talk, what.replyTo);
  if (what.kind === 'encrypted') return notice('lock', () => t('message.encrypted'));
  if (what.kind === 'unknown' && !what.body) return notice('alert', () => t('message.unknown'));
  if (what.kind === 'file') return [quote, what.file && attachment(talk, entry, what.file), what.file?.caption && words(talk, entry, { ...what, body: what.file.caption }, edited)];
  return [quote, words(talk, entry, what, edited)];
}

/** @param {Talk} talk @param {Entry} entry @param {import('../matrix/events.js').Said} what @param {any} edited */
function words(talk, entry, what, edited) {
  const who = what.kind === 'emote' && h.bdi({ class: 'emote-name' }, () => talk.room.nameOf(entry.event.sender), ' ');
  const body = h.div({ class: `message-body says-${what.kind} ${look(what)}`, dir: 'auto' }, who, saying(what));
  return [edited ? h.div({ class: 'said-line' }, body, edited) : body, fold(talk, entry, body, what)];
}

/** The words themselves, formatted if they are. @param {{ html?: string, body: string }} what @returns {Node[]} */
export function saying(what) {
  return what.html ? formatted(what.html) : plain(what.body);
}

/** @param {{ html?: string, body: string }} what */
export function look(what) {
  return what.html ? 'said' : `said plain ${isEmojiOnly(what.body) ? 'emoji' : ''}`;
}

/** @param {Talk} talk @param {Entry} entry */
function deletedText({ room }, entry) {
  const by = entry.event.unsigned?.redacted_because?.sender;
  return by && by !== entry.event.sender ? t('message.deletedBy', { name: room.nameOf(by) }) : t('message.deleted');
}

/** @param {'lock' | 'alert'} name @param {() => string} text */
function notice(name, text) {
  return h.p({ class: 'message-body message-notice' }, icon(name), h.span(text));
}

/** The message that this one answers, with the way to it. @param {Talk} talk @param {string} id */
function quoted(talk, id) {
  const { room } = talk;
  const event = () => {
    talk.timeline.value.changed.value;
    for (const timeline of [talk.timeline.value, room.timeline, ...room.others]) {
      const entry = timeline.find(id);
      // As it reads now, if it was edited.
      if (entry) return { ...entry.event, content: timeline.current(entry).content };
    }
    return talk.ask(id).value;
  };
  return h.button({ type: 'button', class: 'quote', 'aria-label': () => quoteLabel(talk, event()), onclick: () => talk.show(id) }, icon('reply'), () => {
    const found = event();
    if (!found) return t('message.inReply');
    return [h.bdi({ class: `quote-sender ${hue(found.sender)}` }, room.nameOf(found.sender)), h.span({ class: 'quote-text', dir: 'auto' }, summary(found))];
  });
}

/** @param {Talk} talk @param {any} event */
function quoteLabel({ room }, event) {
  return event ? t('message.inReplyTo', { name: room.nameOf(event.sender), text: summary(event) }) : t('message.inReply');
}

/** @param {import('../matrix/events.js').Event} event @returns {string} */
export function summary(event) {
  const { file } = said(event.type, event.content);
  if (file) return `${t(/** @type {import('../i18n/index.js').Key} */ (`file.${file.msgtype}`))}: ${file.name}`.slice(0, 200);
  return oneLine(event) || t('message.deleted');
}

/** One to four pictograms and nothing else are shown large. @param {string} text */
function isEmojiOnly(text) {
  return text.length <= 40 && /^(?:\p{Extended_Pictographic}(?:\p{EMod}|\uFE0F|\u200D\p{Extended_Pictographic})*\s*){1,4}$/u.test(text);
}
