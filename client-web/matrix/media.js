/**
 * Pictures and files by their `mxc:` address: fetched with the token, as blobs, never by a
 * plain link. Owns a bounded store of what was fetched lately, and uploads with progress.
 * spec: client-server-api#content-repository
 */
import { ApiError } from './api.js';

/** Pictures kept for a while, so that scrolling back and forth asks once. */
const KEPT_BYTES = 48_000_000;
const KEPT = 400;
const TIMEOUT = 120_000;

/** @param {unknown} mxc @returns {{ server: string, id: string } | null} */
export function parseMxc(mxc) {
  const found = typeof mxc === 'string' ? mxc.match(/^mxc:\/\/([\w.:[\]-]{1,255})\/([\w-]{1,255})$/) : null;
  return found && { server: found[1], id: found[2] };
}

export class Media {
  /** Address of what was fetched → its blob's URL; the oldest use comes first. @type {Map<string, { url: string, bytes: number }>} */
  #kept = new Map();
  #bytes = 0;
  /** @type {Map<string, Promise<string>>} */
  #coming = new Map();

  /**
   * @param {import('./api.js').Api} api
   * @param {{ url?: Pick<typeof URL, 'createObjectURL' | 'revokeObjectURL'>, Request?: typeof globalThis.XMLHttpRequest }} [parts]
   */
  constructor(api, { url = URL, Request = globalThis.XMLHttpRequest } = {}) {
    this.api = api;
    this.urls = url;
    this.Request = Request;
  }

  /**
   * A picture's `blob:` URL, whole or as a thumbnail. It may be let go again when many others
   * have come since: for showing at once, not for keeping.
   * @param {string} mxc
   * @param {{ width: number, height: number, crop?: boolean }} [size] device pixels
   * @returns {Promise<string>}
   */
  picture(mxc, size) {
    const key = `${mxc} ${size?.width ?? ''}x${size?.height ?? ''}${size?.crop ? 'c' : ''}`;
    const kept = this.#kept.get(key);
    if (kept) {
      this.#kept.delete(key);
      this.#kept.set(key, kept);
      return Promise.resolve(kept.url);
    }
    const coming = this.#coming.get(key) ?? this.blob(mxc, size).then((blob) => this.#keep(key, blob)).finally(() => this.#coming.delete(key));
    this.#coming.set(key, coming);
    return coming;
  }

  /**
   * @param {string} mxc
   * @param {{ width: number, height: number, crop?: boolean }} [size]
   * @param {{ signal?: AbortSignal, onProgress?: (share: number) => void }} [options]
   * @returns {Promise<Blob>}
   */
  async blob(mxc, size, { signal, onProgress } = {}) {
    const target = parseMxc(mxc);
    if (!target) throw new ApiError(404, { errcode: 'M_NOT_FOUND' });
    const { server, id } = target;
    const [kind, query] = size ? ['thumbnail', `?width=${size.width}&height=${size.height}&method=${size.crop ? 'crop' : 'scale'}`] : ['download', ''];
    const path = `/_matrix/client/v1/media/${kind}/${encodeURIComponent(server)}/${encodeURIComponent(id)}${query}`;
    const limit = AbortSignal.timeout(TIMEOUT);
    try {
      const response = await this.api.fetch(this.api.base + path, {
        headers: { Authorization: `Bearer ${this.api.token}` },
        signal: signal ? AbortSignal.any([signal, limit]) : limit,
        credentials: 'omit',
        referrerPolicy: 'no-referrer',
      });
      if (!response.ok) throw new ApiError(response.status, await response.json().catch(() => ({})));
      return onProgress ? await counted(response, onProgress) : await response.blob();
    } catch (error) {
      if (error instanceof ApiError || signal?.aborted) throw error;
      throw new ApiError(0, { errcode: 'HEARTH_UNREACHABLE' });
    }
  }

  /**
   * Uploads a file; `fetch` can't tell how far it is, so this is the older way.
   * @param {Blob} blob
   * @param {{ name?: string, signal?: AbortSignal, onProgress?: (share: number) => void }} [options]
   * @returns {Promise<string>} its `mxc:` address
   */
  upload(blob, { name, signal, onProgress } = {}) {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const request = new this.Request();
      const stop = () => {
        request.abort();
        reject(signal?.reason);
      };
      signal?.addEventListener('abort', stop, { once: true });
      request.upload.onprogress = (/** @type {ProgressEvent} */ event) => event.lengthComputable && onProgress?.(event.loaded / event.total);
      request.onload = () => {
        const answer = parse(request.responseText);
        if (request.status === 200 && typeof answer?.content_uri === 'string') return resolve(answer.content_uri);
        const error = new ApiError(request.status === 200 ? 0 : request.status, answer ?? { errcode: 'HEARTH_NOT_JSON' });
        if (error.status === 401 && error.code === 'M_UNKNOWN_TOKEN') this.api.onSignedOut(error);
        reject(error);
      };
      request.onerror = request.ontimeout = () => reject(new ApiError(0, { errcode: 'HEARTH_UNREACHABLE' }));
      request.onloadend = () => signal?.removeEventListener('abort', stop);
      request.open('POST', `${this.api.base}/_matrix/media/v3/upload${name ? `?filename=${encodeURIComponent(name)}` : ''}`);
      request.setRequestHeader('Authorization', `Bearer ${this.api.token}`);
      request.setRequestHeader('Content-Type', blob.type || 'application/octet-stream');
      request.send(blob);
    });
  }

  /** The largest file the server takes, in bytes, or undefined where it doesn't say. @returns {Promise<number | undefined>} */
  async limit() {
    this.limitAsked ??= this.api.get('/_matrix/client/v1/media/config').catch(() => {
      this.limitAsked = undefined;
      return {};
    });
    const found = (await this.limitAsked)?.['m.upload.size'];
    return Number.isFinite(found) ? found : undefined;
  }
  /** @type {Promise<any> | undefined} */
  limitAsked = undefined;

  /** A picture that is here already, since this person has just sent it. @param {string} mxc @param {Blob} blob */
  seed(mxc, blob) {
    this.#keep(`${mxc} x`, blob);
  }

  /** @param {string} key @param {Blob} blob */
  #keep(key, blob) {
    const url = this.urls.createObjectURL(blob);
    this.#kept.set(key, { url, bytes: blob.size });
    this.#bytes += blob.size;
    for (const [old, { url: gone, bytes }] of this.#kept) {
      if ((this.#bytes <= KEPT_BYTES && this.#kept.size <= KEPT) || old === key) break;
      this.urls.revokeObjectURL(gone);
      this.#kept.delete(old);
      this.#bytes -= bytes;
    }
    return url;
  }
}

/** @param {Response} response @param {(share: number) => void} onProgress */
async function counted(response, onProgress) {
  const total = Number(response.headers.get('Content-Length'));
  const reader = response.body?.getReader();
  if (!reader || !total) return response.blob();
  /** @type {BlobPart[]} */
  const parts = [];
  for (let bytes = 0; ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    bytes += value.length;
    onProgress(Math.min(1, bytes / total));
  }
  return new Blob(parts, { type: response.headers.get('Content-Type') ?? '' });
}

/** @param {string} text */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
