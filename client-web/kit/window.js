/**
 * A window on a list of rows of differing heights that grows at both ends: a timeline.
 * Owns which rows are in the document (never more than `MOST`), keeping what is being read
 * where it is when rows come or go above it, and staying at the end while the reader is there.
 */
import { h, reconcile } from './dom.js';
import { firstWhere } from './list.js';
import { effect, onStop, signal, untracked } from './signal.js';

/** Rows in the document at most; shown at first; that come with one frame, so few that it bears them twice. */
const MOST = 150;
const FIRST = 60;
const STEP = 6;
/** Pixels from an end at which a step is taken. */
const NEAR = 1100;
/** Milliseconds for which a row that was gone to stands out. */
const SHOWN_FOR = 2500;
/** This close to the end counts as being at it. */
const AT_END = 48;

/**
 * @template T
 * @param {{ items: () => T[], key: (item: T) => string, render: (item: T) => Element, attrs?: object, onTop: () => void, onBottom?: () => void, open?: () => boolean }} options
 *   `onTop` and `onBottom` are called when the reader nears the first or the last item there is; while
 *   `open()`, more follows the last one, which then is no end to stay at
 */
export function windowed({ items, key, render, attrs = {}, onTop, onBottom = () => {}, open = () => false }) {
  const list = h.ol({ class: 'window-rows', ...attrs });
  const scroller = h.div({ class: 'window', tabindex: '0' }, list);
  const atEnd = signal(true);
  /** @type {Map<string, { value: Element, stop: () => void }>} */
  const live = new Map();
  /** @type {T[]} */
  let all = [];
  let from = 0;
  let to = 0;

  let lastTop = 0;
  let resting = false;
  /** Tells the row to go to, once it is here. @type {((item: T) => boolean) | undefined} */
  let wanted;

  const toEnd = () => {
    scroller.scrollTop = scroller.scrollHeight;
    lastTop = scroller.scrollTop;
  };

  const draw = (/** @type {ReturnType<typeof sights> | null} */ seen = sights(list, scroller)) => {
    const hadFocus = list.contains(document.activeElement);
    reconcile(list, live, all.slice(from, to), key, render);
    // A row that goes must not take the focus along to nowhere.
    if (hadFocus && !list.contains(document.activeElement)) scroller.focus({ preventScroll: true });
    if (atEnd.peek()) return toEnd();
    // The last one: the first may be the list's own edge, which stays above what comes.
    const kept = seen?.findLast(({ el }) => el.isConnected);
    if (kept) scroller.scrollTop += kept.el.getBoundingClientRect().top - kept.top;
  };

  /** One change of the document per frame: scrolling, sizes and new rows all ask for one. */
  const rest = () => {
    if (resting) return;
    resting = true;
    requestAnimationFrame(() => {
      resting = false;
      grow();
    });
  };

  /** Pixels above and below what is in sight. */
  const room = () => ({ above: scroller.scrollTop, below: scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight });

  const step = () => {
    const { above, below } = room();
    // Only going up leaves the end: rows that grow move it away, but not the reader.
    if (below < AT_END && to === all.length && !open()) atEnd.value = true;
    else if (above < lastTop) atEnd.value = false;
    lastTop = above;
    if (resting) return;
    if ((above < NEAR && from > 0) || (below < NEAR && to < all.length)) rest();
    else if (scroller.clientHeight > 0) {
      if (above < NEAR && from === 0) onTop();
      if (below < NEAR && to === all.length) onBottom();
    }
  };

  /** Brings some rows where the reader nears an end of those that are here. */
  const grow = () => {
    const { above, below } = room();
    if (above < NEAR && from > 0) {
      from = Math.max(0, from - STEP);
      to = Math.min(to, from + MOST);
    } else if (below < NEAR && to < all.length) {
      to = Math.min(all.length, to + STEP);
      from = Math.max(from, to - MOST);
    } else return step();
    draw();
    rest();
  };

  /** Goes to the wanted row if it is here. */
  const arrive = () => {
    const at = wanted ? all.findIndex(wanted) : -1;
    if (at < 0) return false;
    atEnd.value = false;
    from = clamp(at - FIRST / 2, 0, all.length);
    to = clamp(at + FIRST / 2, 0, all.length);
    reconcile(list, live, all.slice(from, to), key, render);
    const row = /** @type {HTMLElement} */ (live.get(key(all[at]))?.value);
    wanted = undefined;
    row.scrollIntoView({ block: row.offsetHeight > scroller.clientHeight ? 'start' : 'center' });
    lastTop = scroller.scrollTop;
    row.classList.add('sought');
    setTimeout(() => row.classList.remove('sought'), SHOWN_FOR);
    row.focus({ preventScroll: true });
    requestAnimationFrame(step);
    return true;
  };

  const change = (/** @type {T[]} */ next) => {
    const seen = all.length && !atEnd.peek() ? sights(list, scroller) : null;
    if (seen?.length) {
      const places = seen.map(({ at }) => from + at);
      const moved = shift(all, next, places, key);
      // Rows that came before need room above those in sight to be scrolled into.
      from = clamp(from + moved - (moved > 0 ? STEP : 0), 0, next.length - 1);
      const last = places[places.length - 1] + moved + 1;
      to = clamp(Math.max(last, Math.min(to + moved, from + MOST)), 0, next.length);
    } else {
      to = next.length;
      from = Math.max(0, to - Math.max(FIRST, Math.min(MOST, live.size)));
    }
    all = next;
    if (arrive()) return;
    draw(seen);
    // What came may not fill the view, or may have brought its end near.
    rest();
  };

  scroller.addEventListener('scroll', step, { passive: true });
  // Pictures, fonts and a growing composer change heights: stay at the end through them.
  const sizes = new ResizeObserver(() => {
    if (atEnd.peek()) toEnd();
    step();
  });
  sizes.observe(scroller);
  sizes.observe(list);
  onStop(() => {
    sizes.disconnect();
    live.forEach((one) => one.stop());
  });
  effect(() => {
    const next = items();
    untracked(() => change(next));
  });

  return {
    el: scroller,
    atEnd,
    /** Goes to the first row that is meant, now or as soon as it comes. @param {(item: T) => boolean} isIt */
    show(isIt) {
      wanted = isIt;
      arrive();
    },
    /** Stays where the reader is although the last rows are about to grow. */
    stay() {
      atEnd.value = false;
    },
    /** Shows the newest rows. */
    jumpToEnd() {
      wanted = undefined;
      to = all.length;
      from = Math.max(0, to - FIRST);
      atEnd.value = true;
      draw();
    },
    /** Looks again whether more is wanted, for when the reason not to has gone. */
    look: step,
  };
}

