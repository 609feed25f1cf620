/**
 * Invitations to the server: links that let somebody make an account.
 */
import { h } from '../kit/dom.js';
import { exact, number, t } from '../i18n/index.js';
import { attempt } from './errors.js';
import { field, formDialog } from './form.js';
import { icon } from './icons.js';
import { copyButton, empty, fetched } from './page.js';

/** @typedef {import('../matrix/admin.js').Admin} Admin */
/** @typedef {import('../matrix/admin.js').Invitation} Invitation */

const DAY = 86_400_000;
/** How long a link may live, in days; 0 is for ever. */
const LIVES = [1, 7, 30, 0];

/** The token goes behind the #, where no server and no log sees it. @param {string} token */
function address(token) {
  return `${location.origin}/#/register?token=${encodeURIComponent(token)}`;
}

/** @param {import('./app.js').App} _ @param {Admin} admin */
export function invitationsPart(_, admin) {
  return fetched(
    () => admin.invitations(),
    (all, again) => [
      h.div({ class: 'admin-bar' }, h.p({ class: 'hint' }, () => t('invitations.hint')), h.button({ type: 'button', class: 'button primary', onclick: () => createDialog(admin, again) }, icon('plus'), () => t('invitations.create'))),
      all.length ? h.ul({ class: 'card flush', role: 'list' }, all.map((one) => row(admin, one, again))) : empty('link', () => t('invitations.none')),
    ],
  );
}

/** @param {Admin} admin @param {Invitation} one @param {() => void} again */
function row(admin, one, again) {
  const over = (one.expires !== null && one.expires < Date.now()) || (one.allowed !== null && one.used >= one.allowed);
  const revoke = async () => {
    if (await attempt(admin.revoke(one.token))) again();
  };
  return h.li(
    { class: 'row' },
    h.div(
      { class: 'row-text' },
      h.bdi({ class: 'row-title token' }, one.token),
      h.span({ class: 'row-note' }, () => [one.allowed === null ? t('invitations.used', { count: one.used }) : t('invitations.usedOf', { used: number(one.used), allowed: number(one.allowed) }), one.expires === null ? t('invitations.forever') : t('invitations.until', { when: exact(one.expires) })].join(' · ')),
    ),
    h.div(
      { class: 'row-actions' },
      over ? h.span({ class: 'chip' }, () => t('invitations.over')) : copyButton(() => address(one.token), true),
      h.button({ type: 'button', class: 'button danger-text', 'aria-label': () => `${t('invitations.revoke')}: ${one.token}`, onclick: revoke }, () => t('invitations.revoke')),
    ),
  );
}

/** @param {Admin} admin @param {() => void} again */
function createDialog(admin, again) {
  return formDialog(
    t('invitations.create'),
    {
      submit: () => t('invitations.create'),
      send: async ({ uses, days }) => {
        await admin.invite({ uses: uses ? Number(uses) : null, expires: Number(days) ? Date.now() + Number(days) * DAY : null });
        again();
      },
    },
    field({ name: 'uses', type: 'number', min: '1', max: '100000', value: '1', label: () => t('invitations.uses'), hint: () => t('invitations.usesHint') }),
    field({ name: 'days', element: 'select', label: () => t('invitations.expires') }, ...LIVES.map((days) => h.option({ value: String(days), selected: days === 7 }, days ? t('time.days', { count: days }) : t('invitations.forever')))),
  );
}
