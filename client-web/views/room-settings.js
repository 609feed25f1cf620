/**
 * A room's settings, beside the conversation: what it is called, who gets in, what is told of
 * it, and its future. What one may not change is shown all the same, and can't be changed.
 */
import { h, keyed } from '../kit/dom.js';
import { openDialog } from '../kit/dialog.js';
import { signal } from '../kit/signal.js';
import { play } from '../kit/sound.js';
import { toast } from '../kit/toast.js';
import { t } from '../i18n/index.js';
import { localpart, serverOf } from '../matrix/ids.js';
import { Notifications } from '../matrix/notifications.js';
import { isAnnouncements } from '../matrix/rooms.js';
import { ROOM_SETTINGS, roomSound, soundsOf } from '../matrix/sounds.js';
import { leaveDialog } from './dialogs.js';
import { attempt } from './errors.js';
import { field, form } from './form.js';
import { icon } from './icons.js';
import { roomName } from './names.js';
import { choose, copyButton, fetched, paneHead, section, toggle } from './page.js';
import { pictureField } from './picture.js';
import { soundNames } from './settings-notifications.js';

/** @typedef {import('./app.js').App} App */
/** @typedef {import('../matrix/room.js').Room} Room */

const JOIN_RULES = /** @type {const} */ (['invite', 'knock', 'public']);
const HISTORY = /** @type {const} */ (['invited', 'joined', 'shared', 'world_readable']);
const LEVELS = /** @type {const} */ (['default', 'all', 'mentions', 'mute']);

/** @param {App} app @param {Room} room */
export function roomSettingsPane(app, room) {
  return h.aside(
    { class: 'pane room-settings', 'aria-label': () => t('room.settings') },
    paneHead(() => t('room.settings'), room),
    h.div(
      { class: 'pane-scroll' },
      face(app, room),
      notifications(app, room),
      keyed(() => room.maySet('m.room.canonical_alias'), (may) => address(app, room, may)),
      access(app, room),
      future(app, room),
      h.button({ type: 'button', class: 'button danger-text', onclick: () => leaveDialog(app, room) }, icon('leave'), () => t('room.leave')),
    ),
  );
}

/** Name, topic, picture. @param {App} app @param {Room} room */
function face(app, room) {
  const { rooms, media } = app.client;
  const text = (/** @type {string} */ type, /** @type {string} */ name) => () => {
    const found = room.stateOf(type)?.[name];
    return typeof found === 'string' ? found : '';
  };
  const name = text('m.room.name', 'name');
  const topic = text('m.room.topic', 'topic');
  const may = (/** @type {string} */ type) => room.maySet(type);
  const change = async (/** @type {Blob | null} */ blob) => {
    const set = async () => rooms.setState(room, 'm.room.avatar', blob ? { url: await media.upload(blob, { name: 'room.webp' }) } : {});
    await attempt(set().then(() => toast(t('action.saved'))));
  };
  return keyed(
    () => [may('m.room.name'), may('m.room.topic'), may('m.room.avatar')].join(),
    (rights) => {
      const [mayName, mayTopic, mayPicture] = rights.split(',').map((one) => one === 'true');
      if (!mayName && !mayTopic && !mayPicture) return null;
      return form(
        {
          submit: () => t('action.save'),
          send: async (data) => {
            if (mayName && data.name.trim() !== name()) await rooms.setState(room, 'm.room.name', { name: data.name.trim() });
            if (mayTopic && data.topic.trim() !== topic()) await rooms.setState(room, 'm.room.topic', { topic: data.topic.trim() });
            toast(t('action.saved'));
          },
        },
        mayPicture && pictureField({ id: room.id, name: () => roomName(room), picture: () => room.stateOf('m.room.avatar')?.url, shape: 'room', onchange: change }),
        field({ name: 'name', label: () => t('create.name'), value: name, maxlength: 200, disabled: !mayName, dir: 'auto' }),
        field({ name: 'topic', label: () => t('roomSettings.topic'), value: topic, maxlength: 1000, disabled: !mayTopic, dir: 'auto', element: 'textarea' }),
      );
    },
  );
}

/** @param {App} app @param {Room} room */
function notifications(app, room) {
  const { account } = app.client;
  const rules = new Notifications(app.client);
  return section(
    () => t('roomSettings.notifications'),
    null,
    choose(() => t('roomSettings.level'), LEVELS.map((level) => [level, () => t(`level.${level}`)]), () => rules.level(room), (level) => rules.setLevel(room, /** @type {any} */ (level))),
    choose(() => t('roomSettings.sound'), [['', () => t('sound.usual')], ...soundNames(), ['none', () => t('sound.none')]], () => roomSound(room), async (sound) => {
      play(sound, soundsOf(account.settings()).volume);
      await account.saveRoomData(room, ROOM_SETTINGS, { ...room.accountData(ROOM_SETTINGS), sound });
    }),
  );
}

