/**
 * The list of rooms in sections: what waits for an answer first, then favourites, people,
 * rooms, and what is of low priority. Owns which room stands where; within a section the
 * order is that of the list it is given. A room that has moved is in none once one is in the new one: a filter finds
 * it, and the beginning of the new one leads there.
 */
import { successor } from './moves.js';

/** @typedef {import('./room.js').Room} Room */
/** @typedef {'invites' | 'favourites' | 'people' | 'rooms' | 'low'} SectionName */

/** @type {SectionName[]} */
const ORDER = ['invites', 'favourites', 'people', 'rooms', 'low'];

/**
 * @param {Room} room
 * @param {ReadonlyMap<string, string>} direct room ID → the person it is with
 * @returns {SectionName}
 */
export function sectionOf(room, direct) {
  if (room.membership.value !== 'join') return 'invites';
  if (room.hasTag('m.favourite')) return 'favourites';
  if (room.hasTag('m.lowpriority')) return 'low';
  return direct.has(room.id) ? 'people' : 'rooms';
}

/**
 * @param {Room[]} rooms latest activity first
 * @param {ReadonlyMap<string, string>} direct
 * @returns {Array<{ name: SectionName, rooms: Room[] }>} those that have any
 */
export function sections(rooms, direct) {
  /** @type {Map<SectionName, Room[]>} */
  const found = new Map(ORDER.map((name) => [name, []]));
  const here = new Set(rooms.filter((room) => room.membership.value === 'join').map((room) => room.id));
  for (const room of rooms) if (!here.has(successor(room))) found.get(sectionOf(room, direct))?.push(room);
  return ORDER.map((name) => ({ name, rooms: found.get(name) ?? [] })).filter(({ rooms: some }) => some.length);
}
