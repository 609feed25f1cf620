/**
 * How people and rooms are named and pictured everywhere: one place, one look.
 */
import { h, keyed } from '../kit/dom.js';
import { signal } from '../kit/signal.js';
import { hueOf } from '../matrix/ids.js';
import { parseMxc } from '../matrix/media.js';
import { ROLES } from '../matrix/rooms.js';
import { list, t } from '../i18n/index.js';

const HUES = 8;

/** @param {import('../matrix/room.js').Room} room @returns {string} */
export function roomName(room) {
  const title = room.title();
  if (title.kind === 'name') return title.name;
  const names = list(title.names);
  if (title.kind === 'empty') return names ? t('rooms.emptyWas', { names }) : t('rooms.emptyName');
  return title.others ? t('rooms.andOthers', { names: title.names.join(', '), count: title.others }) : names;
}

/** Where pictures come from while somebody is signed in. */
export const media = signal(/** @type {import('../matrix/media.js').Media | null} */ (null));

/** In CSS pixels; the server makes pictures of this size or larger. @type {Record<Look, number>} */
const SIZES = { tiny: 16, small: 32, medium: 40, large: 72, huge: 112 };

/** @typedef {'tiny' | 'small' | 'medium' | 'large' | 'huge'} Look */

/**
 * A picture of somebody or something: until there is one, an initial on a colour of its own.
 * @param {string} id decides the colour
 * @param {() => string} name
 * @param {Look} [size]
 * @param {'person' | 'room'} [shape]
 * @param {() => unknown} [picture] its `mxc:` address
 */
export function avatar(id, name, size = 'medium', shape = 'person', picture = () => undefined) {
  return h.span(
    { class: `avatar ${size} of-${shape} hue-${hueOf(id, HUES)}`, 'aria-hidden': 'true' },
    keyed(picture, (mxc) => (parseMxc(mxc) ? image(String(mxc), SIZES[size], () => initial(name())) : () => initial(name()))),
  );
}

/** @param {string} mxc @param {number} pixels @param {() => string} instead what stands there until it comes, or if it doesn't */
function image(mxc, pixels, instead) {
  const url = signal('');
  const side = pixels <= 40 ? 96 : 256;
  media.peek()?.picture(mxc, { width: side, height: side, crop: true }).then((found) => (url.value = found), () => {});
  return () => (url.value ? h.img({ src: url.value, alt: '', draggable: 'false', onerror: () => (url.value = '') }) : instead());
}

/** The colour class of a person's name. @param {string} id */
export function hue(id) {
  return `hue-${hueOf(id, HUES)}`;
}

/** Making one is dear, and every picture asks. */
const segmenter = new Intl.Segmenter();

/** The first thing that looks like a letter, as the reader would count letters. @param {string} name */
export function initial(name) {
  const letters = name.replace(/^[@#!\s]+/, '');
  const [found] = segmenter.segment(letters.slice(0, 40));
  const first = found?.segment ?? '?';
  // Marks piled on one letter would fall out of the circle.
  return first.normalize('NFC').slice(0, 8).replace(/\p{M}{2,}/gu, '').toLocaleUpperCase();
}

/**
 * The picture of a person in a room.
 * @param {import('../matrix/room.js').Room} room
 * @param {string} id
 * @param {Look} [size]
 */
export function memberAvatar(room, id, size = 'medium') {
  return avatar(id, () => room.member(id).name, size, 'person', () => room.member(id).avatar);
}

/** The picture of a room: in a chat of two it is the other person's. @param {import('../matrix/room.js').Room} room @param {Look} [size] */
export function roomAvatar(room, size = 'medium') {
  const other = () => (room.stateOf('m.room.name')?.name ? undefined : room.heroes().length === 1 ? room.heroes()[0] : undefined);
  const picture = () => room.stateOf('m.room.avatar')?.url ?? (other() && room.member(other() ?? '').avatar);
  return keyed(other, (id) => avatar(id ?? room.id, () => roomName(room), size, id ? 'person' : 'room', picture));
}

/**
 * A picture with the dot that says whether its person is there.
 * @param {import('../matrix/store.js').Store} store
 * @param {() => string | undefined} user
 * @param {any} picture
 */
export function withPresence(store, user, picture) {
  const state = () => store.presence(user() ?? '')?.state;
  return h.span({ class: 'face' }, picture, () => (state() ? h.span({ class: `dot is-${state()}`, role: 'img', 'aria-label': t(`presence.${state() ?? 'offline'}`), title: t(`presence.${state() ?? 'offline'}`) }) : null));
}

/** The name of a power level. @param {number} power @returns {import('../i18n/index.js').Key} */
export function roleKey(power) {
  if (power === Infinity) return 'members.creator';
  if (power >= ROLES.admin) return 'members.admin';
  return power >= ROLES.moderator ? 'members.moderator' : power < 0 ? 'members.restricted' : 'members.member';
}

/** How many messages are unread, where nothing else is said of them. @param {number} count */
export function unreadBadge(count) {
  const label = t('rooms.unread', { count });
  return h.span({ class: 'badge', role: 'img', 'aria-label': label, title: label }, count > 99 ? '99+' : String(count));
}
