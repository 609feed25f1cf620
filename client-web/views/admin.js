/**
 * Running the server, for whoever administers it: one page per subject, `#/admin/users`. Owns
 * which there are, and that nobody else sees them.
 */
import { h, keyed } from '../kit/dom.js';
import { link } from '../kit/router.js';
import { t } from '../i18n/index.js';
import { Admin } from '../matrix/admin.js';
import { healthPart } from './admin-health.js';
import { invitationsPart } from './admin-invitations.js';
import { reportsPart, roomsPart } from './admin-rooms.js';
import { usersPart } from './admin-users.js';
import { empty, fetched, page } from './page.js';

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
