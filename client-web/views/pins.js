/**
 * What is pinned in a room.
 */
import { cross } from '../kit/dialog.js';
import { h } from '../kit/dom.js';
import { link } from '../kit/router.js';
import { effect, signal } from '../kit/signal.js';
import { t } from '../i18n/index.js';
import { attempt } from './errors.js';
import { icon, named } from './icons.js';
import { paneHead } from './page.js';
import { card } from './thread.js';

/** @param {import('./app.js').App} app @param {import('../matrix/room.js').Room} room */
export function pinsPane(app, room) {
  /** @type {Map<string, import('../matrix/events.js').Event | null>} */
  const known = new Map();
  const come = signal(0);
  effect(() => {
    for (const id of room.pinned()) {
      if (known.has(id)) continue;
      known.set(id, null);
      app.client.reading.event(room, id).then(
        (event) => (known.set(id, event ?? null), come.update((count) => count + 1)),
        () => {},
      );
    }
  });
  const item = (/** @type {string} */ id) => {
    const event = known.get(id);
    const unpin = room.maySet('m.room.pinned_events') && h.button({ type: 'button', ...named(t('message.unpin')), onclick: () => attempt(app.client.saying.pin(room, id, false)) }, cross());
    const shown = event ? card(room, event, link('room', room.id, id)) : h.li(h.p({ class: 'found' }, t('pins.unknown')));
    shown.append(...(unpin ? [unpin] : []));
    return shown;
  };
  return h.aside(
    { class: 'pane', 'aria-label': () => t('pins.title') },
    paneHead(() => t('pins.title'), room),
    h.div({ class: 'pane-body' }, () => {
      come.value;
      const ids = room.pinned();
      if (!ids.length) return h.div({ class: 'pane-empty' }, icon('pin'), h.p(t('pins.empty')));
      return h.ul({ class: 'found-list', role: 'list' }, ids.toReversed().map(item));
    }),
  );
}
