/**
 * The rooms of the server as it sees them, and what people have reported.
 */
import { h } from '../kit/dom.js';
import { openDialog } from '../kit/dialog.js';
import { link } from '../kit/router.js';
import { signal } from '../kit/signal.js';
import { toast } from '../kit/toast.js';
import { ago, exact, number, t } from '../i18n/index.js';
import { adminList } from './admin-list.js';
import { attempt } from './errors.js';
import { formDialog } from './form.js';
import { avatar } from './names.js';
import { empty, fetched, toggle } from './page.js';

/** @typedef {import('./app.js').App} App */
/** @typedef {import('../matrix/admin.js').Admin} Admin */
/** @typedef {import('../matrix/admin.js').Hall} Hall */
/** @typedef {import('../matrix/admin.js').Report} Report */

/** @param {App} app @param {Admin} admin */
export function roomsPart(app, admin) {
  return adminList({
    ask: async ({ search, from }) => {
      const { rooms, next, total } = await admin.rooms({ search, from });
      return { rows: rooms, next, total };
    },
    row: (room, again) => roomRow(admin, room, again),
    label: () => t('halls.search'),
    none: () => empty('chat', () => t('halls.none')),
  });
}

/** @param {Admin} admin @param {Hall} room @param {() => void} again */
function roomRow(admin, room, again) {
  const name = room.name || room.alias || room.id;
  return h.li(
    { class: 'row' },
    avatar(room.id, () => name, 'medium', 'room'),
    h.div(
      { class: 'row-text' },
      h.bdi({ class: 'row-title' }, name),
      h.bdi({ class: 'row-note' }, room.alias || room.id),
      h.span({ class: 'row-note wraps' }, () => [t('room.memberCount', { count: room.members }), t('halls.local', { count: room.local }), t('halls.state', { count: room.events })].join(' · ')),
    ),
    h.div(
      { class: 'row-actions' },
      room.open && h.span({ class: 'chip good' }, () => t('halls.open')),
      room.encrypted && h.span({ class: 'chip' }, () => t('halls.encrypted')),
      h.span({ class: 'chip' }, () => t(room.federated ? 'halls.federated' : 'roomSettings.local')),
      h.button({ type: 'button', class: 'button small', 'aria-label': () => `${t('room.members')}: ${name}`, onclick: () => membersDialog(admin, room, name) }, () => t('room.members')),
      h.button({ type: 'button', class: 'button small danger-text', 'aria-label': () => `${t('halls.delete')}: ${name}`, onclick: () => deleteDialog(admin, room, name, again) }, () => t('action.delete')),
    ),
  );
}

/** @param {Admin} admin @param {Hall} room @param {string} name */
function membersDialog(admin, room, name) {
  return openDialog(
    name,
    () => [
      fetched(
        () => admin.members(room.id),
        (ids) => [h.p({ class: 'hint' }, t('room.memberCount', { count: ids.length })), h.ul({ class: 'picker', role: 'list' }, ids.slice(0, 500).map((id) => h.li(h.bdi(id))))],
      ),
    ],
  );
}

/** @param {Admin} admin @param {Hall} room @param {string} name @param {() => void} again */
function deleteDialog(admin, room, name, again) {
  const block = signal(false);
  return formDialog(
    t('halls.delete'),
    {
      submit: () => t('action.delete'),
      danger: true,
      send: async () => {
        await admin.deleteRoom(room.id, { block: block.peek(), purge: true });
        toast(t('halls.deleted', { name }));
        again();
      },
    },
    h.p({ class: 'wraps' }, t('halls.deleteHint', { name, count: number(room.local) })),
    toggle(() => t('halls.block'), () => block.value, (on) => (block.value = on)),
  );
}

/** @param {App} app @param {Admin} admin */
export function reportsPart(app, admin) {
  return adminList({
    ask: async ({ from }) => {
      const { reports, next, total } = await admin.reports(from);
      return { rows: reports, next, total };
    },
    row: (report, again) => reportRow(admin, report, again),
    none: () => empty('flag', () => t('reports.none'), () => t('reports.noneHint')),
    live: true,
  });
}

/** @param {Admin} admin @param {Report} report @param {() => void} again */
function reportRow(admin, report, again) {
  const dismiss = async () => {
    if (await attempt(admin.dismiss(report.id))) again();
  };
  const what = report.event ? 'reports.event' : report.room ? 'reports.room' : 'reports.user';
  return h.li(
    { class: 'row report' },
    h.div(
      { class: 'row-text' },
      h.span({ class: 'row-title wraps' }, () => t(what, { name: report.user ?? '', room: report.roomName ?? report.room ?? '' })),
      report.event && fetched(() => admin.reported(report.id), (body) => body && h.blockquote({ class: 'reported wraps', dir: 'auto' }, body.slice(0, 1000)), () => null),
      report.reason && h.span({ class: 'wraps', dir: 'auto' }, () => t('reports.reason', { text: report.reason.slice(0, 500) })),
      h.span({ class: 'row-note wraps', title: () => exact(report.at) }, () => t('reports.by', { name: report.by, when: ago(report.at) })),
    ),
    h.div(
      { class: 'row-actions' },
      report.user && h.a({ class: 'button small', href: link('user', report.user) }, () => t('person.profile')),
      h.button({ type: 'button', class: 'button small', 'aria-label': () => `${t('reports.dismiss')}: ${report.id}`, onclick: dismiss }, () => t('reports.dismiss')),
    ),
  );
}
