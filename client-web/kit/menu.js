/**
 * A button that opens a small menu beside it, on the native popover: it closes by Escape
 * and by a click elsewhere by itself. Owns where the menu stands and the arrow keys in it.
 */
import { h } from './dom.js';

let lastId = 0;

/**
 * @param {object} attrs of the button
 * @param {any} face what the button shows
 * @param {any[]} items `menuItem`s and anything else
 */
export function menu(attrs, face, items) {
  const id = `menu-${++lastId}`;
  /** @type {HTMLElement} */
  const list = h.div({ id, class: 'menu', popover: 'auto', role: 'menu' }, items);
  const button = h.button({ type: 'button', 'aria-haspopup': 'menu', 'aria-expanded': 'false', popovertarget: id, ...attrs }, face);
  const buttons = () => [.../** @type {NodeListOf<HTMLElement>} */ (list.querySelectorAll('[role^=menuitem]'))];
  list.addEventListener('toggle', (event) => {
    const open = /** @type {ToggleEvent} */ (event).newState === 'open';
    button.setAttribute('aria-expanded', String(open));
    if (!open) return;
    place(button, list);
    buttons()[0]?.focus();
  });
  list.addEventListener('keydown', (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const all = buttons();
    all.at((all.indexOf(/** @type {HTMLElement} */ (document.activeElement)) + step) % all.length)?.focus();
  });
  return h.span({ class: 'menu-holder' }, button, list);
}

/**
 * @param {() => string} text
 * @param {() => void} act
 * @param {{ icon?: Node, checked?: () => boolean, several?: boolean }} [more] `checked` makes it one of several to
 *   choose from, or with `several` one that is on or off by itself
 */
export function menuItem(text, act, { icon, checked, several } = {}) {
  const onclick = (/** @type {Event} */ event) => {
    /** @type {HTMLElement | null} */ (/** @type {HTMLElement} */ (event.currentTarget).closest('[popover]'))?.hidePopover();
    act();
  };
  return h.button({ type: 'button', role: checked ? (several ? 'menuitemcheckbox' : 'menuitemradio') : 'menuitem', 'aria-checked': checked && (() => String(checked())), tabindex: '-1', onclick }, icon, h.span(text));
}

/** Below the button or above it, within the page. @param {HTMLElement} button @param {HTMLElement} list */
function place(button, list) {
  const at = button.getBoundingClientRect();
  const { width, height } = list.getBoundingClientRect();
  const left = Math.max(8, Math.min(at.left, innerWidth - width - 8));
  const top = at.bottom + 6 + height < innerHeight ? at.bottom + 6 : Math.max(8, at.top - 6 - height);
  list.style.left = `${left}px`;
  list.style.top = `${top}px`;
}
