/**
 * The client-server API over HTTP: one request, its errors, its waits.
 * Owns headers, JSON, rate-limit waits and what an unknown token means. Refuses to know
 * rooms and events. The token travels in a header and never in an address.
 */

/** An answer that says no. */
export class ApiError extends Error {
  /**
   * @param {number} status 0 when there was no answer at all
   * @param {{ errcode?: string, error?: string, retry_after_ms?: number, soft_logout?: boolean, [more: string]: any }} body
   */
  constructor(status, body) {
    super(body.error || body.errcode || `HTTP ${status}`);
    this.name = 'ApiError';
    this.status = status;
    this.code = body.errcode ?? '';
    this.body = body;
    this.retryAfter = body.retry_after_ms;
  }

  /** Whether the same request may succeed later. */
  get passing() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

/**
 * @typedef {{ body?: unknown, query?: Record<string, unknown>, signal?: AbortSignal, timeout?: number, waits?: number }} Options
 *   `waits`: how many times a rate limit is waited for
 */

/** What says that the session is over, or not to be used while its account is locked. */
const ENDED = new Set(['M_UNKNOWN_TOKEN', 'M_USER_LOCKED']);
/** Longer than any answer that isn't a long-poll should take. */
const TIMEOUT = 30_000;
const LONGEST_WAIT = 20_000;

export class Api {
  /**
   * @param {{ base: string, token?: string, fetch?: typeof globalThis.fetch }} options
   */
  constructor({ base, token = '', fetch = globalThis.fetch }) {
    this.base = base.replace(/\/+$/, '');
    this.token = token;
    this.fetch = fetch.bind(globalThis);
    /** Told when the server no longer knows the token. @type {(error: ApiError) => void} */
    this.onSignedOut = () => {};
  }

  /** @param {string} path @param {Options} [options] */
  get(path, options) {
    return this.request('GET', path, options);
  }

  /** @param {string} path @param {unknown} [body] @param {Options} [options] */
  post(path, body = {}, options = {}) {
    return this.request('POST', path, { ...options, body });
  }

  /** @param {string} path @param {unknown} [body] @param {Options} [options] */
  put(path, body = {}, options = {}) {
    return this.request('PUT', path, { ...options, body });
  }

  /**
   * @param {string} method
   * @param {string} path below the base; identifiers in it are encoded with `at`
   * @param {Options} options
   * @returns {Promise<any>}
   */
  async request(method, path, options = {}) {
    for (let waits = options.waits ?? 3; ; waits--) {
      try {
        return await this.#once(method, path, options);
      } catch (error) {
        const wait = error instanceof ApiError && error.status === 429 ? (error.retryAfter ?? 1000) : Infinity;
        if (waits <= 0 || wait > LONGEST_WAIT) throw error;
        await pause(wait, options.signal);
      }
    }
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {Options} options
   */
  async #once(method, path, { body, query, signal, timeout = TIMEOUT }) {
    const token = this.token;
    const limit = AbortSignal.timeout(timeout);
    const response = await this.fetch(this.base + path + queryString(query), {
      method,
      headers: { ...(token && { Authorization: `Bearer ${token}` }), ...(body !== undefined && { 'Content-Type': 'application/json' }) },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
      credentials: 'omit',
      cache: 'no-store',
      referrerPolicy: 'no-referrer',
    }).catch((/** @type {unknown} */ error) => {
      if (signal?.aborted) throw error;
      throw new ApiError(0, { errcode: 'HEARTH_UNREACHABLE' });
    });
    const answer = await response.json().catch((/** @type {unknown} */ error) => {
      if (signal?.aborted) throw error;
      return null;
    });
    if (response.ok && answer !== null) return answer;
    const error = new ApiError(response.ok ? 0 : response.status, answer ?? { errcode: 'HEARTH_NOT_JSON' });
    // Only if it is still our token that was refused: another one may have come meanwhile.
    if (error.status === 401 && ENDED.has(error.code) && token && token === this.token) this.onSignedOut(error);
    throw error;
  }
}

/**
 * A path with its parts encoded: at`/rooms/${roomId}/leave`.
 * @param {TemplateStringsArray} text
 * @param {...string} parts
 */
export function at(text, ...parts) {
  return '/_matrix/client/v3' + encoded(text, parts);
}

/** The same for endpoints that are called v1. @param {TemplateStringsArray} text @param {...string} parts */
export function v1(text, ...parts) {
  return '/_matrix/client/v1' + encoded(text, parts);
}

/** @param {TemplateStringsArray} text @param {string[]} parts */
function encoded(text, parts) {
  return text.reduce((path, piece, index) => path + encodeURIComponent(parts[index - 1]) + piece);
}

/** @param {Record<string, unknown>} [query] */
export function queryString(query = {}) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) if (one !== undefined) search.append(name, String(one));
  }
  const text = search.toString();
  return text && `?${text}`;
}

/**
 * @param {number} ms
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
export function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop);
      resolve();
    }, ms);
    signal?.addEventListener('abort', stop, { once: true });
  });
}
