/**
 * A stand-in for a server, for measuring the client alone and for accounts larger than a test has
 * time to make: it says what is wanted at once, whatever the machine is doing. It speaks as much of
 * the API as the client needs to open: long-poll sync, older messages, members, receipts that go nowhere.
 */
import { createServer } from 'node:http';

export const ME = '@me:stand.in';

export class StandIn {
  /** Sync answers that wait to be asked for. */
  answers = [];
  /** Room ID → its messages, oldest first. */
  rooms = new Map();
  #ask = null;
  #next = 0;

  static async start() {
    const it = new StandIn();
    it.http = createServer((request, answer) => it.#serve(request, answer));
    await new Promise((resolve) => it.http.listen(0, '127.0.0.1', resolve));
    it.url = `http://127.0.0.1:${it.http.address().port}`;
    return it;
  }

  end() {
    this.http.closeAllConnections();
    this.http.close();
  }

  session() {
    return { base: this.url, userId: ME, deviceId: 'BENCH', token: 'none' };
  }

  /** Room ID → its members' events. */
  members = new Map();

  /** Has the next sync say this, and what more there is beside rooms. Resolves when the client has come back for more. */
  say(rooms, more = {}) {
    const taken = new Promise((resolve) => this.answers.push({ rooms, more, resolve }));
    this.#answer();
    return taken;
  }

  /** A room with so many messages, and its part of a first sync: the last ones. */
  room(id, name, count) {
    const messages = Array.from({ length: count }, (_, at) => message(id, at, count));
    this.rooms.set(id, messages);
    const state = [
      event(id, 'm.room.create', { creator: ME, room_version: '11' }, { state_key: '', event_id: `$create${id}` }),
      event(id, 'm.room.name', { name }, { state_key: '', event_id: `$name${id}` }),
      ...PEOPLE.map((user) => event(id, 'm.room.member', { membership: 'join', displayname: user.slice(1, -9) }, { state_key: user, sender: user, event_id: `$member${user}${id}` })),
    ];
    return { state: { events: state }, timeline: { events: messages.slice(-20), limited: true, prev_batch: String(Math.max(0, count - 20)) }, summary: { 'm.joined_member_count': PEOPLE.length } };
  }

  #serve(request, answer) {
    const url = new URL(request.url, this.url);
    answer.setHeader('Access-Control-Allow-Origin', '*');
    answer.setHeader('Access-Control-Allow-Headers', '*');
    answer.setHeader('Access-Control-Allow-Methods', '*');
    answer.setHeader('Access-Control-Max-Age', '600');
    const say = (body, status = 200) => answer.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
    if (request.method === 'OPTIONS') return answer.end();
    if (url.pathname.endsWith('/versions')) return say({ versions: ['v1.11'] });
    if (url.pathname.endsWith('/sync')) {
      this.#ask = say;
      return this.#answer();
    }
    if (url.pathname.endsWith('/members')) return say({ chunk: this.members.get(decodeURIComponent(url.pathname.split('/').at(-2))) ?? [] });
    if (url.pathname.endsWith('/messages')) {
      const room = decodeURIComponent(url.pathname.split('/').at(-2));
      const from = Number(url.searchParams.get('from'));
      const all = this.rooms.get(room);
      if (url.searchParams.get('dir') === 'f') {
        const until = Math.min(all.length, from + Number(url.searchParams.get('limit')));
        return say({ chunk: all.slice(from, until), start: String(from), ...(until < all.length && { end: String(until) }) });
      }
      const to = Math.max(0, from - Number(url.searchParams.get('limit')));
      return say({ chunk: all.slice(to, from).reverse(), start: String(from), ...(to > 0 && { end: String(to) }) });
    }
    request.resume();
    return say(request.method === 'GET' ? { errcode: 'M_UNRECOGNIZED' } : {}, request.method === 'GET' || url.pathname.endsWith('/search') ? 404 : 200);
  }

  #answer() {
    if (!this.#ask) return;
    const next = this.answers[0];
    this.last?.();
    this.last = undefined;
    if (!next) return;
    this.answers.shift();
    const say = this.#ask;
    this.#ask = null;
    this.last = next.resolve;
    say({ next_batch: `n${++this.#next}`, rooms: { join: next.rooms }, ...next.more });
  }
}

export const PEOPLE = ['@ada:stand.in', '@bela:stand.in', '@chen:stand.in', '@dora:stand.in', ME];
const WORDS = 'the garden needs water before noon and somebody has to bring the long hose back from the shed where it was left yesterday'.split(' ');

export function event(room, type, content, more) {
  return { type, content, sender: ME, origin_server_ts: 1_780_000_000_000, room_id: room, ...more };
}

/** Messages as people write them: most short, some long, some formatted, some with reactions' weight. */
export function message(room, at, of = at) {
  const length = 3 + ((at * 7919) % 40);
  const body = `${at}: ${Array.from({ length }, (_, n) => WORDS[(at + n) % WORDS.length]).join(' ')}`;
  const formatted = at % 5 === 0 && { format: 'org.matrix.custom.html', formatted_body: `<p>${body.replace('garden', '<strong>garden</strong>')}</p><ul><li><a href="https://example.org/${at}">a link</a></li><li><code>code</code></li></ul>` };
  return event(room, 'm.room.message', { msgtype: 'm.text', body, ...formatted }, { sender: PEOPLE[Math.floor(at / 3) % PEOPLE.length], event_id: `$${room}${at}`, origin_server_ts: 1_780_000_000_000 - (of - at) * 60_000 });
}