/** @param {App} app @param {Room} room @param {boolean} may */
function address(app, room, may) {
  const { rooms, server } = app.client;
  const alias = () => {
    const found = room.stateOf('m.room.canonical_alias')?.alias;
    return typeof found === 'string' ? found : '';
  };
  if (!may) return () => (alias() ? section(() => t('roomSettings.address'), null, h.p({ class: 'copy-line' }, h.bdi(alias()), copyButton(() => alias()))) : null);
  const own = () => (serverOf(alias()) === server ? localpart(alias()) : '');
  return section(
    () => t('roomSettings.address'),
    () => (alias() ? t('roomSettings.addressNow', { alias: alias() }) : t('roomSettings.addressNone')),
    form(
      {
        submit: () => t('action.save'),
        send: async (data) => {
          await rooms.setAlias(room, data.alias.trim() ? `#${data.alias.trim()}:${server}` : '');
          toast(t('action.saved'));
        },
      },
      field({ name: 'alias', label: () => t('roomSettings.addressField'), hint: () => t('roomSettings.addressHint', { server }), pattern: '[^\\s:#@]+', value: own, maxlength: 200, spellcheck: 'false', autocapitalize: 'none' }),
    ),
    fetched(
      () => rooms.isListed(room),
      (listed) => {
        const on = signal(listed);
        const set = async (/** @type {boolean} */ wanted) => {
          on.value = wanted;
          if ((await attempt(rooms.list(room, wanted))) === undefined) on.value = !wanted;
        };
        return toggle(() => t('roomSettings.listed'), () => on.value, set);
      },
      () => null,
    ),
  );
}

/** Who gets in, who reads what, who writes. @param {App} app @param {Room} room */
function access(app, room) {
  const { rooms } = app.client;
  const rule = () => room.stateOf('m.room.join_rules')?.join_rule ?? 'invite';
  const history = () => room.stateOf('m.room.history_visibility')?.history_visibility ?? 'shared';
  const others = (/** @type {readonly string[]} */ known, /** @type {string} */ now) => (known.includes(now) ? known : [...known, now]);
  const name = (/** @type {string} */ value) => () => (JOIN_RULES.some((known) => known === value) ? t(/** @type {any} */ (`rule.${value}`)) : t('rule.other'));
  return section(
    () => t('roomSettings.access'),
    null,
    keyed(rule, (now) => choose(() => t('roomSettings.joinRule'), others(JOIN_RULES, now).map((value) => [value, name(value)]), rule, (value) => rooms.setState(room, 'm.room.join_rules', { join_rule: value }), () => !room.maySet('m.room.join_rules'))),
    choose(() => t('roomSettings.history'), HISTORY.map((value) => [value, () => t(`history.${value}`)]), history, (value) => rooms.setState(room, 'm.room.history_visibility', { history_visibility: value }), () => !room.maySet('m.room.history_visibility')),
    toggle(() => t('create.announcements'), () => isAnnouncements(room), (on) => attempt(rooms.setAnnouncements(room, on)), { hint: () => t('create.announcementsHint'), disabled: () => !room.maySet('m.room.power_levels') }),
  );
}

/** Version, upgrade, what it is at its root. @param {App} app @param {Room} room */
function future(app, room) {
  const create = () => room.stateOf('m.room.create');
  return section(
    () => t('roomSettings.technical'),
    null,
    h.p({ class: 'copy-line' }, h.bdi(room.id), copyButton(() => room.id)),
    h.p({ class: 'chips' }, () => [h.span({ class: 'chip' }, t('roomSettings.version', { version: String(create()?.room_version ?? '1') })), create()?.['m.federate'] === false && h.span({ class: 'chip' }, t('roomSettings.local'))]),
    keyed(() => room.maySet('m.room.tombstone') && !room.stateOf('m.room.tombstone'), (may) => (may ? h.button({ type: 'button', class: 'button', onclick: () => upgradeDialog(app, room) }, () => t('roomSettings.upgrade')) : null)),
  );
}

/** @param {App} app @param {Room} room */
function upgradeDialog(app, room) {
  return openDialog(
    t('roomSettings.upgrade'),
    (close) =>
      fetched(
        () => app.client.rooms.versions(),
        ({ default: best, available }) => {
          const versions = Object.keys(available).filter((one) => available[one] === 'stable').sort((a, b) => Number(b) - Number(a) || a.localeCompare(b));
          return form(
            {
              submit: () => t('roomSettings.upgradeNow'),
              cancel: close,
              send: async ({ version }) => {
                const id = await app.client.rooms.upgrade(room, version);
                close();
                app.go('room', id);
              },
            },
            h.p(t('roomSettings.upgradeHint')),
            field({ name: 'version', label: () => t('roomSettings.versionField'), element: 'select' }, ...versions.map((one) => h.option({ value: one, selected: one === best }, one))),
          );
        },
      ),
  );
}
