/**
 * How much is unread: of a room or a thread, as sync answers say it. Knows neither.
 * spec: client-server-api#get_matrixclientv3sync (`unread_notifications`)
 */
import { isObject } from './events.js';

/** @typedef {{ count: number, mentions: number }} Unread */

/** @type {Unread} */
export const NONE = { count: 0, mentions: 0 };

/** @param {Unread} a @param {Unread} b @returns {Unread} */
export const both = (a, b) => ({ count: a.count + b.count, mentions: a.mentions + b.mentions });

/** @param {any} counts @returns {Unread} */
export const unreadIn = (counts) => ({ count: Number(counts.notification_count) || 0, mentions: Number(counts.highlight_count) || 0 });

/** What is unread in each thread, by its first event. @param {any} threads @returns {Map<string, Unread>} */
export function unreadInThreads(threads) {
  const said = Object.entries(isObject(threads) ? threads : {}).filter(([, counts]) => isObject(counts));
  return new Map(said.map(([root, counts]) => /** @type {const} */ ([root, unreadIn(counts)])).filter(([, { count }]) => count));
}
