/**
 * One WebSocket of the sync protocol, from its opening to its end: frames in, acks and
 * requests out. Owns matching replies to requests and giving up on a silent line; refuses
 * to know what a sync means or when to connect again.
 */
import { ApiError, queryString } from './api.js';

const PATH = '/_matrix/client/unstable/chat.hearth.ws/sync';
const PROTOCOL = 'hearth.sync.v1';
/** A reply that takes longer means that the line is dead: a browser can't send pings of its own. */
const REPLY_WITHIN = 15_000;
const OPEN_WITHIN = 15_000;
/** The server's close code for a session that has ended. */
export const SESSION_ENDED = 4401;

/**
 * @typedef {{
 *   onSync: (sync: any) => void,
 *   onEnd: (code: number) => void,
 * }} Listener
 */

export class SyncSocket {
  /** @type {Map<string, { resolve: (body: any) => void, reject: (error: Error) => void, timer: any }>} */
  #waiting = new Map();
  #lastId = 0;
  #ended = false;

  /**
   * @param {{ base: string, token: string, query: Record<string, unknown>, WebSocket: typeof globalThis.WebSocket } & Listener} options
   */
  constructor({ base, token, query, WebSocket, onSync, onEnd }) {
    this.onSync = onSync;
    this.onEnd = onEnd;
    const url = base.replace(/^http/, 'ws') + PATH + queryString(query);
    // The token goes in a header that browsers let us set; addresses end up in logs.
    this.socket = new WebSocket(url, [PROTOCOL, `hearth.token.${token}`]);
    this.opening = setTimeout(() => this.close(), OPEN_WITHIN);
    this.socket.onopen = () => clearTimeout(this.opening);
    this.socket.onmessage = (event) => this.#frame(event.data);
    this.socket.onclose = (event) => this.#end(event.code);
  }

  /** Says that everything up to this token is stored. @param {string} since */
  ack(since) {
    this.#send({ type: 'ack', since });
  }

  /**
   * @param {string} action
   * @param {object} fields
   * @returns {Promise<any>} the body that the HTTP endpoint would answer
   */
  request(action, fields) {
    const id = String(++this.#lastId);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.close(), REPLY_WITHIN);
      this.#waiting.set(id, { resolve, reject, timer });
      if (!this.#send({ type: 'request', id, action, ...fields })) this.close();
    });
  }

  /** Ends now: what is unanswered fails as unreachable, so that it is tried another way. */
  close() {
    this.socket.close();
    // A dead line would leave the browser waiting for the closing handshake.
    this.#end(1006);
  }

  /** @param {object} frame */
  #send(frame) {
    if (this.socket.readyState !== 1) return false;
    this.socket.send(JSON.stringify(frame));
    return true;
  }

  /** @param {unknown} data */
  #frame(data) {
    if (this.#ended) return;
    const frame = parse(data);
    if (frame?.type === 'sync') this.onSync(frame.sync);
    else if (frame?.type === 'reply') this.#reply(frame);
  }

  /** @param {{ id: string, ok?: any, error?: any }} frame */
  #reply({ id, ok, error }) {
    const waiter = this.#waiting.get(id);
    if (!waiter) return;
    this.#waiting.delete(id);
    clearTimeout(waiter.timer);
    if (error) waiter.reject(new ApiError(error.status ?? 500, error));
    else waiter.resolve(ok ?? {});
  }

  /** @param {number} code */
  #end(code) {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.opening);
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(new ApiError(0, { errcode: 'HEARTH_UNREACHABLE' }));
    }
    this.#waiting.clear();
    this.onEnd(code);
  }
}

/** @param {unknown} data */
function parse(data) {
  try {
    return JSON.parse(String(data));
  } catch {
    return null;
  }
}
