/**
 * Doing something again and again while the page is seen. Refuses to know what.
 */
import { onStop } from './signal.js';

/** Until the scope ends in which it is called. @param {number} every milliseconds @param {() => unknown} act */
export function whileSeen(every, act) {
  const timer = setInterval(() => document.hidden || act(), every);
  onStop(() => clearInterval(timer));
}
