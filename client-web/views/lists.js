/**
 * Lists of rows of which more come when they are wanted: all at hand already, or asked for page by page. Owns the
 * asking, and that rows stay and the focus goes on to the new ones; who uses it says how a row looks.
 */
import { each, h, keyed } from '../kit/dom.js';
import { onStop, signal } from '../kit/signal.js';
import { t } from '../i18n/index.js';
import { words } from './errors.js';
import { icon } from './icons.js';
import { skeletonRows } from './page.js';

/** Rows of what is at hand at first, and with each wish for more. */
const SHOWN = 50;
/** Between the last key and the question. */
const PAUSE = 300;

/**
 * @template T
 * @typedef {{ items: () => T[], row: (item: T) => Element, key?: (item: T) => string, isMore: () => boolean, more: () => unknown, busy?: () => boolean, look?: string }} Growing
 */

/** @type {WeakMap<object, string>} */
const keys = new WeakMap();
let lastKey = 0;

/** Each item is itself, and no other. @param {any} item */
function itself(item) {
  const key = keys.get(item) ?? String(++lastKey);
  keys.set(item, key);
  return key;
}

/**
 * Rows, and the button for more.
 * @template T
 * @param {Growing<T>} options
 */
export function growing({ items, row, key = itself, isMore, more, busy = () => false, look = 'card flush' }) {
  const list = each(h.ul({ class: look, role: 'list' }), items, key, row);
  const onclick = async () => {
    if (busy()) return;
    const before = list.childElementCount;
    await more();
    /** @type {HTMLElement | null | undefined} */ (list.children[before]?.querySelector('a, button'))?.focus();
  };
  const button = () => h.button({ type: 'button', class: 'button more-button', 'aria-disabled': () => (busy() ? 'true' : null), onclick }, () => t('action.showMore'));
  return [list, keyed(isMore, (any) => (any ? button() : null))];
}

/**
 * Of a long list that is at hand the first rows, and more when wanted.
 * @template T
 * @param {() => T[]} all
 * @param {(item: T) => string} key
 * @param {(item: T) => Element} row
 */
export function rows(all, key, row) {
  const most = signal(SHOWN);
  return growing({ items: () => all().slice(0, most.value), key, row, isMore: () => all().length > most.value, more: () => (most.value += SHOWN) });
}

/**
 * A list to be asked for, and asked for anew as one types.
 * @template T, N
 * @param {(from: N | undefined) => Promise<{ rows: T[], next?: N, total?: number }>} ask
 */
export function asked(ask) {
  /** @typedef {{ rows: T[], next?: N, total?: number, waiting: boolean, problem: string }} Found */
  const nothing = () => /** @type {Found} */ ({ rows: [], waiting: true, problem: '' });
  const found = signal(nothing());
  let turn = 0;
  /** Whether there is more than the first part. */
  let hasGrown = false;
  /** @type {any} */
  let pause;
  const look = async (more = false) => {
    clearTimeout(pause);
    hasGrown = more;
    const mine = ++turn;
    const before = found.peek();
    found.value = { ...before, waiting: true, problem: '' };
    try {
      const answer = await ask(more ? before.next : undefined);
      if (mine === turn) found.value = { ...answer, rows: more ? [...before.rows, ...answer.rows] : answer.rows, waiting: false, problem: '' };
    } catch (error) {
      if (mine === turn) found.value = { ...before, waiting: false, problem: words(error) };
    }
  };
  onStop(() => clearTimeout(pause));
  look();
  return {
    found,
    /** Asks anew, or for more of the same. */
    look,
    /** Asks anew unasked, where that takes nothing away; what goes wrong is left to the next time. */
    async refresh() {
      const mine = turn;
      const { waiting, problem } = found.peek();
      if (waiting || problem || hasGrown) return;
      const answer = await ask(undefined).catch(() => null);
      if (answer && mine === turn) found.value = { ...answer, waiting: false, problem: '' };
    },
    /** Asks for something else: what was found is of no use. */
    afresh() {
      found.value = nothing();
      look();
    },
    /** Asks anew, once nothing more is typed. */
    soon() {
      clearTimeout(pause);
      pause = setTimeout(look, PAUSE);
    },
  };
}

/**
 * What such a list has come to: rows, none, what went wrong, or that it is still to come.
 * @template T, N
 * @param {ReturnType<typeof asked<T, N>>} list
 * @param {(item: T) => Element} row
 * @param {() => any} none
 * @param {(item: T) => string} [key] what is the same by it stays as it is
 */
export function answered({ found, look }, row, none, key) {
  const state = () => {
    const { rows: some, waiting, problem } = found.value;
    if (problem) return 'problem';
    return some.length ? 'rows' : waiting ? 'waiting' : 'none';
  };
  return keyed(state, (now) => {
    if (now === 'problem') return h.div({ class: 'empty', role: 'alert' }, icon('alert'), h.p(found.peek().problem), h.button({ type: 'button', class: 'button', onclick: () => look() }, () => t('action.retry')));
    if (now === 'waiting') return skeletonRows(() => t('action.loading'));
    if (now === 'none') return none();
    // A list that has moved meanwhile says some twice, on this page and on the next.
    const items = () => (key ? [...new Map(found.value.rows.map((item) => [key(item), item])).values()] : found.value.rows);
    return growing({ items, row, key, isMore: () => found.value.next !== undefined, more: () => look(true), busy: () => found.value.waiting });
  });
}
