/**
 * One message: who, when, what, and what became of it. Owns its row and the deeds on it.
 */
import { h, keyed } from '../kit/dom.js';
import { openDialog } from '../kit/dialog.js';
import { exact, list, size, t, time } from '../i18n/index.js';
import { isRedacted, oneLine, said } from '../matrix/events.js';
import { attempt } from './errors.js';
import { formatted, plain } from './formatted.js';
import { icon } from './icons.js';
import { hue, memberAvatar } from './names.js';

/** Faces shown of those who have read; the others are counted. */
const FACES = 4;

/** @typedef {import('../matrix/timeline.js').Entry} Entry */
/** @typedef {import('../matrix/room.js').Room} Room */
/** @typedef {import('../matrix/client.js').Client} Client */

/**
 * @param {Client} client
 * @param {Room} room
 * @param {Entry} entry
 * @param {boolean} head whether it begins a group
 */
export function messageRow(client, room, entry, head) {
  const { sender, origin_server_ts: ts } = entry.event;
  const status = () => (entry.changed.value, entry.status);
  const name = () => room.nameOf(sender);
  const stamp = () => h.time({ class: 'message-time', datetime: new Date(ts).toISOString(), title: exact(ts) }, time(ts));
  return h.li(
    { class: () => `message ${head ? 'head' : ''} ${status()} ${sender === room.me ? 'own' : ''}`, tabindex: '-1', 'data-event-id': () => (entry.changed.value, entry.event.event_id) },
    head ? memberAvatar(room, sender) : h.span({ class: 'message-gutter' }, stamp),
    h.div(
      { class: 'message-main' },
      head && h.div({ class: 'message-head' }, h.bdi({ class: `message-sender ${hue(sender)}`, title: sender }, name), stamp),
      keyed(() => (entry.changed.value, room.timeline.current(entry)), (now) => body(room, entry, now)),
      () => reactions(room, entry),
      () => (status() === 'failed' ? failed(client, room, entry) : null),
    ),
    h.div(
      { class: 'message-side' },
      () => (status() === 'sending' ? h.span({ class: 'message-sending', role: 'img', 'aria-label': t('message.sending'), title: t('message.sending') }, icon('clock')) : null),
      keyed(() => (room.readers.value.get(entry.key) ?? []).join(' '), (ids) => (ids ? readers(room, ids.split(' ')) : null)),
    ),
    keyed(() => status() === 'sent' && !isRedacted(entry.event) && (sender === room.me || room.may('redact')), (may) => (may ? tools(client, room, entry) : null)),
  );
}

/**
 * @param {Room} room
 * @param {Entry} entry
 * @param {{ content: Record<string, any>, edited: boolean, redacted: boolean }} now
 */
function body(room, entry, now) {
  if (now.redacted) return h.p({ class: 'message-body gone' }, () => deletedText(room, entry));
  const what = said(entry.event.type, now.content);
  const edited = now.edited && h.span({ class: 'message-edited' }, () => t('message.edited'));
  const quote = what.replyTo && quoted(room, what.replyTo);
  if (what.kind === 'encrypted') return notice('lock', () => t('message.encrypted'));
  if (what.kind === 'unknown' && !what.body) return notice('alert', () => t('message.unknown'));
  if (what.kind === 'file') return [quote, attachment(what), edited];
  const who = what.kind === 'emote' && h.bdi({ class: 'emote-name' }, () => room.nameOf(entry.event.sender), ' ');
  const text = what.html ? formatted(what.html) : plain(what.body);
  const look = what.html ? 'said' : `said plain ${isEmojiOnly(what.body) ? 'emoji' : ''}`;
  return [quote, h.div({ class: `message-body says-${what.kind} ${look}`, dir: 'auto' }, who, text, edited)];
}

/** @param {Room} room @param {Entry} entry */
function deletedText(room, entry) {
  const by = entry.event.unsigned?.redacted_because?.sender;
  return by && by !== entry.event.sender ? t('message.deletedBy', { name: room.nameOf(by) }) : t('message.deleted');
}

