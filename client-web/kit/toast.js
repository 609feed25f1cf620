/**
 * Short messages that pass: one polite live region at the foot of the page.
 * Owns their time on screen. At most three at once.
 */
import { h } from './dom.js';

const SECONDS = 6;
const MOST = 3;
/** @type {HTMLElement | null} */
let region = null;

/** @param {string} text */
export function toast(text) {
  // Changing the whole page takes the region with it.
  const shown = region?.isConnected ? region : document.body.appendChild(h.div({ class: 'toasts', role: 'status', popover: 'manual' }));
  region = shown;
  // In the top layer, above an open dialog.
  shown.showPopover();
  // The same again takes the place of what it repeats.
  for (const old of [...shown.children]) if (old.textContent === text) old.remove();
  const one = h.p({ class: 'toast' }, text);
  shown.append(one);
  while (shown.children.length > MOST) shown.firstElementChild?.remove();
  setTimeout(() => {
    one.remove();
    if (!shown.children.length) shown.hidePopover();
  }, SECONDS * 1000);
}
