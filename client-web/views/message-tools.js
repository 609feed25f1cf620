/**
 * What can be done with a message: one bar of buttons that goes to the message under the
 * pointer or with the focus, and the keys that do the same. Owns which deeds are offered.
 */
import { h } from '../kit/dom.js';
import { openDialog } from '../kit/dialog.js';
import { menu, menuItem } from '../kit/menu.js';
import { scope } from '../kit/signal.js';
import { toast } from '../kit/toast.js';
import { t } from '../i18n/index.js';
import { isRedacted, said } from '../matrix/events.js';
import { serverOf } from '../matrix/ids.js';
import { permalink } from '../matrix/saying.js';
import { confirm } from './dialogs.js';
import { attempt } from './errors.js';
import { icon, named } from './icons.js';
import { entryOf } from './message.js';
import { react } from './reactions.js';

/** Servers named in a link: enough that one of them is still there. */
const VIA = 3;
/** Pixels by which the bar stands above its row. */
const ABOVE = 16;

/** @typedef {import('../matrix/entry.js').Entry} Entry */
/** @typedef {import('./talk.js').Talk} Talk */

/** @param {Talk} talk @param {HTMLElement} scroller */
export function messageTools(talk, scroller) {
  /** @type {Element | null} */
  let row = null;
  let stop = () => {};
  /** @type {HTMLElement | undefined} */
  let bar;

  const place = (/** @type {Element | null} */ next) => {
    // Not away from under an open menu.
    if (!next || (next === row && bar?.isConnected) || bar?.querySelector(':popover-open')) return;
    stop();
    bar?.remove();
    row = next;
    const entry = entryOf(next);
    if (!entry || entry.status !== 'sent' || isRedacted(entry.event)) return;
    // Where there is no room above the row, it stands inside.
    const inside = next.getBoundingClientRect().top - scroller.getBoundingClientRect().top < ABOVE;
    ({ value: bar, stop } = scope(() => buttons(talk, entry, inside)));
    next.append(/** @type {HTMLElement} */ (bar));
  };
  const rowOf = (/** @type {Event} */ event) => /** @type {Element} */ (event.target).closest?.('.message') ?? null;
  // Where the pointer goes, not what is scrolled under it as it rests.
  scroller.addEventListener('pointermove', (event) => event.pointerType !== 'touch' && place(rowOf(event)));
  scroller.addEventListener('focusin', (event) => place(rowOf(event)));
  scroller.addEventListener('keydown', (event) => keys(talk, scroller, event));
  return { stop: () => stop() };
}

/** @param {Talk} talk @param {Entry} entry @param {boolean} inside */
function buttons(talk, entry, inside) {
  const { room } = talk;
  const button = (/** @type {Parameters<typeof icon>[0]} */ name, /** @type {string} */ label, /** @type {(event: Event) => void} */ onclick) =>
    h.button({ type: 'button', ...named(label), onclick }, icon(name));
  return h.div(
    { class: `message-tools ${inside ? 'inside' : ''}`, role: 'toolbar', 'aria-label': t('message.tools') },
    may.react(talk, entry) && button('smile', t('message.react'), (event) => reactFrom(talk, entry, /** @type {HTMLElement} */ (event.currentTarget))),
    may.reply(talk, entry) && button('reply', t('message.reply'), () => deeds.reply(talk, entry)),
    may.thread(talk, entry) && button('thread', t('message.thread'), () => deeds.thread(talk, entry)),
    may.edit(talk, entry) && button('edit', t('message.edit'), () => deeds.edit(talk, entry)),
    menu({ ...named(t('action.more')) }, icon('more'), [
      menuItem(() => t('message.copyLink'), () => copy(link(talk, entry), t('message.linkCopied')), { icon: icon('link') }),
      said(entry.event.type, entry.event.content).body && menuItem(() => t('message.copyText'), () => copy(said(entry.event.type, talk.timeline.peek().current(entry).content).body, t('message.textCopied')), { icon: icon('copy') }),
      may.pin(talk, entry) && menuItem(() => t(room.pinned().includes(entry.event.event_id) ? 'message.unpin' : 'message.pin'), () => pin(talk, entry), { icon: icon('pin') }),
      talk.timeline.peek().current(entry).edited && menuItem(() => t('message.history'), async () => (await import('./history.js')).historyDialog(talk, entry), { icon: icon('clock') }),
      may.remove(talk, entry) && menuItem(() => t('message.delete'), () => deeds.remove(talk, entry), { icon: icon('trash') }),
    ]),
  );
}

