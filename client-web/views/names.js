/**
 * How people and rooms are named and pictured everywhere: one place, one look.
 */
import { h } from '../kit/dom.js';
import { hueOf } from '../matrix/ids.js';
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

/**
 * A picture of somebody or something: until there is one, an initial on a colour of its own.
 * @param {string} id decides the colour
 * @param {() => string} name
 * @param {'small' | 'medium' | 'large' | 'tiny'} [size]
 * @param {'person' | 'room'} [shape]
 */
export function avatar(id, name, size = 'medium', shape = 'person') {
  return h.span({ class: `avatar ${size} of-${shape} hue-${hueOf(id, HUES)}`, 'aria-hidden': 'true' }, () => initial(name()));
}

/** The colour class of a person's name. @param {string} id */
export function hue(id) {
  return `hue-${hueOf(id, HUES)}`;
}

/** The first thing that looks like a letter, as the reader would count letters. @param {string} name */
export function initial(name) {
  const letters = name.replace(/^[@#!\s]+/, '');
  const first = [...new Intl.Segmenter().segment(letters.slice(0, 40))][0]?.segment ?? '?';
  // Marks piled on one letter would fall out of the circle.
  return first.normalize('NFC').slice(0, 8).replace(/\p{M}{2,}/gu, '').toLocaleUpperCase();
}

/** The avatar of a room: in a chat of two it is the other person's. @param {import('../matrix/room.js').Room} room @param {'medium' | 'large'} [size] */
export function roomAvatar(room, size = 'medium') {
  return avatar(room.id, () => roomName(room), size, 'room');
}