/** @param {number} value @param {number} low @param {number} high */
function clamp(value, low, high) {
  return Math.max(low, Math.min(value, high));
}

/**
 * The rows in sight, and where they stand.
 * @param {Element} list
 * @param {Element} scroller
 */
function sights(list, scroller) {
  const view = scroller.getBoundingClientRect();
  const els = [...list.children];
  const seen = [];
  // They stand one below the other: the first in sight is found without asking all where they are.
  for (let at = firstWhere(els.length, (one) => els[one].getBoundingClientRect().bottom > view.top); at < els.length; at++) {
    const { top } = els[at].getBoundingClientRect();
    if (top >= view.bottom) break;
    seen.push({ el: els[at], at, top });
  }
  return seen;
}

/**
 * How far the rows in sight have moved from one list to the next. Nearly always by nothing
 * (rows were added behind them) or by the growth (rows were added before them).
 * @template T
 * @param {T[]} before
 * @param {T[]} after
 * @param {number[]} places of the rows in sight
 * @param {(item: T) => string} key
 */
function shift(before, after, places, key) {
  const growth = after.length - before.length;
  // The row at the edge may have changed its key with its neighbour: ask the last one first.
  for (const at of places.toReversed()) {
    for (const by of [0, growth]) if (after[at + by] && key(after[at + by]) === key(before[at])) return by;
  }
  const now = new Map(after.map((item, at) => [key(item), at]));
  for (const at of places) {
    const found = now.get(key(before[at]));
    if (found !== undefined) return found - at;
  }
  return growth;
}
