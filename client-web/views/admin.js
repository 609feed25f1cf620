/**
 * Running the server, for whoever administers it: one page per subject, `#/admin/users`. Owns
 * which there are, and that nobody else sees them.
 */
import { h, keyed } from '../kit/dom.js';
import { link } from '../kit/router.js';
import { ago, exact, number, size, t } from '../i18n/index.js';
import { Admin } from '../matrix/admin.js';
import { invitationsPart } from './admin-invitations.js';
import { reportsPart, roomsPart } from './admin-rooms.js';
import { usersPart } from './admin-users.js';
import { attempt } from './errors.js';
import { empty, fetched, page, section } from './page.js';

/** @typedef {import('./app.js').App} App */

/** @type {Record<string, (app: App, admin: Admin) => any>} */
const PARTS = { health: healthPart, users: usersPart, invitations: invitationsPart, rooms: roomsPart, reports: reportsPart };

/** @param {App} app */
export function adminPage(app) {
  const admin = new Admin(app.client);
  const part = () => (app.place.value.args[0] in PARTS ? app.place.value.args[0] : 'health');
  const tabs = h.nav(
    { class: 'page-tabs', 'aria-label': () => t('admin.parts') },
    h.div({ class: 'tabs' }, Object.keys(PARTS).map((name) => h.a({ href: link('admin', name), 'aria-current': () => (part() === name ? 'page' : null) }, () => t(/** @type {any} */ (`admin.${name}`))))),
  );
  return page(
    { title: () => t('admin.title'), above: tabs, wide: true },
    fetched(
      () => admin.isAdmin(),
      (is) => (is ? keyed(part, (name) => PARTS[name](app, admin)) : empty('shield', () => t('admin.notYou'), () => t('admin.notYouHint'))),
    ),
  );
}

/** @param {App} app @param {Admin} admin */
function healthPart(app, admin) {
  const tile = (/** @type {() => string} */ label, /** @type {string | undefined} */ value, hint = '') => value !== undefined && h.div({ class: 'tile' }, h.dt(label), h.dd(value, hint && h.span({ class: 'hint' }, hint)));
  const bytes = (/** @type {number | null | undefined} */ found) => (typeof found === 'number' ? size(found) : undefined);
  return [
    fetched(
      () => admin.health(),
      (health, again) => [
        h.dl(
          { class: 'tiles' },
          tile(() => t('health.version'), health.version),
          tile(() => t('health.uptime'), health.uptime === undefined ? undefined : duration(health.uptime)),
          tile(() => t('health.memory'), bytes(health.memory)),
          tile(() => t('health.database'), bytes(health.database)),
          tile(() => t('health.disk'), bytes(health.disk)),
          tile(() => t('health.clients'), health.clients === undefined ? undefined : number(health.clients.waiting)),
          tile(() => t('health.accounts'), health.accounts === undefined ? undefined : number(health.accounts)),
          tile(() => t('health.rooms'), health.rooms === undefined ? undefined : number(health.rooms)),
        ),
        h.div(h.button({ type: 'button', class: 'button small', onclick: again }, () => t('health.again'))),
      ],
    ),
    section(
      () => t('health.peers'),
      () => t('health.peersHint'),
      fetched(
        () => admin.peers(),
        (peers, again) => {
          if (!peers) return h.p({ class: 'hint' }, () => t('health.noFederation'));
          if (!peers.length) return h.p({ class: 'hint' }, () => t('health.noPeers'));
          return h.ul({ class: 'card flush', role: 'list' }, peers.map(({ server, failing, retryAt }) =>
            h.li(
              { class: 'row' },
              h.div({ class: 'row-text' }, h.bdi({ class: 'row-title' }, server), failing > 0 && h.span({ class: 'row-note', title: () => exact(failing) }, () => t('health.failing', { when: ago(failing) }))),
              h.div(
                { class: 'row-actions' },
                failing ? h.span({ class: 'chip warn', title: () => exact(retryAt) }, () => t('health.down')) : h.span({ class: 'chip good' }, () => t('health.up')),
                failing > 0 && h.button({ type: 'button', class: 'button small', 'aria-label': () => `${t('health.retry')}: ${server}`, onclick: () => attempt(admin.retry(server)).then(again) }, () => t('health.retry')),
              ),
            )));
        },
      ),
    ),
  ];
}

/** 3 days, 2 hours @param {number} ms */
function duration(ms) {
  const minutes = Math.floor(ms / 60_000);
  const parts = { days: Math.floor(minutes / 1440), hours: Math.floor(minutes / 60) % 24, minutes: minutes % 60 };
  if (parts.days) return [t('time.days', { count: parts.days }), t('time.hours', { count: parts.hours })].join(' ');
  return [...(parts.hours ? [t('time.hours', { count: parts.hours })] : []), t('time.minutes', { count: parts.minutes })].join(' ');
}
