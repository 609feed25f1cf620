/**
 * Keeps the store in step with the server: WebSocket where there is one, long-poll where
 * not, again after each break, from the last token. Owns the order read → write → tell and
 * the waiting between attempts; refuses to know what a sync answer holds.
 */
import { signal } from '../kit/signal.js';
import { ApiError, at, pause } from './api.js';
import { SESSION_ENDED, SyncSocket } from './socket.js';

const FILTER = JSON.stringify({
  room: { state: { lazy_load_members: true }, timeline: { limit: 20, lazy_load_members: true, unread_thread_notifications: true } },
});
const POLL = 30_000;
const FIRST_WAIT = 500;
const LONGEST_WAIT = 30_000;
/** After a WebSocket that never got through, how long long-poll serves before it is tried again. */
const SOCKET_REST = 60_000;
/** How often a quiet line is tried, so that a dead one is noticed. */
const HEARTBEAT = 45_000;

/** @typedef {'connecting' | 'live' | 'offline' | 'stopped'} Status */

export class Sync {
  /** @type {import('../kit/signal.js').Signal<Status>} */
  status = signal(/** @type {Status} */ ('connecting'));
  /** @type {SyncSocket | null} */
  socket = null;
  #stop = new AbortController();
  /** Ends the present wait early. */
  #wake = new AbortController();
  #failures = 0;
  #socketAfter = 0;
  /** Whether the server speaks our protocol; unknown until it has been asked. @type {boolean | null} */
  #offered = null;

  /**
   * @param {{ api: import('./api.js').Api, take: (sync: any) => Promise<void>, since: () => string | undefined, WebSocket?: typeof globalThis.WebSocket | null, now?: () => number }} options
   *   `take` stores one answer; `since` is the token of the last one stored; `WebSocket` is null where none may be tried
   */
  constructor({ api, take, since, WebSocket = globalThis.WebSocket, now = Date.now }) {
    this.api = api;
    this.take = take;
    this.since = since;
    this.WebSocket = WebSocket;
    this.now = now;
    this.presence = 'online';
    this.statusMessage = '';
  }

  /** Runs until `stop`. */
  async run() {
    while (!this.#stop.signal.aborted) {
      try {
        const Socket = await this.#wantedSocket();
        if (Socket) await this.#bySocket(Socket);
        else await this.#byPoll();
      } catch (error) {
        if (this.#stop.signal.aborted) break;
        await this.#rest(error);
      }
    }
    this.status.value = 'stopped';
  }

  stop() {
    this.#stop.abort();
    this.#wake.abort();
    this.socket?.close();
  }

  /** How this person is seen from now on. @param {string} presence @param {string} message */
  present(presence, message) {
    this.presence = presence;
    this.statusMessage = message;
  }

  /** Something changed (the network is back, the tab is in sight): don't wait any longer. */
  nudge() {
    this.#wake.abort();
  }

  /** The network has gone: a line that looks open is not. */
  cut() {
    this.socket?.close();
  }

  /**
   * A request over the open socket, if there is one.
   * @param {string} action
   * @param {object} fields
   * @returns {Promise<any> | null}
   */
  request(action, fields) {
    return this.socket && this.status.peek() === 'live' ? this.socket.request(action, fields) : null;
  }

  async #wantedSocket() {
    if (!this.WebSocket || this.now() < this.#socketAfter) return null;
    if (this.#offered === null) {
      const versions = await this.api.get('/_matrix/client/versions', { signal: this.#stop.signal });
      this.#offered = versions.unstable_features?.['chat.hearth.ws'] === true;
    }
    return this.#offered ? this.WebSocket : null;
  }

  /** One connection. Resolves when it is to be followed by another attempt at once. @param {typeof globalThis.WebSocket} WebSocket */
  async #bySocket(WebSocket) {
    let last = Promise.resolve();
    let frames = 0;
    const query = { since: this.since(), filter: FILTER, set_presence: this.presence };
    const code = await new Promise((resolve, reject) => {
      const onSync = (/** @type {any} */ sync) => {
        frames++;
        // One at a time, in order, and acknowledged only when it is stored.
        last = last.then(async () => {
          await this.take(sync);
          this.#up();
          this.socket?.ack(sync.next_batch);
        });
        last.catch((error) => {
          reject(error);
          this.socket?.close();
        });
      };
      try {
        this.socket = new SyncSocket({ base: this.api.base, token: this.api.token, query, WebSocket, onSync, onEnd: resolve });
      } catch {
        // A token that can't be said as a protocol's name: the other way serves it.
        this.#offered = false;
        return resolve(0);
      }
      this.#beat();
    }).finally(() => {
      clearInterval(this.heart);
      this.socket = null;
    });
    await last;
    if (this.#stop.signal.aborted) return;
    // A browser doesn't say why a connection was refused, but the other way does: an ended
    // session answers 401 there, and anything else is served.
    if (code === SESSION_ENDED) await this.api.get(at`/account/whoami`, { signal: this.#stop.signal });
    if (!frames) this.#socketAfter = this.now() + SOCKET_REST;
    else throw new ApiError(0, { errcode: 'HEARTH_UNREACHABLE' });
  }

  #beat() {
    this.heart = setInterval(() => {
      // Any reply will do, also one that says no.
      this.request('presence', { presence: this.presence, status_msg: this.statusMessage })?.catch(() => {});
    }, HEARTBEAT);
  }

  async #byPoll() {
    // After a break the first answer comes at once, so that "live" is known to be true.
    const timeout = this.status.peek() === 'live' ? POLL : 0;
    const sync = await this.api.get(at`/sync`, {
      query: { since: this.since(), filter: FILTER, timeout, set_presence: this.presence },
      signal: this.#stop.signal,
      timeout: timeout + POLL,
    });
    await this.take(sync);
    this.#up();
  }

  #up() {
    this.#failures = 0;
    if (!this.#stop.signal.aborted) this.status.value = 'live';
  }

  /** @param {unknown} error */
  async #rest(error) {
    if (!(error instanceof ApiError)) console.error(error);
    else if (error.status === 401) return this.stop();
    this.status.value = 'offline';
    this.#wake = new AbortController();
    const wait = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.#failures++);
    // Spread out, so that a server that comes back isn't met by everyone at once.
    const asked = error instanceof ApiError ? error.retryAfter : undefined;
    const spread = asked ?? wait / 2 + Math.random() * (wait / 2);
    await pause(spread, this.#wake.signal).catch(() => {});
  }
}
