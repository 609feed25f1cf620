/**
 * The pictograms, drawn on a 24 × 24 grid with one stroke. They say nothing to a screen
 * reader: the button around them has the words.
 */
import { svg } from '../kit/dom.js';

const PATHS = {
  plus: ['M12 5v14', 'M5 12h14'],
  search: ['M11 4.5a6.5 6.5 0 1 0 0 13a6.5 6.5 0 0 0 0-13Z', 'M16 16l4 4'],
  send: ['M12 19V5.5', 'M6 11.5l6-6l6 6'],
  back: ['M14.5 5.5L8 12l6.5 6.5'],
  people: ['M9 11.2a3.3 3.3 0 1 0 0-6.6a3.3 3.3 0 0 0 0 6.6Z', 'M3 19.4c.4-3.3 2.8-5.2 6-5.2s5.6 1.9 6 5.2', 'M15.5 5a3.2 3.2 0 0 1 0 6', 'M17.5 14.7c2 .7 3.2 2.3 3.5 4.7'],
  invite: ['M10 11.2a3.3 3.3 0 1 0 0-6.6a3.3 3.3 0 0 0 0 6.6Z', 'M4 19.4c.4-3.3 2.8-5.2 6-5.2s5.6 1.9 6 5.2', 'M19 7.5v6', 'M16 10.5h6'],
  more: ['M6 11.2a.8.8 0 1 0 0 1.6a.8.8 0 0 0 0-1.6Z', 'M12 11.2a.8.8 0 1 0 0 1.6a.8.8 0 0 0 0-1.6Z', 'M18 11.2a.8.8 0 1 0 0 1.6a.8.8 0 0 0 0-1.6Z'],
  trash: ['M5 7.5h14', 'M9.5 7.5V5h5v2.5', 'M7 7.5l.8 11.5h8.4L17 7.5', 'M10.5 11v5', 'M13.5 11v5'],
  lock: ['M6.5 11h11v8.5h-11Z', 'M8.8 11V8a3.2 3.2 0 0 1 6.4 0v3'],
  file: ['M7 3.5h6.5L18 8v12.5H7Z', 'M13.5 3.5V8H18'],
  alert: ['M12 8v5', 'M12 16.3h.01', 'M12 3.5a8.5 8.5 0 1 0 0 17a8.5 8.5 0 0 0 0-17Z'],
  clock: ['M12 7.5V12l3 2', 'M12 3.5a8.5 8.5 0 1 0 0 17a8.5 8.5 0 0 0 0-17Z'],
  down: ['M12 5v13.5', 'M6 12.5l6 6l6-6'],
  leave: ['M13.5 5H6v14h7.5', 'M11 12h9.5', 'M17 8.5l3.5 3.5l-3.5 3.5'],
  reply: ['M9.5 7L5 11.5l4.5 4.5', 'M5 11.5h8.5c3.5 0 5.5 2 5.5 6'],
  offline: ['M4 9.5c4.7-4.3 11.3-4.3 16 0', 'M7 13c3-2.7 7-2.7 10 0', 'M12 17.5h.01', 'M5 4.5l14 15'],
};

/** @param {keyof typeof PATHS} name */
export function icon(name) {
  return svg.svg(
    { class: 'icon', viewBox: '0 0 24 24', 'aria-hidden': 'true', focusable: 'false' },
    PATHS[name].map((d) => svg.path({ d })),
  );
}

/** The mark: a flame in a hearth. */
export function mark() {
  return svg.svg(
    { class: 'mark', viewBox: '0 0 32 32', 'aria-hidden': 'true', focusable: 'false' },
    svg.path({ class: 'mark-arch', d: 'M3 29V16a13 13 0 0 1 26 0v13h-4.2V16.2a8.8 8.8 0 0 0-17.6 0V29Z' }),
    svg.path({ class: 'mark-flame', d: 'M16.3 11.5c.8 3.7 5.5 5.8 5.5 11A5.8 5.8 0 0 1 16 28.4a5.8 5.8 0 0 1-5.8-5.9c0-2.6 1.2-4 2.4-5.2c.3 1.2.8 1.8 1.5 2.2c-.5-3 .1-5.7 2.2-8Z' }),
  );
}
