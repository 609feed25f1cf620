/**
 * What a room is called, and which names in it need more to tell people apart. Owns these rules
 * as functions of a room.
 */

/** @typedef {import('./room.js').Room} Room */
/** @typedef {{ kind: 'name', name: string } | { kind: 'people', names: string[], others: number } | { kind: 'empty', names: string[] }} Title */

/** spec: client-server-api#calculating-the-display-name-for-a-room @param {Room} room @returns {Title} */
export function titleOf(room) {
  const name = room.stateOf('m.room.name')?.name;
  if (typeof name === 'string' && name.trim()) return { kind: 'name', name: name.trim().slice(0, 255) };
  const alias = room.stateOf('m.room.canonical_alias')?.alias;
  if (typeof alias === 'string' && alias) return { kind: 'name', name: alias };
  const names = room.heroes().map((id) => room.nameOf(id));
  const count = (room.summary['m.joined_member_count'] ?? 0) + (room.summary['m.invited_member_count'] ?? 0);
  if (room.membership.value === 'join' && count <= 1) return { kind: 'empty', names };
  return names.length ? { kind: 'people', names, others: Math.max(0, count - 1 - names.length) } : { kind: 'empty', names };
}

/** Names that more than one person in a room bears. @param {Room} room @returns {Set<string>} */
export function sharedNames(room) {
  room.membersChanged.value;
  const seen = new Set();
  const shared = new Set();
  for (const [id, event] of room.members) {
    const { membership } = event.content;
    if (membership !== 'join' && membership !== 'invite') continue;
    const { name } = room.member(id);
    (seen.has(name) ? shared : seen).add(name);
  }
  return shared;
}
