/**
 * Running the server: accounts, invitations, rooms, reports, health. Speaks Synapse's
 * administration API, which other servers and tools share, and Hearth's own where that has
 * nothing. Owns the shape of these requests; `spec/admin.md` of the server has the rest.
 */
import { ApiError, at } from './api.js';

const SYNAPSE = '/_synapse/admin';
const OWN = '/_matrix/client/unstable/chat.hearth.admin';
const PAGE = 50;

/**
 * @typedef {{ id: string, name: string, avatar?: string, admin: boolean, locked: boolean, suspended: boolean, deactivated: boolean, created: number, seen: number }} User
 * @typedef {{ token: string, allowed: number | null, used: number, expires: number | null }} Invitation
 * @typedef {{ id: string, name: string, alias: string, members: number, local: number, events: number, federated: boolean, open: boolean, encrypted: boolean, version: string }} Hall a room, as its server sees it
 * @typedef {{ id: number, at: number, reason: string, by: string, event?: string, room?: string, roomName?: string, user?: string }} Report
 * @typedef {{ version: string, uptime?: number, memory?: number, database?: number, disk?: number, clients?: { waiting: number }, accounts?: number, rooms?: number }} Health
 * @typedef {{ server: string, retryAt: number, failing: number, why: string }} Peer
 * @typedef {{ address: string, why: string, page: string }} Seen where others call this server, why it isn't there, and why `.well-known` can't be read
 */

/** A path below Synapse's API. @param {TemplateStringsArray} text @param {...string} parts */
function path(text, ...parts) {
  return SYNAPSE + text.reduce((all, piece, index) => all + encodeURIComponent(parts[index - 1]) + piece);
}

export class Admin {
  /** @param {{ api: import('./api.js').Api, me: string, offers(feature: string): Promise<boolean> }} client */
  constructor(client) {
    this.api = client.api;
    this.me = client.me;
    this.offers = client.offers.bind(client);
  }

  /** Whether this person administers their server. @returns {Promise<boolean>} */
  async isAdmin() {
    const { capabilities } = await this.api.get(at`/capabilities`);
    const own = capabilities?.['chat.hearth.admin']?.enabled;
    if (typeof own === 'boolean' || (await this.offers('chat.hearth.ws'))) return own === true;
    return this.api.get(path`/v1/users/${this.me}/admin`).then(({ admin }) => admin === true, () => false);
  }

  /** @param {{ search?: string, from?: string }} wanted @returns {Promise<{ users: User[], next?: string, total: number }>} */
  async users({ search, from }) {
    const answer = await this.api.get(path`/v2/users`, { query: { limit: PAGE, from, guests: false, deactivated: true, name: search || undefined } });
    return { users: (answer.users ?? []).map(user), next: answer.next_token === undefined ? undefined : String(answer.next_token), total: answer.total };
  }

  /** Makes an account, or changes one. @param {string} id @param {{ password?: string, displayname?: string, admin?: boolean, locked?: boolean }} changes */
  async setUser(id, changes) {
    return user(await this.api.put(path`/v2/users/${id}`, changes));
  }

  /** @param {string} id @param {string} password @param {boolean} signOut */
  resetPassword(id, password, signOut) {
    return this.api.post(path`/v1/reset_password/${id}`, { new_password: password, logout_devices: signOut });
  }

  /** @param {string} id @param {boolean} erase */
  deactivate(id, erase) {
    return this.api.post(path`/v1/deactivate/${id}`, { erase });
  }

  /** @returns {Promise<Invitation[]>} */
  async invitations() {
    const { registration_tokens: all } = await this.api.get(path`/v1/registration_tokens`);
    return (all ?? []).map(invitation);
  }

  /** @param {{ uses: number | null, expires: number | null }} how null: without limit */
  async invite({ uses, expires }) {
    return invitation(await this.api.post(path`/v1/registration_tokens/new`, { uses_allowed: uses, expiry_time: expires }));
  }

  /** @param {string} token */
  revoke(token) {
    return this.api.request('DELETE', path`/v1/registration_tokens/${token}`);
  }

  /** @param {{ search?: string, from?: number }} wanted @returns {Promise<{ rooms: Hall[], next?: number, total: number }>} */
  async rooms({ search, from = 0 }) {
    const answer = await this.api.get(path`/v1/rooms`, { query: { limit: PAGE, from, order_by: 'joined_members', search_term: search || undefined } });
    return { rooms: (answer.rooms ?? []).map(hall), next: answer.next_batch, total: answer.total_rooms };
  }

  /** @param {string} id @returns {Promise<string[]>} */
  async members(id) {
    return (await this.api.get(path`/v1/rooms/${id}/members`)).members ?? [];
  }

