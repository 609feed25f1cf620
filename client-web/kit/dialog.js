/**
 * Modal dialogs on the native element, which keeps focus inside and gives it back.
 * Owns opening, closing by Escape, a click beside it or going elsewhere, and cleaning up after.
 */
import { h } from './dom.js';
import { scope } from './signal.js';

let lastId = 0;
let closeLabel = () => '';

/** Says once what closing is called. @param {() => string} label */
export function nameClosing(label) {
  closeLabel = label;
}

/**
 * Opens a dialog; `content` gets the function that closes it with a result.
 * @template T
 * @param {string} title
 * @param {(close: (result?: T) => void) => any} content
 * @returns {Promise<T | undefined>}
 */
export function openDialog(title, content) {
  return new Promise((resolve) => {
    /** @type {T | undefined} */
    let result;
    const id = `dialog-${++lastId}`;
    const close = (/** @type {T | undefined} */ value = undefined) => {
      result = value;
      dialog.close();
    };
    const { value: dialog, stop } = scope(() =>
      h.dialog(
        { class: 'dialog', 'aria-labelledby': id, onclick: (/** @type {MouseEvent} */ event) => event.target === dialog && close() },
        h.div(
          { class: 'dialog-body' },
          h.header(h.h2({ id }, title), h.button({ class: 'icon-button', type: 'button', 'aria-label': closeLabel(), onclick: () => close() }, cross())),
          content(close),
        ),
      ),
    );
    dialog.addEventListener('close', () => {
      stop();
      dialog.remove();
      resolve(result);
    });
    raise(/** @type {HTMLDialogElement} */ (dialog));
  });
}

/** Shows a dialog until it is closed or the person goes elsewhere: by the browser's way back, say. @param {HTMLDialogElement} dialog */
export function raise(dialog) {
  const leave = () => dialog.close();
  addEventListener('hashchange', leave);
  dialog.addEventListener('close', () => removeEventListener('hashchange', leave));
  document.body.append(dialog);
  dialog.showModal();
}

/** The sign of closing and taking away. */
export function cross() {
  return h.span({ class: 'cross', 'aria-hidden': 'true' });
}
