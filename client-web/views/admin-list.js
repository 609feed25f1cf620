/**
 * A list of the administration, with its search and what can be done above it: each kind only says how its rows look.
 */
import { h } from '../kit/dom.js';
import { whileSeen } from '../kit/seen.js';
import { flush, signal } from '../kit/signal.js';
import { number, t } from '../i18n/index.js';
import { icon } from './icons.js';
import { answered, asked } from './lists.js';

/** How often what changes by itself is asked for anew, milliseconds. */
export const EVERY = 5000;

/**
 * @template T
 * @template N
 * @param {{ ask: (wanted: { search: string, from: N | undefined }) => Promise<{ rows: T[], next?: N, total?: number }>, row: (item: T, again: () => void) => any,
 *   label?: () => string, actions?: (again: () => void) => any, none: () => any, live?: boolean }} options `live` lists keep up by themselves
 */
export function adminList({ ask, row, label, actions, none, live = false }) {
  const search = signal('');
  const list = asked((/** @type {N | undefined} */ from) => ask({ search: search.peek().trim(), from }));
  const again = () => void list.look();
  const oninput = (/** @type {any} */ event) => {
    search.value = event.target.value;
    list.soon();
  };
  const total = () => list.found.value.total;
  const root = h.div(
    { class: 'section' },
    h.div(
      { class: 'admin-bar' },
      label && h.label({ class: 'search-box' }, icon('search'), h.input({ type: 'search', 'aria-label': label, placeholder: label, oninput })),
      h.span({ class: 'hint', role: 'status' }, () => (total() ? t('admin.total', { count: total() ?? 0, number: number(total() ?? 0) }) : '')),
      actions?.(again),
    ),
    answered(list, (item) => row(item, again), none, (item) => JSON.stringify(item)),
  );
  if (live) whileSeen(EVERY, () => keepUp(root, list.refresh));
  return root;
}

/**
 * Brings a list up to date without taking anything out of somebody's hands: what is open over it is waited for, and
 * the focus stays where it was.
 * @param {Element} root
 * @param {() => Promise<void>} refresh
 */
async function keepUp(root, refresh) {
  if (document.querySelector('dialog[open], .menu:popover-open')) return;
  const held = [...root.querySelectorAll('li')].findIndex((row) => row.contains(document.activeElement));
  await refresh();
  flush();
  const isLost = held >= 0 && document.activeElement === document.body;
  if (isLost) /** @type {HTMLElement | null | undefined} */ (root.querySelectorAll('li')[held]?.querySelector('a, button'))?.focus();
}
