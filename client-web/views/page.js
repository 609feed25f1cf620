/**
 * A page in the middle of the client: its head with the way back, and what scrolls below.
 * Also the small parts that pages share: a row, an empty place, a list that is being fetched.
 */
import { cross } from '../kit/dialog.js';
import { h, keyed } from '../kit/dom.js';
import { link } from '../kit/router.js';
import { signal } from '../kit/signal.js';
import { toast } from '../kit/toast.js';
import { t } from '../i18n/index.js';
import { words } from './errors.js';
import { icon, named } from './icons.js';

/**
 * @param {{ title: () => string, actions?: any, above?: any, wide?: boolean, back?: string[] }} options
 *   `above` stays in place while the rest scrolls; `back` is where a small screen returns to
 * @param {...any} children
 */
export function page({ title, actions, above, wide, back = ['home'] }, ...children) {
  return h.main(
    { class: 'page', id: 'main' },
    h.header({ class: 'page-head' }, backLink(back), h.h1({ dir: 'auto' }, title), actions),
    above,
    h.div({ class: 'page-scroll' }, h.div({ class: `page-body ${wide ? 'wide' : ''}` }, children)),
  );
}

/** @param {string[]} [to] */
export function backLink(to = ['home']) {
  return h.a({ class: 'icon-button back', href: link(...to), 'aria-label': () => t('action.back'), title: () => t('action.back') }, icon('back'));
}

/**
 * The head of a pane beside the conversation.
 * @param {() => string} title
 * @param {{ id: string }} room
 * @param {string} [back] the pane that it was reached from
 * @param {() => string} [label] what that is called
 */
export function paneHead(title, room, back, label = () => t('action.back')) {
  return h.header(
    { class: 'pane-head' },
    back && h.a({ ...named(label), href: link('room', room.id, back) }, icon('back')),
    h.h2(title),
    h.a({ ...named(() => t('action.close')), href: link('room', room.id) }, cross()),
  );
}

/** Puts a text into the clipboard. @param {() => string} text @param {boolean} [words] with words on it, where it is the main deed */
export function copyButton(text, words = false) {
  const copy = () => navigator.clipboard.writeText(text()).then(() => toast(t('action.copied')), () => toast(t('action.notCopied')));
  return words
    ? h.button({ type: 'button', class: 'button', onclick: copy }, icon('copy'), () => t('action.copy'))
    : h.button({ type: 'button', class: 'icon-button', 'aria-label': () => `${t('action.copy')}: ${text()}`, title: () => t('action.copy'), onclick: copy }, icon('copy'));
}

/** A section of a page with its heading. @param {() => string} title @param {(() => string) | null} hint @param {...any} children */
export function section(title, hint, ...children) {
  return h.section({ class: 'section' }, h.h2(title), hint && h.p({ class: 'hint' }, hint), children);
}

/** @param {import('./icons.js').IconName} name @param {() => string} title @param {(() => string) | null} [text] @param {...any} actions */
export function empty(name, title, text = null, ...actions) {
  return h.div({ class: 'empty' }, icon(name), h.p(title), text && h.p({ class: 'hint' }, text), actions);
}

/** Rows that are still to come. @param {() => string} label @param {number} [count] */
export function skeletonRows(label, count = 4) {
  return h.div({ class: 'skeleton', role: 'img', 'aria-label': label }, Array.from({ length: count }, () => h.div({ class: 'skeleton-row' }, h.i(), h.b(), h.b())));
}

/** @param {() => string} text @param {() => boolean} on @param {(on: boolean) => void} change @param {{ hint?: () => string, disabled?: () => boolean }} [more] */
export function toggle(text, on, change, { hint, disabled } = {}) {
  return h.label(
    { class: 'switch' },
    h.span({ class: 'switch-text' }, h.span(text), hint && h.span({ class: 'hint' }, hint)),
    h.input({ type: 'checkbox', role: 'switch', checked: on, disabled: disabled ?? false, onchange: (/** @type {any} */ event) => change(event.target.checked) }),
  );
}

/**
 * What is fetched when the page opens, shown when it is there; what goes wrong can be tried again.
 * @template T
 * @param {() => Promise<T>} question
 * @param {(value: T, again: () => void) => any} show
 * @param {() => any} [waiting]
 */
export function fetched(question, show, waiting = () => skeletonRows(() => t('action.loading'))) {
  const state = signal(/** @type {{ value: T } | { problem: string } | null} */ (null));
  let turn = 0;
  const ask = async () => {
    const mine = ++turn;
    try {
      const value = await question();
      if (mine === turn) state.value = { value };
    } catch (error) {
      if (mine === turn) state.value = { problem: words(error) };
    }
  };
  ask();
  return keyed(
    () => state.value,
    (now) => {
      if (!now) return waiting();
      if ('value' in now) return show(now.value, ask);
      return h.div({ class: 'empty', role: 'alert' }, icon('alert'), h.p(now.problem), h.button({ type: 'button', class: 'button', onclick: ask }, () => t('action.retry')));
    },
  );
}

let lastId = 0;

/**
 * A choice that takes effect at once, and goes back if it is refused.
 * @param {() => string} label
 * @param {Array<[string, () => string]>} options
 * @param {() => string} now
 * @param {(value: string) => Promise<unknown>} set
 * @param {() => boolean} [disabled]
 */
export function choose(label, options, now, set, disabled = () => false) {
  const id = `choose-${++lastId}`;
  const problem = signal('');
  const onchange = async () => {
    problem.value = '';
    try {
      await set(select.value);
    } catch (error) {
      problem.value = words(error);
      select.value = now();
    }
  };
  /** @type {HTMLSelectElement} */
  const select = h.select({ id, disabled, onchange }, options.map(([value, text]) => h.option({ value }, text)));
  return h.div(
    { class: 'field' },
    h.label({ for: id }, label),
    select,
    () => {
      select.value = now();
      return null;
    },
    h.div({ class: 'problem-place', role: 'alert' }, () => (problem.value ? h.p({ class: 'problem' }, icon('alert'), h.span(problem.value)) : null)),
  );
}
