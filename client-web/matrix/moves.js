/**
 * Rooms that took another one's place, as an upgrade makes them. spec: client-server-api#room-upgrades
 */

/** @typedef {import('./room.js').Room} Room */

/** The room that took this one's place, or ''. @param {Room} room */
export function successor(room) {
  return idIn(room.stateOf('m.room.tombstone')?.replacement_room);
}

/** The room whose place this one took, or ''. @param {Room} room */
export function predecessor(room) {
  return idIn(room.stateOf('m.room.create')?.predecessor?.room_id);
}

/** @param {unknown} id @returns {string} */
function idIn(id) {
  return typeof id === 'string' && id.startsWith('!') ? id : '';
}
