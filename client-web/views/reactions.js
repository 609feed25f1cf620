/**
 * The reactions under a message: how many gave which, and giving the same by one click.
 */
import { h } from '../kit/dom.js';
import { list, number, t } from '../i18n/index.js';
import { noteEmoji } from '../matrix/emoji.js';
import { attempt } from './errors.js';

/** Kinds shown, and names told of each. */
const MOST = 30;
const NAMED = 20;

/** @typedef {import('../matrix/entry.js').Entry} Entry */
/** @typedef {import('./talk.js').Talk} Talk */

/** @param {Talk} talk @param {Entry} entry */
export function reactions(talk, entry) {
  const { room } = talk;
  const found = talk.timeline.peek().reactions(entry);
  if (!found.length) return null;
  return h.ul(
    { class: 'reactions', role: 'list' },
    found.slice(0, MOST).map(({ key, senders }) => {
      const mine = senders.includes(room.me);
      const label = t('message.reaction', { key: key.slice(0, 40), count: senders.length, names: list(senders.slice(0, NAMED).map((id) => room.nameOf(id))) });
      return h.li(
        h.button(
          { type: 'button', class: `reaction ${mine ? 'mine' : ''}`, 'aria-pressed': String(mine), 'aria-label': label, title: label, 'aria-disabled': room.maySend('m.reaction') ? null : 'true', onclick: () => react(talk, entry, key) },
          h.bdi({ class: 'reaction-key' }, key.slice(0, 40)),
          h.span({ class: 'reaction-count' }, number(senders.length)),
        ),
      );
    }),
  );
}

/** @param {Talk} talk @param {Entry} entry @param {string} key */
export function react({ client, room }, entry, key) {
  if (!room.maySend('m.reaction')) return;
  noteEmoji(localStorage, key);
  attempt(client.saying.react(room, entry, key));
}
