/**
 * Searching what was said: in all rooms or in one. Owns asking whether the server can, the
 * question, and where in a text the words are. spec: client-server-api#server-side-search
 */
import { signal } from '../kit/signal.js';
import { ApiError, at } from './api.js';
import { isEvent } from './events.js';

/** @typedef {import('./events.js').Event} Event */
/** @typedef {{ count: number, results: Array<{ event: Event, roomId: string }>, words: string[], next?: string }} Found */

const PAGE = 20;
/** A line of a result, in characters. */
const SNIPPET = 180;

export class Search {
  /** Whether the server searches; false until it is known. */
  offered = signal(false);
  #asked = false;

  /** @param {import('./api.js').Api} api */
  constructor(api) {
    this.api = api;
  }

  /** Asks once whether the server can search. */
  async probe() {
    if (this.#asked) return;
    this.#asked = true;
    try {
      await this.api.post(at`/search`, { search_categories: {} }, { waits: 0 });
      this.offered.value = true;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      // Refusing the empty question is an answer too; not knowing the path is not.
      this.offered.value = error.status === 400 || error.status === 429;
      if (error.passing) this.#asked = false;
    }
  }

  /**
   * @param {string} text
   * @param {{ roomId?: string, next?: string, signal?: AbortSignal }} [where]
   * @returns {Promise<Found>}
   */
  async find(text, { roomId, next, signal: stop } = {}) {
    const criteria = {
      search_term: text,
      keys: ['content.body'],
      order_by: 'recent',
      filter: { limit: PAGE, ...(roomId && { rooms: [roomId] }) },
    };
    const answer = await this.api.post(at`/search`, { search_categories: { room_events: criteria } }, { query: { next_batch: next }, signal: stop });
    const found = answer.search_categories?.room_events ?? {};
    const results = (found.results ?? []).map((/** @type {any} */ one) => one?.result).filter((/** @type {any} */ event) => isEvent(event) && typeof (/** @type {any} */ (event).room_id) === 'string');
    return {
      count: Number.isFinite(found.count) ? found.count : results.length,
      results: results.map((/** @type {any} */ event) => ({ event, roomId: event.room_id })),
      words: (found.highlights ?? []).filter((/** @type {any} */ word) => typeof word === 'string' && word).slice(0, 40),
      next: typeof found.next_batch === 'string' ? found.next_batch : undefined,
    };
  }
}

/**
 * The part of a text around the first hit, in pieces that are hits or not.
 * @param {string} text
 * @param {string[]} words
 * @returns {Array<{ text: string, hit: boolean }>}
 */
export function marked(text, words) {
  const line = text.replace(/\s+/g, ' ').trim().slice(0, 20_000);
  const escaped = words.filter(Boolean).sort((a, b) => b.length - a.length).map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  if (!escaped.length) return [{ text: line.slice(0, SNIPPET), hit: false }];
  const pattern = new RegExp(escaped.join('|'), 'giu');
  const first = line.search(pattern);
  const start = Math.max(0, Math.min(first - SNIPPET / 3, line.length - SNIPPET));
  // Not in the middle of a word, if one begins near.
  const space = start > 0 ? line.indexOf(' ', start) : -1;
  const from = space > 0 && space < start + 20 ? space + 1 : start;
  const shown = line.slice(from, from + SNIPPET);
  /** @type {Array<{ text: string, hit: boolean }>} */
  const parts = from > 0 ? [{ text: '…', hit: false }] : [];
  let last = 0;
  for (const match of shown.matchAll(pattern)) {
    if (match.index > last) parts.push({ text: shown.slice(last, match.index), hit: false });
    parts.push({ text: match[0], hit: true });
    last = match.index + match[0].length;
  }
  parts.push({ text: shown.slice(last) + (from + SNIPPET < line.length ? '…' : ''), hit: false });
  return parts.filter((part) => part.text);
}
