/**
 * Putting Markdown around what is chosen: buttons and keys. Changes go by the browser's own
 * insertion, so that undo takes them back.
 */
import { h } from '../kit/dom.js';
import { t } from '../i18n/index.js';
import { icon, named } from './icons.js';

/** @type {Array<{ name: 'bold' | 'italic' | 'strike' | 'code' | 'block' | 'quote' | 'list' | 'numbers' | 'link', key?: string, around?: [string, string], line?: string }>} */
const MARKS = [
  { name: 'bold', key: 'b', around: ['**', '**'] },
  { name: 'italic', key: 'i', around: ['*', '*'] },
  { name: 'strike', around: ['~~', '~~'] },
  { name: 'code', key: 'e', around: ['`', '`'] },
  { name: 'block', around: ['```\n', '\n```'] },
  { name: 'quote', line: '> ' },
  { name: 'list', line: '- ' },
  { name: 'numbers', line: '1. ' },
  { name: 'link', key: 'k', around: ['[', '](https://)'] },
];

/** @param {HTMLTextAreaElement} area */
export function formatBar(area) {
  return h.div(
    { class: 'format-bar', role: 'toolbar', 'aria-label': t('composer.format') },
    MARKS.map((mark) => {
      const label = t(`format.${mark.name}`) + (mark.key ? ` (Ctrl+${mark.key.toUpperCase()})` : '');
      return h.button({ type: 'button', ...named(label), onpointerdown: (/** @type {Event} */ event) => event.preventDefault(), onclick: () => apply(area, mark) }, icon(mark.name === 'block' ? 'codeBlock' : mark.name));
    }),
  );
}

/** @param {HTMLTextAreaElement} area @param {KeyboardEvent} event @returns {boolean} whether it was one of these keys */
export function formatKey(area, event) {
  if (!(event.ctrlKey || event.metaKey) || event.altKey || event.shiftKey) return false;
  const mark = MARKS.find(({ key }) => key === event.key.toLowerCase());
  if (!mark) return false;
  event.preventDefault();
  apply(area, mark);
  return true;
}

/** Puts text where the caret is, in place of what is chosen. @param {HTMLTextAreaElement} area @param {string} text */
export function insert(area, text) {
  area.focus();
  // The one way that undo knows of.
  if (document.execCommand('insertText', false, text)) return;
  area.setRangeText(text, area.selectionStart, area.selectionEnd, 'end');
  area.dispatchEvent(new Event('input', { bubbles: true }));
}

/** @param {HTMLTextAreaElement} area @param {typeof MARKS[number]} mark */
function apply(area, { around, line }) {
  const { selectionStart: from, selectionEnd: to, value } = area;
  const chosen = value.slice(from, to);
  if (line) {
    const start = value.lastIndexOf('\n', from - 1) + 1;
    area.setSelectionRange(start, to);
    return insert(area, value.slice(start, to).split('\n').map((one) => line + one).join('\n'));
  }
  if (!around) return;
  insert(area, around[0] + chosen + around[1]);
  const start = from + around[0].length;
  area.setSelectionRange(start, start + chosen.length);
}