/** @param {'lock' | 'alert'} name @param {() => string} text */
function notice(name, text) {
  return h.p({ class: 'message-body message-notice' }, icon(name), h.span(text));
}

/** @param {Room} room @param {string} id */
function quoted(room, id) {
  return h.div({ class: 'quote' }, icon('reply'), () => {
    room.timeline.changed.value;
    const event = room.timeline.find(id)?.event;
    return event ? [h.bdi({ class: `quote-sender ${hue(event.sender)}` }, room.nameOf(event.sender)), h.span({ class: 'quote-text', dir: 'auto' }, oneLine(event) || t('message.deleted'))] : t('message.inReply');
  });
}

/** @param {import('../matrix/events.js').Said} what */
function attachment({ file }) {
  if (!file) return null;
  const kind = /** @type {import('../i18n/index.js').Key} */ (`file.${file.msgtype}`);
  return h.div(
    { class: 'message-body attachment' },
    icon('file'),
    h.span({ class: 'attachment-name', dir: 'auto' }, file.name),
    h.span({ class: 'attachment-kind' }, () => [t(kind), file.size !== undefined && ` · ${size(file.size)}`]),
  );
}

/** @param {Room} room @param {Entry} entry */
function reactions(room, entry) {
  const found = room.timeline.reactions(entry);
  if (!found.length) return null;
  return h.ul(
    { class: 'reactions', role: 'list' },
    found.slice(0, 30).map(({ key, senders }) =>
      h.li(
        { class: `reaction ${senders.includes(room.me) ? 'mine' : ''}`, title: t('message.reaction', { key: key.slice(0, 40), names: list(senders.slice(0, 20).map((id) => room.nameOf(id))) }) },
        h.span({ class: 'reaction-key' }, key.slice(0, 40)),
        h.span({ class: 'reaction-count' }, String(senders.length)),
      ),
    ),
  );
}

/** @param {Client} client @param {Room} room @param {Entry} entry */
function failed(client, room, entry) {
  return h.div(
    { class: 'message-failed', role: 'alert' },
    icon('alert'),
    h.span(t('message.failed')),
    h.button({ type: 'button', class: 'link', onclick: () => client.sender.retry(room, entry) }, t('action.retry')),
    h.button({ type: 'button', class: 'link', onclick: () => client.sender.discard(room, entry) }, t('action.discard')),
  );
}

/** @param {Room} room @param {string[]} ids */
function readers(room, ids) {
  const names = () => t('message.readBy', { names: list(ids.slice(0, 20).map((id) => room.nameOf(id))) });
  return h.span(
    { class: 'readers', role: 'img', 'aria-label': names, title: names },
    ids.slice(0, FACES).map((id) => memberAvatar(room, id, 'tiny')),
    ids.length > FACES && h.span({ class: 'readers-more' }, `+${ids.length - FACES}`),
  );
}

/** @param {Client} client @param {Room} room @param {Entry} entry */
function tools(client, room, entry) {
  const ask = async () => {
    const sure = await openDialog(
      t('message.delete'),
      (close) => [
        h.p(t('message.deleteConfirm')),
        h.footer(
          h.button({ type: 'button', class: 'button', onclick: () => close() }, t('action.cancel')),
          h.button({ type: 'button', class: 'button danger', onclick: () => close(true) }, t('action.delete')),
        ),
      ],
      { closeLabel: t('action.close') },
    );
    if (sure) await attempt(client.sender.redact(room, entry.event.event_id));
  };
  return h.div(
    { class: 'message-tools' },
    h.button({ type: 'button', class: 'icon-button', 'aria-label': () => t('message.delete'), title: () => t('message.delete'), onclick: ask }, icon('trash')),
  );
}

/** One to four pictograms and nothing else are shown large. @param {string} text */
function isEmojiOnly(text) {
  return text.length <= 40 && /^(?:\p{Extended_Pictographic}(?:\p{EMod}|\uFE0F|\u200D\p{Extended_Pictographic})*\s*){1,4}$/u.test(text);
}
