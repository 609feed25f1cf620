/**
 * A long list of rows of one height, of which only those in sight (and a few more) are in
 * the document. Owns which rows exist and where they stand; refuses to know what they show.
 */
import { h, reconcile } from './dom.js';
import { effect, onStop, signal, untracked } from './signal.js';

const SPARE = 8;

/**
 * @template T
 * @param {{ items: () => T[], key: (item: T) => string, render: (item: T) => Element, height: number, attrs?: object }} options
 *   `render` makes a list item; `height` is the same as in the style sheet
 * @returns {HTMLElement} a scrolling element with the list inside
 */
export function longList({ items, key, render, height, attrs = {} }) {
  const view = signal({ top: 0, height: 0 });
  const list = h.ul({ class: 'long-list-rows', role: 'list' });
  const scroller = h.div({ class: 'long-list', ...attrs }, list);
  const look = () => {
    const { top, height: tall } = view.peek();
    if (scroller.scrollTop !== top || scroller.clientHeight !== tall) view.value = { top: scroller.scrollTop, height: scroller.clientHeight };
  };
  scroller.addEventListener('scroll', look, { passive: true });
  const sizes = new ResizeObserver(look);
  sizes.observe(scroller);
  /** @type {Map<string, { value: Element, stop: () => void }>} */
  const live = new Map();
  onStop(() => {
    sizes.disconnect();
    live.forEach((one) => one.stop());
  });
  effect(() => {
    const all = items();
    const { top, height: tall } = view.value;
    const from = Math.max(0, Math.floor(top / height) - SPARE);
    const to = Math.min(all.length, Math.ceil((top + tall) / height) + SPARE);
    list.style.setProperty('height', `${all.length * height}px`);
    untracked(() => {
      reconcile(list, live, all.slice(from, to), key, render);
      for (let at = from; at < to; at++) place(/** @type {HTMLElement} */ (live.get(key(all[at]))?.value), at, all.length, height);
    });
  });
  return scroller;
}

/**
 * @param {HTMLElement} row
 * @param {number} at
 * @param {number} of
 * @param {number} height
 */
function place(row, at, of, height) {
  row.style.setProperty('transform', `translateY(${at * height}px)`);
  row.setAttribute('aria-posinset', String(at + 1));
  row.setAttribute('aria-setsize', String(of));
}
