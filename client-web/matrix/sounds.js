/**
 * How a person wants to be told by ear, and when not at all: kept with the account, a room's
 * own choice with the room. Owns the defaults and the hours of quiet; plays nothing.
 */
import { isObject } from './events.js';

/** What this client keeps with a room. */
export const ROOM_SETTINGS = 'chat.hearth.room';
/** @typedef {{ on: boolean, sound: string, mention: string, volume: number, quiet: boolean, begins: string, ends: string }} Sounds */

/** @type {Sounds} */
const USUAL = { on: true, sound: 'chime', mention: 'ember', volume: 0.6, quiet: false, begins: '22:00', ends: '07:00' };

/** @param {Record<string, any>} settings of the account @returns {Sounds} */
export function soundsOf(settings) {
  const kept = isObject(settings.sounds) ? settings.sounds : {};
  const valid = Object.entries(USUAL).map(([name, usual]) => [name, typeof kept[name] === typeof usual ? kept[name] : usual]);
  const found = Object.fromEntries(valid);
  return { ...found, volume: Math.max(0, Math.min(1, found.volume)), begins: minutes(found.begins) === null ? USUAL.begins : found.begins, ends: minutes(found.ends) === null ? USUAL.ends : found.ends };
}

/** A room's own sound: one of them, `none`, or empty for that of the account. @param {import('./room.js').Room} room @returns {string} */
export function roomSound(room) {
  const sound = room.accountData(ROOM_SETTINGS)?.sound;
  return typeof sound === 'string' ? sound : '';
}

/** Whether it is a time at which nobody wants to be disturbed. @param {Sounds} sounds @param {Date} now */
export function isQuiet({ quiet, begins, ends }, now) {
  const [first, last] = [minutes(begins), minutes(ends)];
  if (!quiet || first === null || last === null || first === last) return false;
  const at = now.getHours() * 60 + now.getMinutes();
  // The night goes over midnight.
  return first < last ? at >= first && at < last : at >= first || at < last;
}

/** @param {unknown} text like 22:30 */
function minutes(text) {
  const found = typeof text === 'string' && text.match(/^([01]\d|2[0-3]):([0-5]\d)$/);
  return found ? Number(found[1]) * 60 + Number(found[2]) : null;
}
