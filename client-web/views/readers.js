/**
 * Who has read up to a message: small pictures at it, all names and times when asked; in a
 * chat of two, "seen" or "delivered" in words.
 */
import { h, keyed } from '../kit/dom.js';
import { openDialog } from '../kit/dialog.js';
import { brief, exact, list, t, time } from '../i18n/index.js';
import { icon } from './icons.js';
import { memberAvatar } from './names.js';

/** Faces shown; the others are counted. */
const FACES = 4;
const NAMED = 20;

/** @typedef {import('../matrix/entry.js').Entry} Entry */
/** @typedef {import('./talk.js').Talk} Talk */

/** Whether the room is a chat of two. @param {Talk} talk */
export function isDirect({ client, room }) {
  return client.store.direct.value.has(room.id) || (!room.stateOf('m.room.name')?.name && room.memberCount === 2);
}

/** @param {Talk} talk @param {Entry} entry */
export function readers(talk, entry) {
  const { room } = talk;
  return [
    keyed(() => (room.readers.value.get(entry.key) ?? []).join(' '), (ids) => ids && !isDirect(talk) && faces(talk, ids.split(' '))),
    entry.event.sender === room.me ? () => (isDirect(talk) && talk.lastOwn.value === entry ? fate(talk, entry) : null) : null,
  ];
}

/** @param {Talk} talk @param {string[]} ids */
function faces(talk, ids) {
  const { room } = talk;
  const names = () => t('message.readBy', { names: list(ids.slice(0, NAMED).map((id) => room.nameOf(id))) });
  return h.button(
    { type: 'button', class: 'readers', 'aria-label': names, title: names, onclick: () => readersDialog(talk, ids) },
    ids.slice(0, FACES).map((id) => memberAvatar(room, id, 'tiny')),
    ids.length > FACES && h.span({ class: 'readers-more' }, `+${ids.length - FACES}`),
  );
}

/** What became of this person's latest message in a chat of two. @param {Talk} talk @param {Entry} entry */
function fate({ room }, entry) {
  const seen = room.seenBy(entry).find((one) => one.userId !== room.me);
  if (!seen) return h.span({ class: 'fate' }, icon('check'), h.span(t('message.delivered')));
  return h.span({ class: 'fate seen', title: seen.ts ? exact(seen.ts) : null }, icon('checks'), h.span(seen.ts ? t('message.seenAt', { time: time(seen.ts) }) : t('message.seen')));
}

/** @param {Talk} talk @param {string[]} ids */
export function readersDialog({ room }, ids) {
  return openDialog(
    t('message.readByCount', { count: ids.length }),
    () =>
      h.ul(
        { class: 'reader-list', role: 'list' },
        ids.slice(0, 500).map((id) => {
          const ts = room.receipts.get(id)?.ts ?? 0;
          return h.li(memberAvatar(room, id, 'small'), h.bdi({ class: 'reader-name' }, room.nameOf(id)), ts ? h.time({ title: exact(ts) }, brief(ts)) : null);
        }),
      ),
  );
}
