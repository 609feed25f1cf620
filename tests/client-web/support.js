/**
 * Doubles and builders for the client's parts: events, sync answers, a server that answers
 * from a script, a WebSocket that a test holds at the other end.
 */

let count = 0;

export function event(type, content, more = {}) {
  count++;
  return { type, event_id: `$e${count}`, sender: '@bob:here', origin_server_ts: 1_700_000_000_000 + count * 1000, content, ...more };
}

export const message = (body, more) => event('m.room.message', { msgtype: 'm.text', body }, more);

export const member = (user, membership = 'join', displayname) => event('m.room.member', { membership, ...(displayname && { displayname }) }, { state_key: user, sender: user });

/** A sync answer in which one room has something new. */
export function joined(id, { events = [], state = [], limited = false, before, ...rest } = {}, next = `s${++count}`) {
  return { next_batch: next, rooms: { join: { [id]: { state: { events: state }, timeline: { events, limited, ...(before && { prev_batch: before }) }, ...rest } } } };
}

/** A `fetch` that answers from a list of `[status, body]` or functions, and keeps what it was asked. */
export function scripted(...answers) {
  const calls = [];
  const fetch = async (url, options) => {
    calls.push({ url, ...options, body: options.body && JSON.parse(options.body) });
    const next = answers.shift();
    if (!next) throw new Error(`unexpected ${options.method} ${url}`);
    const aborted = new Promise((_, reject) => options.signal?.addEventListener('abort', () => reject(options.signal.reason)));
    aborted.catch(() => {});
    const [status, body] = typeof next === 'function' ? await Promise.race([next(url, options), aborted]) : next;
    if (status === 0) throw new TypeError('network');
    return new Response(typeof body === 'string' ? body : JSON.stringify(body), { status });
  };
  return { fetch, calls };
}

/** A class like WebSocket whose instances the test plays the server for. */
export function sockets() {
  const opened = [];
  class Socket {
    readyState = 0;
    sent = [];
    constructor(url, protocols) {
      Object.assign(this, { url, protocols });
      opened.push(this);
    }
    send(text) {
      this.sent.push(JSON.parse(text));
    }
    close() {
      this.readyState = 2;
    }
    open() {
      this.readyState = 1;
      this.onopen?.();
    }
    frame(frame) {
      this.onmessage({ data: typeof frame === 'string' ? frame : JSON.stringify(frame) });
    }
    end(code) {
      this.readyState = 3;
      this.onclose({ code });
    }
  }
  return { Socket, opened };
}

/** Lets everything that waits for nothing but its turn go on. */
export async function settled(turns = 20) {
  for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
}
