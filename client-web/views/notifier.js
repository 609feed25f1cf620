/**
 * Tells of what comes in while one looks elsewhere: by a sound, and by the desktop where that
 * was allowed. Owns when something is told, by the push rules and the hours of quiet, and
 * asking for the permission when there is something to be told of.
 */
import { h } from '../kit/dom.js';
import { effect, onStop, signal } from '../kit/signal.js';
import { play } from '../kit/sound.js';
import { t } from '../i18n/index.js';
import { isMessage, isRedacted, oneLine, relation, said } from '../matrix/events.js';
import { Notifications } from '../matrix/notifications.js';
import { isQuiet, roomSound, soundsOf } from '../matrix/sounds.js';
import { icon } from './icons.js';
import { roomName } from './names.js';

/** @typedef {import('./app.js').App} App */
/** @typedef {import('../matrix/room.js').Room} Room */
/** @typedef {import('../matrix/events.js').Event} Event */

/** What came long ago, while this browser slept, is no news. */
const NEWS = 5 * 60_000;
/** Between two sounds at least. */
const REST = 700;
const ANSWERED = 'hearth.desktop';

/** What the browser allows: it tells of no change by itself. */
export const permission = signal(/** @type {NotificationPermission} */ (globalThis.Notification?.permission ?? 'denied'));
/** Whether this browser is to show them: kept here, as the permission is. */
export const desktop = signal(localStorage.getItem(ANSWERED) ?? '');

/** @param {string} answer `on`, `off`, or `later` */
function answer(answer) {
  localStorage.setItem(ANSWERED, answer);
  desktop.value = answer;
}

/** Asks the browser, which asks the person. */
async function askPermission() {
  if (!globalThis.Notification) return;
  permission.value = await Notification.requestPermission();
  answer(permission.value === 'granted' ? 'on' : 'off');
}

/** @param {boolean} on */
export function switchDesktop(on) {
  if (on && permission.peek() !== 'granted') return askPermission();
  answer(on ? 'on' : 'off');
}

/** Begins to tell, and stands where it asks whether it may. @param {App} app */
export function notifier(app) {
  const { client } = app;
  const rules = new Notifications(client);
  // Of several tabs of one person, one speaks.
  const isFirst = () => client.isFirst.peek();
  let last = 0;
  const tell = (/** @type {Room} */ room, /** @type {import('../matrix/notifications.js').Verdict} */ verdict, /** @type {() => { title: string, body: string }} */ text) => {
    const sounds = soundsOf(client.account.settings());
    if (!verdict.notify || !isFirst() || isQuiet(sounds, new Date())) return;
    const own = roomSound(room);
    if (sounds.on && own !== 'none' && Date.now() - last > REST) {
      last = Date.now();
      play(own || (verdict.highlight ? sounds.mention : sounds.sound), sounds.volume);
    }
    if (desktop.peek() !== 'on' || permission.peek() !== 'granted') return;
    const { title, body } = text();
    const shown = new Notification(title, { body, tag: room.id, icon: 'icon.svg', silent: true });
    shown.onclick = () => {
      globalThis.focus();
      app.go('room', room.id);
      shown.close();
    };
  };
  client.store.onNews = (room, events) => {
    if (room.membership.peek() === 'invite') {
      const name = room.inviter ? room.nameOf(room.inviter) : '';
      return tell(room, { notify: true, sound: true, highlight: true }, () => ({ title: roomName(room), body: room.inviter ? t(room.invitedDirectly ? 'invited.friend' : 'invited.title', { name }) : t('invited.titleUnknown') }));
    }
    if (isLookedAt(app, room)) return;
    const news = events.filter((event) => isMessage(event) && !isRedacted(event) && relation(event)?.rel_type !== 'm.replace' && Date.now() - event.origin_server_ts < NEWS);
    const judged = news.map((event) => ({ event, verdict: rules.judge(event, room) })).filter(({ verdict }) => verdict.notify);
    const worst = judged.findLast(({ verdict }) => verdict.highlight) ?? judged.at(-1);
    if (worst) tell(room, worst.verdict, () => ({ title: roomName(room), body: `${room.nameOf(worst.event.sender)}: ${words(worst.event)}` }));
  };
  onStop(() => (client.store.onNews = () => {}));
  badge(() => client.store.rooms.value.reduce((sum, room) => sum + room.unread.value.count + Number(room.membership.value === 'invite'), 0));
  return permissionAsk(app);
}

/** Whether the person has the room before their eyes. @param {App} app @param {Room} room */
function isLookedAt(app, room) {
  const { name, args } = app.place.peek();
  return document.visibilityState === 'visible' && document.hasFocus() && name === 'room' && args[0] === room.id;
}

/** @param {Event} event */
function words(event) {
  return said(event.type, event.content).file?.name || oneLine(event) || t('message.unknown');
}

/** The question, once there is something to be told of; it is asked once. @param {App} app */
function permissionAsk(app) {
  const wanted = () => permission.value === 'default' && !desktop.value && app.client.store.rooms.value.some(({ preview: { value: last } }) => last && isMessage(last) && last.sender !== app.client.me);
  return () =>
    wanted()
      ? h.section(
          { class: 'ask', 'aria-label': t('notify.ask') },
          h.span({ class: 'ask-text' }, icon('bell'), h.span(t('notify.ask'))),
          h.div({ class: 'row-actions' }, h.button({ type: 'button', class: 'button small quiet', onclick: () => answer('later') }, t('notify.later')), h.button({ type: 'button', class: 'button small primary', onclick: askPermission }, t('notify.turnOn'))),
        )
      : null;
}

/** The number of what waits, on the app's icon. @param {() => number} count */
function badge(count) {
  effect(() => {
    const waiting = count();
    const marks = /** @type {any} */ (navigator);
    if (waiting) marks.setAppBadge?.(waiting)?.catch(() => {});
    else marks.clearAppBadge?.()?.catch(() => {});
  });
}
