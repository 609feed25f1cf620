/**
 * Very long words: their beginning, and the way to all of them. Owns what counts as very long.
 */
import { h } from '../kit/dom.js';
import { effect, signal } from '../kit/signal.js';
import { t } from '../i18n/index.js';

/** What has more lines or letters is folded. */
const LINES = 40;
const LETTERS = 4000;

/**
 * @param {import('./talk.js').Talk} talk
 * @param {import('../matrix/entry.js').Entry} entry
 * @param {HTMLElement} body where the words stand
 * @param {{ html?: string, body: string }} what they say
 * @returns {any} the button that unfolds them, if they are folded
 */
export function fold(talk, { key }, body, what) {
  if (!isLong(what.html ?? what.body)) return null;
  const open = signal(talk.unfolded.has(key));
  const turn = (/** @type {boolean} */ next) => {
    if (next) {
      talk.unfolded.add(key);
      // Whoever reads goes on where they are, also at the end of the conversation.
      talk.stay();
    } else talk.unfolded.delete(key);
    open.value = next;
    if (!next) body.closest('li')?.scrollIntoView({ block: 'nearest' });
  };
  effect(() => body.classList.toggle('folded', !open.value));
  // A link beyond the fold that the keyboard comes to.
  body.addEventListener('focusin', ({ target }) => /** @type {Element} */ (target).matches(':focus-visible') && !open.peek() && turn(true));
  return h.button({ type: 'button', class: 'link', 'aria-expanded': () => String(open.value), onclick: () => turn(!open.peek()) }, () => t(open.value ? 'message.less' : 'message.all'));
}

/** @param {string} text or markup */
function isLong(text) {
  return text.length > LETTERS || text.split(/\n|<br|<p\b|<li\b|<tr\b|<h\d/, LINES + 1).length > LINES;
}
