/**
 * A list of the administration: searched as one types, page by page. Owns the asking, so that
 * each kind only says how its rows look.
 */
import { h } from '../kit/dom.js';
import { onStop, signal } from '../kit/signal.js';
import { number, t } from '../i18n/index.js';
import { words } from './errors.js';
import { icon } from './icons.js';
import { skeletonRows } from './page.js';

/** Between the last key and the question. */
const PAUSE = 300;

/**
 * @template T
 * @template N
 * @param {{ ask: (wanted: { search: string, from: N | undefined }) => Promise<{ rows: T[], next?: N, total?: number }>, row: (item: T, again: () => void) => any,
 *   label?: () => string, actions?: (again: () => void) => any, none: () => any }} options
 */
export function adminList({ ask, row, label, actions, none }) {
  const search = signal('');
  const found = signal(/** @type {{ rows: T[], next?: N, total?: number, waiting: boolean, problem: string }} */ ({ rows: [], waiting: true, problem: '' }));
  let turn = 0;
  /** @type {any} */
  let pause;
  const look = async (more = false) => {
    const mine = ++turn;
    const before = found.peek();
    found.value = { ...before, waiting: true, problem: '' };
    try {
      const { rows, next, total } = await ask({ search: search.peek().trim(), from: more ? before.next : undefined });
      if (mine === turn) found.value = { rows: more ? [...before.rows, ...rows] : rows, next, total, waiting: false, problem: '' };
    } catch (error) {
      if (mine === turn) found.value = { ...before, waiting: false, problem: words(error) };
    }
  };
  const again = () => void look();
  const soon = (/** @type {any} */ event) => {
    search.value = event.target.value;
    clearTimeout(pause);
    pause = setTimeout(again, PAUSE);
  };
  onStop(() => clearTimeout(pause));
  again();
  return h.div(
    { class: 'section' },
    h.div(
      { class: 'admin-bar' },
      label && h.label({ class: 'search-box' }, icon('search'), h.input({ type: 'search', 'aria-label': label, placeholder: label, oninput: soon })),
      h.span({ class: 'hint', role: 'status' }, () => (!found.value.total ? '' : t('admin.total', { count: found.value.total, number: number(found.value.total) }))),
      actions?.(again),
    ),
    () => {
      const { rows, next, waiting, problem } = found.value;
      if (problem) return h.div({ class: 'empty', role: 'alert' }, icon('alert'), h.p(problem), h.button({ type: 'button', class: 'button', onclick: again }, t('action.retry')));
      if (!rows.length) return waiting ? skeletonRows(() => t('action.loading')) : none();
      return [h.ul({ class: 'card flush', role: 'list' }, rows.map((one) => row(one, again))), next !== undefined && h.button({ type: 'button', class: 'button more-button', disabled: waiting, onclick: () => look(true) }, t('action.showMore'))];
    },
  );
}