  /** @param {string} id @param {{ block: boolean, purge: boolean }} how */
  deleteRoom(id, { block, purge }) {
    return this.api.request('DELETE', path`/v2/rooms/${id}`, { body: { block, purge } });
  }

  /** @param {number} [from] @returns {Promise<{ reports: Report[], next?: number, total: number }>} */
  async reports(from = 0) {
    const query = { limit: PAGE, from, dir: 'b' };
    const own = await this.api.get(`${OWN}/reports`, { query }).catch(absent);
    const answer = own ?? (await this.api.get(path`/v1/event_reports`, { query }));
    return { reports: (answer.reports ?? answer.event_reports ?? []).map(report), next: answer.next_token, total: answer.total };
  }

  /** What was reported. @param {number} id @returns {Promise<string>} */
  async reported(id) {
    const { event_json: event } = await this.api.get(path`/v1/event_reports/${String(id)}`);
    return typeof event?.content?.body === 'string' ? event.content.body : '';
  }

  /** @param {number} id */
  dismiss(id) {
    return this.api.request('DELETE', path`/v1/event_reports/${String(id)}`);
  }

  /** @returns {Promise<Health>} */
  async health() {
    const own = await this.api.get(`${OWN}/health`).catch(absent);
    if (!own) return { version: (await this.api.get(path`/v1/server_version`)).server_version };
    return { version: `Hearth ${own.version}`, uptime: own.uptime_ms, memory: own.memory?.resident_bytes, database: own.database?.bytes, disk: own.database?.free_disk_bytes, clients: own.clients, accounts: own.accounts, rooms: own.rooms };
  }

  /** Whether others find this server; null where it doesn't say, or speaks to none. @returns {Promise<Seen | null>} */
  async seen() {
    const answer = await this.api.get(`${OWN}/federation`).catch(absent);
    // No other machine looks for one that calls itself so.
    const isFound = answer?.enabled && answer.server_name !== 'localhost';
    return isFound ? { address: String(answer.address), why: answer.error ?? '', page: answer.well_known?.error ?? '' } : null;
  }

  /** Tries a server now, which would otherwise be tried later. @param {string} server */
  retry(server) {
    return this.api.post(path`/v1/federation/destinations/${server}/reset_connection`);
  }

  /** The servers this one talks to, first those that can't be reached; null where it doesn't say. @param {{ search: string, from?: string }} wanted @returns {Promise<{ rows: Peer[], next?: string, total: number } | null>} */
  async peers({ search, from }) {
    const query = { limit: PAGE, from, destination: search || undefined, order_by: 'failure_ts', dir: 'b' };
    const answer = await this.api.get(path`/v1/federation/destinations`, { query }).catch(absent);
    return answer && { rows: (answer.destinations ?? []).map(peer), next: answer.next_token, total: answer.total };
  }
}

/** A part that a server doesn't have is no failure. @param {unknown} error */
function absent(error) {
  if (error instanceof ApiError && (error.status === 404 || error.code === 'M_UNRECOGNIZED')) return null;
  throw error;
}

/** @param {any} one @returns {User} */
function user(one) {
  const name = typeof one.displayname === 'string' && one.displayname.trim() ? one.displayname.trim().slice(0, 120) : String(one.name).slice(1).split(':')[0];
  return { id: one.name, name, avatar: one.avatar_url ?? undefined, admin: Boolean(one.admin), locked: Boolean(one.locked), suspended: Boolean(one.suspended), deactivated: Boolean(one.deactivated), created: one.creation_ts ?? 0, seen: one.last_seen_ts ?? 0 };
}

/** @param {any} one @returns {Peer} */
function peer(one) {
  return { server: String(one.destination), retryAt: (one.retry_last_ts ?? 0) + (one.retry_interval ?? 0), failing: one.failure_ts ?? 0, why: String(one['chat.hearth.last_error'] ?? '') };
}

/** @param {any} one @returns {Invitation} */
function invitation(one) {
  return { token: one.token, allowed: one.uses_allowed ?? null, used: one.completed ?? 0, expires: one.expiry_time ?? null };
}

/** @param {any} one @returns {Hall} */
function hall(one) {
  return {
    id: one.room_id, name: one.name ?? '', alias: one.canonical_alias ?? '', members: one.joined_members ?? 0, local: one.joined_local_members ?? 0, events: one.state_events ?? 0,
    federated: one.federatable !== false, open: one.join_rules === 'public', encrypted: Boolean(one.encryption), version: String(one.version ?? ''),
  };
}

/** @param {any} one @returns {Report} */
function report(one) {
  return { id: one.id, at: one.received_ts, reason: one.reason ?? '', by: one.user_id, event: one.event_id ?? undefined, room: one.room_id ?? undefined, roomName: one.name ?? one.canonical_alias ?? undefined, user: one.sender ?? undefined };
}
