/**
 * Whether the person has let go of the page: nothing touched for a while. Owns the watching;
 * what it means is for others to say.
 */
import { signal } from './signal.js';

const AFTER = 5 * 60_000;
/** Touches within this time are one: they come by the hundred. */
const COARSE = 5000;

export const idle = signal(false);

let last = Date.now();
/** @type {any} */
let timer;

function look() {
  const left = last + AFTER - Date.now();
  idle.value = left <= 0;
  clearTimeout(timer);
  if (left > 0) timer = setTimeout(look, left);
}

function touched() {
  if (!idle.peek() && Date.now() - last < COARSE) return;
  last = Date.now();
  look();
}

/** Begins to watch. @param {AbortSignal} signal */
export function watchIdle(signal) {
  for (const name of ['pointermove', 'pointerdown', 'keydown', 'wheel', 'touchstart', 'focus']) addEventListener(name, touched, { passive: true, signal });
  touched();
}
