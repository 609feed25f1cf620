/**
 * Who is signed in on this browser: kept, made by signing in, ended by signing out.
 * Owns the stored session and the sign-in requests; registration is its neighbour.
 * spec: client-server-api#login
 */
import { Api, at } from './api.js';

/** @typedef {{ base: string, userId: string, deviceId: string, token: string, fresh?: boolean }} Session */
/** What is left of a session that has expired, so that signing in again continues it. @typedef {{ base: string, userId: string, deviceId: string }} Expired */

export const KEY = 'hearth.session';
const EXPIRED = 'hearth.session.expired';

/** @param {Storage} storage */
export function sessionKeeper(storage) {
  const read = (/** @type {string} */ key) => {
    try {
      return JSON.parse(storage.getItem(key) ?? 'null');
    } catch {
      return null;
    }
  };
  return {
    /** @returns {Session | null} */
    load() {
      const found = read(KEY);
      return found?.token && found.userId && found.base ? found : null;
    },
    /** @param {Session} session */
    save(session) {
      storage.setItem(KEY, JSON.stringify(session));
      storage.removeItem(EXPIRED);
    },
    /** The token is gone, the device may come back. @param {Session} session */
    expire({ base, userId, deviceId }) {
      storage.removeItem(KEY);
      storage.setItem(EXPIRED, JSON.stringify({ base, userId, deviceId }));
    },
    /** @returns {Expired | null} */
    expired: () => read(EXPIRED),
    clear() {
      storage.removeItem(KEY);
      storage.removeItem(EXPIRED);
    },
  };
}

/**
 * @param {{ base: string, user: string, password: string, deviceName: string, expired?: Expired | null, fetch?: typeof globalThis.fetch }} options
 * @returns {Promise<Session>}
 */
export async function signIn({ base, user, password, deviceName, expired, fetch }) {
  const api = new Api({ base, fetch });
  const answer = await api.post(at`/login`, {
    type: 'm.login.password',
    identifier: { type: 'm.id.user', user },
    password,
    initial_device_display_name: deviceName,
    // The same person on the same server goes on as the same device.
    ...(expired?.deviceId && isSame(expired, base, user) && { device_id: expired.deviceId }),
  });
  return fromAnswer(base, answer);
}

/**
 * @param {string} base
 * @param {{ user_id: string, device_id: string, access_token: string, well_known?: any }} answer
 * @returns {Session}
 */
export function fromAnswer(base, answer) {
  const better = answer.well_known?.['m.homeserver']?.base_url;
  return { base: typeof better === 'string' && /^https?:/.test(better) ? better.replace(/\/+$/, '') : base, userId: answer.user_id, deviceId: answer.device_id, token: answer.access_token };
}

/**
 * Whether the name typed is the person whose session expired.
 * @param {Expired} expired
 * @param {string} base
 * @param {string} user
 */
function isSame(expired, base, user) {
  const typed = user.trim().replace(/^@/, '').toLowerCase();
  const known = expired.userId.slice(1).toLowerCase();
  return expired.base === base && (typed === known || typed === known.split(':', 1)[0]);
}
