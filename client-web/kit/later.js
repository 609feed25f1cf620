/**
 * Views that come when they are first shown, so that the first page is small. Owns what
 * stands there meanwhile, and trying again.
 */
import { h, keyed } from './dom.js';
import { signal } from './signal.js';

/**
 * @template {any[]} A
 * @param {() => Promise<(...args: A) => any>} load
 * @returns {(...args: A) => any}
 */
export function later(load) {
  /** @type {((...args: A) => any) | undefined} */
  let view;
  return (...args) => {
    if (view) return view(...args);
    const ready = signal(false);
    const failed = signal(false);
    const bring = () => {
      failed.value = false;
      load().then(
        (found) => {
          view = found;
          ready.value = true;
        },
        () => (failed.value = true),
      );
    };
    bring();
    return keyed(
      () => ready.value,
      (is) => (is && view ? view(...args) : h.div({ class: 'later', 'aria-busy': 'true' }, () => (failed.value ? h.button({ type: 'button', class: 'button', onclick: bring }, '↻') : null))),
    );
  };
}