/** What this person may do with a message. @type {Record<string, (talk: Talk, entry: Entry) => boolean>} */
const may = {
  react: ({ room }) => room.maySend('m.reaction'),
  reply: ({ room }) => room.maySend(),
  thread: ({ room, thread }) => !thread && room.maySend(),
  edit: ({ room, timeline }, entry) => entry.event.sender === room.me && room.maySend() && ['text', 'emote'].includes(said(entry.event.type, timeline.peek().current(entry).content).kind),
  pin: ({ room }) => room.maySet('m.room.pinned_events'),
  remove: ({ room }, entry) => (entry.event.sender === room.me ? room.maySend('m.room.redaction') : room.may('redact')),
};

/** @type {Record<string, (talk: Talk, entry: Entry) => void>} */
export const deeds = {
  reply(talk, entry) {
    talk.editing.value = null;
    talk.replyTo.value = entry;
  },
  edit(talk, entry) {
    talk.replyTo.value = null;
    talk.editing.value = entry;
  },
  thread: ({ app, room }, entry) => app.go('room', room.id, 'thread', entry.event.event_id),
  async remove({ client, room }, entry) {
    if (await confirm(t('message.delete'), t('message.deleteConfirm'), t('action.delete'))) await attempt(client.sender.redact(room, entry.event.event_id));
  },
};

/** @param {Talk} talk @param {Entry} entry @param {HTMLElement} from */
async function reactFrom(talk, entry, from) {
  const { openEmojiPicker } = await import('./emoji-picker.js');
  openEmojiPicker(from, (char) => react(talk, entry, char));
}

/** @param {Talk} talk @param {Entry} entry */
async function pin({ client, room }, entry) {
  const id = entry.event.event_id;
  await attempt(client.saying.pin(room, id, !room.pinned().includes(id)));
}

/** @param {Talk} talk @param {Entry} entry */
function link({ client, room }, entry) {
  const counts = new Map([[client.server, 1e9]]);
  for (const { id } of room.membersWith('join')) counts.set(serverOf(id), (counts.get(serverOf(id)) ?? 0) + 1);
  const via = [...counts].sort(([, a], [, b]) => b - a).slice(0, VIA).map(([server]) => server);
  return permalink(room.id, entry.event.event_id, via);
}

/** @param {string} text @param {string} done */
async function copy(text, done) {
  try {
    await navigator.clipboard.writeText(text);
    toast(done);
  } catch {
    // Not every page may write there: show it, to be copied by hand.
    openDialog(t('message.copyLink'), () => h.input({ class: 'inline-field', readonly: true, value: text, 'aria-label': t('message.copyLink'), autofocus: true, onfocus: (/** @type {any} */ event) => event.target.select() }));
  }
}

/** Up and down go from message to message; letters do what the buttons do. @param {Talk} talk @param {HTMLElement} scroller @param {KeyboardEvent} event */
function keys(talk, scroller, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const target = /** @type {HTMLElement} */ (event.target);
  const onRow = target.matches('.message, .notice');
  if (!onRow && target !== scroller) return;
  const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (step) {
    event.preventDefault();
    const all = [.../** @type {NodeListOf<HTMLElement>} */ (scroller.querySelectorAll('.message, .notice'))];
    const next = onRow ? all[all.indexOf(target) + step] : all.at(-1);
    next?.focus({ preventScroll: true });
    next?.scrollIntoView({ block: 'nearest' });
    return;
  }
  const entry = entryOf(target);
  const deed = { r: 'reply', e: 'edit', t: 'thread', Delete: 'remove' }[event.key];
  if (!entry || !deed || entry.status !== 'sent' || isRedacted(entry.event) || !may[deed](talk, entry)) return;
  event.preventDefault();
  deeds[deed](talk, entry);
}
