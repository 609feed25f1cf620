/**
 * From a timeline's entries to the rows that are shown: days, groups of one sender, the
 * line before what is new. Owns these decisions as plain data; builds no elements.
 */
import { isMessage, isRedacted } from '../matrix/events.js';

/** @typedef {import('../matrix/entry.js').Entry} Entry */
/**
 * @typedef {{ kind: 'top', key: string, complete: boolean }
 *   | { kind: 'day', key: string, ts: number }
 *   | { kind: 'new', key: string }
 *   | { kind: 'message', key: string, entry: Entry, head: boolean }
 *   | { kind: 'notice', key: string, entry: Entry }} Row
 */

/** Messages of one sender within this time stand together. */
const TOGETHER = 5 * 60_000;
/** What a room is made with comes within this time. */
const AT_ONCE = 10_000;

/**
 * @param {Entry[]} entries
 * @param {{ complete: boolean, newAfter?: string, me: string }} options `newAfter`: the ID of the last event read
 * @returns {Row[]}
 */
export function rows(entries, { complete, newAfter, me }) {
  /** @type {Row[]} */
  const list = [{ kind: 'top', key: complete ? 'top:start' : 'top:more', complete }];
  /** @type {Entry | undefined} */
  let last;
  let passed = false;
  let marked = false;
  /** The room's making, as long as its maker is at it. @type {import('../matrix/events.js').Event | undefined} */
  let making;
  for (const entry of entries) {
    const { event } = entry;
    if (event.type === 'm.room.create') making = event;
    else if (making && isPartOf(making, event)) {
      passed ||= event.event_id === newAfter;
      continue;
    } else making = undefined;
    const newDay = !last || last.day() !== entry.day();
    if (newDay) list.push({ kind: 'day', key: `day:${entry.key}`, ts: event.origin_server_ts });
    /** @type {boolean} */
    const isNew = passed && !marked && event.sender !== me;
    if (isNew) list.push({ kind: 'new', key: 'new' });
    marked ||= isNew;
    if (isMessage(event)) {
      const head = newDay || isNew || !last || !follows(last, entry);
      list.push({ kind: 'message', key: head ? entry.key : `${entry.key}+`, entry, head });
    } else list.push({ kind: 'notice', key: entry.key, entry });
    passed ||= event.event_id === newAfter;
    last = entry;
  }
  return list;
}

/** What a room is made with stands above its first line already: its name, its topic, its maker. @param {import('../matrix/events.js').Event} making @param {import('../matrix/events.js').Event} event */
function isPartOf(making, event) {
  const isOthers = event.type === 'm.room.member' && event.state_key !== making.sender;
  return event.state_key !== undefined && event.sender === making.sender && !isOthers && event.origin_server_ts - making.origin_server_ts < AT_ONCE;
}

/** @param {Entry} before @param {Entry} after */
function follows(before, after) {
  const [a, b] = [before.event, after.event];
  const near = Math.abs(b.origin_server_ts - a.origin_server_ts) < TOGETHER;
  return isMessage(a) && a.sender === b.sender && near && !isRedacted(a);
}
