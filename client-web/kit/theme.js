/**
 * Light, dark, or as the system says. Owns the choice; the style sheet does the rest.
 */
import { effect, signal } from './signal.js';

/** @typedef {'system' | 'light' | 'dark'} Theme */
const KEY = 'hearth.theme';
const stored = globalThis.localStorage?.getItem(KEY);

export const theme = signal(/** @type {Theme} */ (stored === 'light' || stored === 'dark' ? stored : 'system'));

/** @param {Theme} next */
export function chooseTheme(next) {
  localStorage.setItem(KEY, next);
  theme.value = next;
}

export function followTheme() {
  effect(() => {
    document.documentElement.dataset.theme = theme.value;
  });
}
