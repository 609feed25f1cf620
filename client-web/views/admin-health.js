/**
 * How the server does, and who of the others can't be told what happens here. Keeps up by itself
 * while somebody looks.
 */
import { h } from '../kit/dom.js';
import { whileSeen } from '../kit/seen.js';
import { signal } from '../kit/signal.js';
import { ago, exact, number, size, t } from '../i18n/index.js';
import { adminList, EVERY } from './admin-list.js';
import { attempt } from './errors.js';
import { fetched, section, skeletonRows } from './page.js';

/** @typedef {import('../matrix/admin.js').Admin} Admin */
/** @typedef {import('../matrix/admin.js').Health} Health */
/** @typedef {import('../matrix/admin.js').Peer} Peer */
/** @typedef {import('../matrix/admin.js').Seen} Seen */

/** @param {import('./app.js').App} _ @param {Admin} admin */
export function healthPart(_, admin) {
  return [fetched(() => admin.health(), (first) => tiles(admin, first)), peersSection(admin)];
}

/** @param {Admin} admin @param {Health} first */
function tiles(admin, first) {
  const health = signal(first);
  // What goes wrong now is left to the next time.
  whileSeen(EVERY, () => admin.health().then((next) => (health.value = next), () => {}));
  /** One that the server says nothing of is left out. @param {() => string} label @param {(health: Health) => string | undefined} of */
  const tile = (label, of) => of(first) !== undefined && h.div({ class: 'tile' }, h.dt(label), h.dd(() => of(health.value)));
  const bytes = (/** @type {number | null | undefined} */ found) => (typeof found === 'number' ? size(found) : undefined);
  const count = (/** @type {number | undefined} */ found) => (found === undefined ? undefined : number(found));
  return h.dl(
    { class: 'tiles' },
    tile(() => t('health.version'), ({ version }) => version),
    tile(() => t('health.uptime'), ({ uptime }) => (uptime === undefined ? undefined : duration(uptime))),
    tile(() => t('health.memory'), ({ memory }) => bytes(memory)),
    tile(() => t('health.database'), ({ database }) => bytes(database)),
    tile(() => t('health.disk'), ({ disk }) => bytes(disk)),
    tile(() => t('health.clients'), ({ clients }) => count(clients?.waiting)),
    tile(() => t('health.accounts'), ({ accounts }) => count(accounts)),
    tile(() => t('health.rooms'), ({ rooms }) => count(rooms)),
  );
}

/** Those that can't be reached come first. @param {Admin} admin */
function peersSection(admin) {
  let none = () => t('health.noPeers');
  const list = adminList({
    ask: async ({ search, from }) => {
      const found = await admin.peers({ search, from });
      none = () => t(!found ? 'health.noFederation' : search ? 'health.noSuchPeer' : 'health.noPeers');
      return found ?? { rows: [] };
    },
    row: (peer, again) => peerRow(admin, peer, again),
    label: () => t('health.findPeer'),
    none: () => h.p({ class: 'hint' }, none),
    live: true,
  });
  const seen = fetched(() => admin.seen(), (found, again) => found && seenCard(found, again), () => skeletonRows(() => t('action.loading'), 1));
  return section(() => t('health.peers'), () => t('health.peersHint'), seen, list);
}

/** Whether others find this server. @param {Seen} seen @param {() => void} again */
function seenCard({ address, why, page }, again) {
  return h.div(
    { class: 'card flush' },
    h.div(
      { class: 'row' },
      h.div(
        { class: 'row-text' },
        h.span({ class: 'row-title wraps' }, () => t(why ? 'health.lost' : 'health.found', { address })),
        why && [why, page && page !== why && `/.well-known/matrix/server: ${page}`].map((text) => text && h.span({ class: 'row-note wraps', dir: 'auto' }, text)),
        why && h.span({ class: 'row-note wraps' }, () => t('health.lostHint')),
      ),
      h.div(
        { class: 'row-actions' },
        h.span({ class: why ? 'chip warn' : 'chip good' }, () => t(why ? 'health.down' : 'health.reachable')),
        why && h.button({ type: 'button', class: 'button small', onclick: again }, () => t('health.check')),
      ),
    ),
  );
}

/** @param {Admin} admin @param {Peer} peer @param {() => void} again */
function peerRow(admin, { server, failing, retryAt, why }, again) {
  const isFailing = failing > 0;
  return h.li(
    { class: 'row' },
    h.div(
      { class: 'row-text' },
      h.bdi({ class: 'row-title' }, server),
      isFailing && h.span({ class: 'row-note', title: () => exact(failing) }, () => t('health.failing', { when: ago(failing) })),
      isFailing && why && h.span({ class: 'row-note wraps', dir: 'auto' }, why),
    ),
    h.div(
      { class: 'row-actions' },
      isFailing ? h.span({ class: 'chip warn', title: () => exact(retryAt) }, () => t('health.down')) : h.span({ class: 'chip good' }, () => t('health.up')),
      isFailing && h.button({ type: 'button', class: 'button small', 'aria-label': () => `${t('health.retry')}: ${server}`, onclick: () => attempt(admin.retry(server)).then(again) }, () => t('health.retry')),
    ),
  );
}

/** 3 days, 2 hours @param {number} ms */
function duration(ms) {
  const minutes = Math.floor(ms / 60_000);
  const parts = { days: Math.floor(minutes / 1440), hours: Math.floor(minutes / 60) % 24, minutes: minutes % 60 };
  if (parts.days) return [t('time.days', { count: parts.days }), t('time.hours', { count: parts.hours })].join(' ');
  return [...(parts.hours ? [t('time.hours', { count: parts.hours })] : []), t('time.minutes', { count: parts.minutes })].join(' ');
}
