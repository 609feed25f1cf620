/**
 * A long list of rows whose heights are known, of which only those in sight (and a few more) are in
 * the document. Owns which rows exist and where they stand; refuses to know what they show.
 */
import { h, reconcile } from './dom.js';
import { effect, onStop, signal, untracked } from './signal.js';

const SPARE = 5;

/**
 * @template T
 * @param {{ items: () => T[], key: (item: T) => string, render: (item: T) => Element, height: number | ((item: T) => number), anew?: () => unknown }} options
 *   `render` makes a list item; `height` is the same as in the style sheet; when what `anew` says changes, one
 *   begins at the top
 * @returns {HTMLElement} a scrolling element with the list inside
 */
export function longList({ items, key, render, height, anew }) {
  const view = signal({ top: 0, height: 0 });
  const list = h.ul({ class: 'long-list-rows', role: 'list' });
  const scroller = h.div({ class: 'long-list' }, list);
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
    anew?.();
    if (!view.peek().top) return;
    scroller.scrollTop = 0;
    look();
  });
  effect(() => {
    const all = items();
    const { top, height: tall } = view.value;
    const tops = edges(all, height);
    const from = Math.max(0, lastAbove(tops, top) - SPARE);
    const to = Math.min(all.length, lastAbove(tops, top + tall) + 1 + SPARE);
    list.style.setProperty('height', `${tops[all.length]}px`);
    untracked(() => {
      reconcile(list, live, all.slice(from, to), key, render);
      for (let at = from; at < to; at++) place(/** @type {HTMLElement} */ (live.get(key(all[at]))?.value), at, all.length, tops[at]);
    });
  });
  return scroller;
}

/**
 * Where each row begins, and where the last one ends.
 * @template T
 * @param {T[]} items
 * @param {number | ((item: T) => number)} height
 */
export function edges(items, height) {
  const tops = [0];
  for (const item of items) tops.push(tops[tops.length - 1] + (typeof height === 'number' ? height : height(item)));
  return tops;
}

/** The last row that begins at or above a line. @param {number[]} tops @param {number} line */
export function lastAbove(tops, line) {
  return Math.max(0, firstWhere(tops.length, (at) => tops[at] > line) - 1);
}

/** The first place where it is so, and with it all that follow; `count` if nowhere. @param {number} count @param {(at: number) => boolean} isSo */
export function firstWhere(count, isSo) {
  let [low, high] = [0, count];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (isSo(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/**
 * @param {HTMLElement} row
 * @param {number} at
 * @param {number} of
 * @param {number} top
 */
function place(row, at, of, top) {
  row.style.setProperty('transform', `translateY(${top}px)`);
  row.setAttribute('aria-posinset', String(at + 1));
  row.setAttribute('aria-setsize', String(of));
}
