/**
 * The settings of what one is told of, and how: everywhere, by the desktop, by ear, and when
 * not at all. All but the desktop's permission follow the person to another browser.
 */
import { h } from '../kit/dom.js';
import { link } from '../kit/router.js';
import { play, SOUNDS } from '../kit/sound.js';
import { brief, exact, t } from '../i18n/index.js';
import { Notifications } from '../matrix/notifications.js';
import { pushersOf } from '../matrix/pushers.js';
import { roomSound, soundsOf } from '../matrix/sounds.js';
import { attempt } from './errors.js';
import { icon } from './icons.js';
import { roomAvatar, roomName } from './names.js';
import { desktop, permission, switchDesktop } from './notifier.js';
import { choose, fetched, section, toggle } from './page.js';

/** @typedef {import('./app.js').App} App */

const EVERYWHERE = /** @type {const} */ (['all', 'mentions', 'none']);

/** @param {App} app */
export function notificationSettings(app) {
  const { account, store } = app.client;
  const notifications = new Notifications(app.client);
  const sounds = () => soundsOf(account.settings());
  const save = (/** @type {Partial<import('../matrix/sounds.js').Sounds>} */ changes) => attempt(account.saveSettings({ sounds: { ...sounds(), ...changes } }));
  const hear = (/** @type {string} */ name) => play(name, sounds().volume);
  const soundChoice = (/** @type {'sound' | 'mention'} */ which, /** @type {() => string} */ label) =>
    h.div(
      { class: 'field-row' },
      choose(label, soundNames(), () => sounds()[which], async (value) => {
        hear(value);
        await save({ [which]: value });
      }, () => !sounds().on),
      h.button({ type: 'button', class: 'icon-button', 'aria-label': () => `${t('sound.test')}: ${label()}`, title: () => t('sound.test'), onclick: () => hear(sounds()[which]) }, icon('sound')),
    );
  const time = (/** @type {'begins' | 'ends'} */ which, /** @type {() => string} */ label) =>
    h.label({ class: 'field time-field' }, h.span({ class: 'hint' }, label), h.input({ type: 'time', value: () => sounds()[which], disabled: () => !sounds().quiet, onchange: (/** @type {any} */ event) => event.target.value && save({ [which]: event.target.value }) }));
  const own = () => store.rooms.value.filter((room) => room.membership.value === 'join' && (notifications.level(room) !== 'default' || roomSound(room)));
  return [
    section(
      () => t('notify.what'),
      null,
      choose(() => t('notify.everywhere'), EVERYWHERE.map((value) => [value, () => t(`everywhere.${value}`)]), () => notifications.everywhere(), (value) => notifications.setEverywhere(/** @type {any} */ (value))),
      toggle(() => t('notify.desktop'), () => desktop.value === 'on' && permission.value === 'granted', (on) => switchDesktop(on), { hint: () => t(permission.value === 'denied' ? 'notify.denied' : 'notify.desktopHint'), disabled: () => permission.value === 'denied' }),
    ),
    section(
      () => t('sound.title'),
      null,
      toggle(() => t('sound.on'), () => sounds().on, (on) => save({ on })),
      soundChoice('sound', () => t('sound.message')),
      soundChoice('mention', () => t('sound.mention')),
      h.label({ class: 'field' }, h.span({ class: 'field-label' }, () => t('sound.volume')), h.input({ type: 'range', min: '0', max: '100', step: '5', value: () => Math.round(sounds().volume * 100), disabled: () => !sounds().on, onchange: (/** @type {any} */ event) => {
        const volume = Number(event.target.value) / 100;
        play(sounds().sound, volume);
        save({ volume });
      } })),
    ),
    section(
      () => t('quiet.title'),
      () => t('quiet.hint'),
      toggle(() => t('quiet.on'), () => sounds().quiet, (quiet) => save({ quiet })),
      h.div({ class: 'field-pair' }, time('begins', () => t('quiet.begins')), time('ends', () => t('quiet.ends'))),
    ),
    () =>
      own().length
        ? section(
            () => t('notify.rooms'),
            null,
            h.ul({ class: 'card flush', role: 'list' }, own().map((room) =>
              h.li({ class: 'row' }, roomAvatar(room, 'small'), h.a({ class: 'row-title row-link row-text', href: link('room', room.id, 'settings'), dir: 'auto' }, () => roomName(room)), h.span({ class: 'row-note' }, () => [notifications.level(room) !== 'default' && t(`level.${notifications.level(room)}`), roomSound(room) && t(soundKey(roomSound(room)))].filter(Boolean).join(' · '))))),
          )
        : null,
    fetched(
      () => pushersOf({ api: app.client.api, offers: (feature) => app.client.offers(feature) }),
      (pushers) => pushers.length > 0 && section(() => t('push.title'), () => t('push.hint'), h.ul({ class: 'card flush', role: 'list' }, pushers.map(pusherRow))),
      () => null,
    ),
  ];
}

/** An app that is told of things by way of the server, and the last times that it was. @param {import('../matrix/pushers.js').Pusher} pusher */
function pusherRow({ app, device, gateway, enabled, failing, retry, log }) {
  const state = () => (!enabled ? t('push.off') : failing ? t('push.failing', { since: brief(failing), next: brief(retry) }) : log[0]?.outcome === 'delivered' ? t('push.told', { when: brief(log[0].ts) }) : t('push.quiet'));
  return h.li(
    { class: 'row' },
    h.span({ class: 'row-icon' }, icon('device')),
    h.div(
      { class: 'row-text' },
      h.bdi({ class: 'row-title' }, [app, device].filter(Boolean).join(' · ')),
      h.span({ class: 'row-note wraps' }, () => `${state()} · ${gateway}`),
      log.length > 0 &&
        h.details(
          { class: 'wraps' },
          h.summary({ class: 'row-note' }, () => t('push.log')),
          h.ul({ role: 'list' }, log.map(({ ts, outcome, error }) => h.li({ class: 'row-note wraps' }, () => [exact(ts), t(`push.${outcome}`), error].filter(Boolean).join(' · ')))),
        ),
    ),
  );
}

/** @param {string} name @returns {import('../i18n/index.js').Key} */
function soundKey(name) {
  return name === 'none' ? 'sound.none' : SOUNDS.includes(name) ? /** @type {any} */ (`tone.${name}`) : 'sound.usual';
}

/** @returns {Array<[string, () => string]>} */
export function soundNames() {
  return SOUNDS.map((name) => [name, () => t(/** @type {any} */ (`tone.${name}`))]);
}
