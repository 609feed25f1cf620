/**
 * Forms in one manner: labelled fields, one message for what went wrong, a button that
 * waits. Owns that a form is sent once at a time and that a mistake is told where it is.
 */
import { openDialog } from '../kit/dialog.js';
import { h } from '../kit/dom.js';
import { signal } from '../kit/signal.js';
import { t } from '../i18n/index.js';
import { words } from './errors.js';
import { icon } from './icons.js';

let lastId = 0;

/**
 * @param {{ label: () => string, hint?: () => string, name: string, element?: 'input' | 'textarea' | 'select', [attr: string]: any }} options the rest are the input's attributes
 * @param {...any} children of the element, a select's options
 */
export function field({ label, hint, name, element = 'input', ...attrs }, ...children) {
  const id = `field-${++lastId}`;
  return h.div(
    { class: 'field' },
    h.label({ for: id }, label),
    h[element]({ id, name, ...(element === 'input' && { type: 'text' }), autocomplete: 'off', 'aria-describedby': hint && `${id}-hint`, ...attrs }, ...children),
    hint && h.p({ class: 'hint', id: `${id}-hint` }, hint),
  );
}

/**
 * @param {{ submit: () => string, busy?: () => string, cancel?: () => void, special?: Parameters<typeof words>[1], danger?: boolean, clear?: boolean, send: (data: Record<string, string>) => Promise<unknown> | string }} options
 *   `cancel` is what its button does;
 *   `send` does the work; a string that it returns is a mistake to tell; `clear` empties the fields after it
 * @param {...any} children the fields
 */
export function form({ submit, busy = submit, cancel, special, danger, clear, send }, ...children) {
  const working = signal(false);
  const problem = signal('');
  const onsubmit = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    if (working.peek()) return;
    const data = /** @type {Record<string, string>} */ (Object.fromEntries(new FormData(/** @type {HTMLFormElement} */ (event.target))));
    problem.value = '';
    working.value = true;
    try {
      const wrong = await send(data);
      if (typeof wrong === 'string') problem.value = wrong;
      else if (clear) element.reset();
    } catch (error) {
      problem.value = words(error, special);
    } finally {
      working.value = false;
    }
  };
  /** @type {HTMLFormElement} */
  const element = h.form(
    { class: 'form', onsubmit },
    children,
    h.div({ class: 'problem-place', role: 'alert' }, () => (problem.value ? h.p({ class: 'problem' }, icon('alert'), h.span(problem.value)) : null)),
    h.footer(cancel && cancelButton(cancel), h.button({ class: `button ${danger ? 'danger' : 'primary'}`, type: 'submit', 'aria-disabled': () => (working.value ? 'true' : null) }, () => (working.value ? busy() : submit()))),
  );
  return element;
}

/**
 * A form in a dialog, which closes when it has been sent.
 * @param {string} title
 * @param {Omit<Parameters<typeof form>[0], 'cancel'>} options
 * @param {...any} children
 */
export function formDialog(title, options, ...children) {
  return openDialog(title, (close) => {
    const send = async (/** @type {Record<string, string>} */ data) => {
      const wrong = await options.send(data);
      if (typeof wrong !== 'string') close();
      return wrong;
    };
    return form({ ...options, cancel: close, send }, ...children);
  });
}

/** @param {() => void} cancel */
export function cancelButton(cancel) {
  return h.button({ type: 'button', class: 'button', onclick: () => cancel() }, () => t('action.cancel'));
}
