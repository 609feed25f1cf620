/**
 * Completion while one writes: people after `@`, emoji after `:`. Owns the list above the
 * text and its keys; focus stays in the text.
 */
import { h } from '../kit/dom.js';
import { effect, signal } from '../kit/signal.js';
import { language, t } from '../i18n/index.js';
import { emojiGroups, findEmoji, noteEmoji } from '../matrix/emoji.js';
import { memberAvatar } from './names.js';

const MOST = 8;
let lastId = 0;

/** @typedef {{ id: string, face: () => Node | string, text: string, more: string, insert: string, mention?: import('../matrix/saying.js').Mention, emoji?: string }} Choice */
/** @typedef {{ start: number, end: number, choices: Choice[] }} Offer */

/**
 * @param {import('./talk.js').Talk} talk
 * @param {HTMLTextAreaElement} area
 * @param {(offer: Offer, choice: Choice) => void} take
 */
export function completion(talk, area, take) {
  const offer = signal(/** @type {Offer | null} */ (null));
  const chosen = signal(0);
  const id = `complete-${++lastId}`;
  let turn = 0;
  const look = async () => {
    const mine = ++turn;
    const { selectionStart: caret, selectionEnd: end, value } = area;
    const found = caret === end ? await wanted(talk, value.slice(0, caret)) : null;
    if (mine !== turn) return;
    chosen.value = 0;
    offer.value = found?.choices.length ? { ...found, end: caret } : null;
  };
  const close = () => {
    turn++;
    offer.value = null;
  };
  const accept = (/** @type {Choice} */ choice) => {
    const now = offer.peek();
    close();
    if (now) take(now, choice);
    if (choice.emoji) noteEmoji(localStorage, choice.emoji);
  };
  area.addEventListener('input', look);
  area.addEventListener('click', look);
  area.addEventListener('blur', close);
  area.setAttribute('aria-autocomplete', 'list');
  effect(() => {
    const open = offer.value;
    if (open) area.setAttribute('aria-activedescendant', `${id}-${chosen.value}`);
    else area.removeAttribute('aria-activedescendant');
    if (open) area.setAttribute('aria-controls', id);
    else area.removeAttribute('aria-controls');
  });
  return {
    close,
    /** @param {KeyboardEvent} event @returns {boolean} whether the key was for the list */
    key(event) {
      const now = offer.peek();
      if (!now || event.isComposing) return false;
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step) chosen.value = (chosen.peek() + step + now.choices.length) % now.choices.length;
      else if ((event.key === 'Enter' && !event.shiftKey) || event.key === 'Tab') accept(now.choices[chosen.peek()]);
      else if (event.key === 'Escape') close();
      else return false;
      event.preventDefault();
      event.stopPropagation();
      return true;
    },
    view: () => {
      const now = offer.value;
      return now && h.ul({ class: 'complete', role: 'listbox', id, 'aria-label': t('composer.suggestions') }, now.choices.map((choice, at) => option(choice, `${id}-${at}`, () => chosen.value === at, accept)));
    },
  };
}

/** @param {Choice} choice @param {string} id @param {() => boolean} isChosen @param {(choice: Choice) => void} accept */
function option(choice, id, isChosen, accept) {
  return h.li(
    {
      id,
      role: 'option',
      'aria-selected': () => String(isChosen()),
      // Not a click: the text would lose its focus first.
      onpointerdown: (/** @type {Event} */ event) => (event.preventDefault(), accept(choice)),
    },
    choice.face(),
    h.bdi({ class: 'complete-text' }, choice.text),
    h.bdi({ class: 'complete-more' }, choice.more),
  );
}

/** @param {import('./talk.js').Talk} talk @param {string} before the text up to the caret @returns {Promise<{ start: number, choices: Choice[] } | null>} */
async function wanted(talk, before) {
  const person = before.match(/(?:^|[\s(])@([^\s@][^\n@]{0,28}|)$/u);
  if (person) return { start: before.length - person[1].length - 1, choices: await people(talk, person[1]) };
  const emoji = before.match(/(?:^|[\s(])(:[\p{L}\d_+-]{2,30})$/u);
  if (!emoji) return null;
  const found = findEmoji(await emojiGroups(), emoji[1].slice(1), MOST);
  const choices = found.map(({ char, words }) => ({ id: char, face: () => h.span({ class: 'complete-emoji' }, char), text: `:${words[0]}:`, more: '', insert: char, emoji: char }));
  return { start: before.length - emoji[1].length, choices };
}

/** @param {import('./talk.js').Talk} talk @param {string} text @returns {Promise<Choice[]>} */
async function people({ client, room }, text) {
  await client.loadMembers(room).catch(() => {});
  const fold = (/** @type {string} */ one) => one.toLocaleLowerCase(language.peek()).normalize('NFKC');
  const typed = fold(text);
  const order = new Intl.Collator(language.peek());
  const lately = new Map(room.timeline.entries.slice(-200).map(({ event }, at) => [event.sender, at]));
  const found = room
    .membersWith('join')
    .filter(({ id, name }) => id !== room.me && (fold(name).split(/\s+/).some((part, at, parts) => parts.slice(at).join(' ').startsWith(typed)) || fold(id).startsWith(`@${typed}`)))
    .sort((a, b) => (lately.get(b.id) ?? -1) - (lately.get(a.id) ?? -1) || order.compare(a.name, b.name))
    .slice(0, MOST);
  /** @type {Choice[]} */
  const choices = found.map(({ id, name }) => ({ id, face: () => /** @type {any} */ (memberAvatar(room, id, 'small')), text: name, more: id, insert: `@${name} `, mention: { id, name } }));
  const everybody = room.power(room.me) >= Number(room.stateOf('m.room.power_levels')?.notifications?.room ?? 50);
  if (everybody && 'room'.startsWith(typed) && room.memberCount > 2) choices.push({ id: '@room', face: () => h.span({ class: 'complete-emoji' }, '📣'), text: '@room', more: t('composer.everybody'), insert: '@room ', mention: { id: '@room', name: 'room' } });
  return choices;
}
