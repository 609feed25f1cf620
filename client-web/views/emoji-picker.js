/**
 * Choosing an emoji: lately used ones, all by kind, or by a word. One popover for the page,
 * at whichever button asked for it.
 */
import { h } from '../kit/dom.js';
import { scope, signal } from '../kit/signal.js';
import { t } from '../i18n/index.js';
import { QUICK, emojiGroups, findEmoji, noteEmoji, recentEmoji } from '../matrix/emoji.js';
import { icon } from './icons.js';

const FOUND = 80;
/** Per row, as in the style sheet: for the arrow keys. */
const COLUMNS = 8;

/** @typedef {import('../matrix/emoji.js').Group} Group */

/** @param {HTMLElement} from the button it stands at @param {(char: string) => void} take */
export function openEmojiPicker(from, take) {
  const all = signal(/** @type {Group[]} */ ([]));
  const typed = signal('');
  emojiGroups().then((groups) => (all.value = groups));
  const choose = (/** @type {string} */ char) => {
    noteEmoji(localStorage, char);
    picker.hidePopover();
    take(char);
  };
  const { value: picker, stop } = scope(() =>
    h.div(
      { class: 'emoji-picker', popover: 'auto', role: 'dialog', 'aria-label': t('emoji.title'), onkeydown: arrows },
      h.label({ class: 'search-box' }, icon('search'), h.input({ type: 'search', 'aria-label': t('emoji.search'), placeholder: t('emoji.search'), autofocus: true, oninput: (/** @type {any} */ event) => (typed.value = event.target.value), onkeydown: (/** @type {KeyboardEvent} */ event) => event.key === 'Enter' && (event.preventDefault(), first(picker)) })),
      h.div({ class: 'emoji-all' }, () => (typed.value.trim() ? results(all.value, typed.value, choose) : groups(all.value, choose))),
    ),
  );
  picker.addEventListener('toggle', (/** @type {ToggleEvent} */ event) => {
    if (event.newState === 'open') return;
    stop();
    picker.remove();
    if (from.isConnected && document.activeElement === document.body) from.focus();
  });
  // In a dialog or beside it, the popover has to be in the same top layer.
  (from.closest('dialog') ?? document.body).append(picker);
  picker.showPopover();
  place(from, picker);
}

/** @param {Group[]} all @param {string} text @param {(char: string) => void} choose */
function results(all, text, choose) {
  const found = findEmoji(all, text, FOUND);
  return found.length ? grid(found, choose) : h.p({ class: 'emoji-none' }, t('emoji.none'));
}

/** @param {Group[]} all @param {(char: string) => void} choose */
function groups(all, choose) {
  const recent = [...new Set([...recentEmoji(localStorage), ...QUICK])].slice(0, COLUMNS * 2);
  const words = new Map(all.flatMap(({ list }) => list.map((emoji) => [emoji.char, emoji])));
  return [
    section(t('emoji.recent'), recent.map((char) => words.get(char) ?? { char, words: [] }), choose),
    all.map(({ name, list }) => section(t(`emoji.${name}`), list, choose)),
  ];
}

/** @param {string} title @param {import('../matrix/emoji.js').Emoji[]} list @param {(char: string) => void} choose */
function section(title, list, choose) {
  return h.section({ class: 'emoji-section' }, h.h3(title), grid(list, choose));
}

/** @param {import('../matrix/emoji.js').Emoji[]} list @param {(char: string) => void} choose */
function grid(list, choose) {
  const onclick = (/** @type {Event} */ event) => {
    const button = /** @type {HTMLElement} */ (event.target).closest('button');
    if (button) choose(button.textContent ?? '');
  };
  return h.div({ class: 'emoji-grid', onclick }, list.map(({ char, words }) => h.button({ type: 'button', title: words[0] && `:${words[0]}:`, 'aria-label': words[0]?.replaceAll('_', ' ') ?? char }, char)));
}

/** @param {HTMLElement} picker */
function first(picker) {
  /** @type {HTMLElement | null} */ (picker.querySelector('.emoji-grid button'))?.click();
}

/** @param {KeyboardEvent} event */
function arrows(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: COLUMNS, ArrowUp: -COLUMNS }[event.key];
  const picker = /** @type {HTMLElement} */ (event.currentTarget);
  const target = /** @type {HTMLElement} */ (event.target);
  const all = [.../** @type {NodeListOf<HTMLElement>} */ (picker.querySelectorAll('.emoji-grid button'))];
  if (!step || (target.matches('input') && event.key !== 'ArrowDown')) return;
  event.preventDefault();
  const at = all.indexOf(target);
  (all[at < 0 ? 0 : at + step] ?? picker.querySelector('input'))?.focus();
}

/** Above the button or below it, within the page. @param {HTMLElement} from @param {HTMLElement} picker */
function place(from, picker) {
  const at = from.getBoundingClientRect();
  const { width, height } = picker.getBoundingClientRect();
  picker.style.left = `${Math.max(8, Math.min(at.right - width, innerWidth - width - 8))}px`;
  picker.style.top = `${at.top - height - 6 > 8 ? at.top - height - 6 : Math.max(8, Math.min(at.bottom + 6, innerHeight - height - 8))}px`;
}
