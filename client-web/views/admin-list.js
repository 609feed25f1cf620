/**
 * A list of the administration, with its search and what can be done above it: each kind only says how its rows look.
 */
import { h } from '../kit/dom.js';
import { signal } from '../kit/signal.js';
import { number, t } from '../i18n/index.js';
import { icon } from './icons.js';
import { answered, asked } from './lists.js';

/**
 * @template T
 * @template N
 * @param {{ ask: (wanted: { search: string, from: N | undefined }) => Promise<{ rows: T[], next?: N, total?: number }>, row: (item: T, again: () => void) => any,
 *   label?: () => string, actions?: (again: () => void) => any, none: () => any }} options
 */
export function adminList({ ask, row, label, actions, none }) {
  const search = signal('');
  const list = asked((/** @type {N | undefined} */ from) => ask({ search: search.peek().trim(), from }));
  const again = () => void list.look();
  const oninput = (/** @type {any} */ event) => {
    search.value = event.target.value;
    list.soon();
  };
  const total = () => list.found.value.total;
  return h.div(
    { class: 'section' },
    h.div(
      { class: 'admin-bar' },
      label && h.label({ class: 'search-box' }, icon('search'), h.input({ type: 'search', 'aria-label': label, placeholder: label, oninput })),
      h.span({ class: 'hint', role: 'status' }, () => (total() ? t('admin.total', { count: total() ?? 0, number: number(total() ?? 0) }) : '')),
      actions?.(again),
    ),
    answered(list, (item) => row(item, again), none),
  );
}
