/**
 * What a person can say: a message, a reply, an edit, a reaction, a pin. Owns the content of
 * these events as the spec wants it; sending and retrying is the sender's.
 */
import { at } from './api.js';
import { said } from './events.js';
import { toContent } from './markdown.js';

/** @typedef {import('./room.js').Room} Room */
/** @typedef {import('./entry.js').Entry} Entry */
/** @typedef {import('./events.js').Event} Event */
/** @typedef {{ id: string, name: string }} Mention */
/** @typedef {{ text: string, mentions?: Mention[], replyTo?: Event, thread?: string, threadTail?: string }} Words `threadTail`: the thread's latest event */

export class Saying {
  /** @param {{ api: import('./api.js').Api, sender: import('./sender.js').Sender, store: import('./store.js').Store }} parts */
  constructor({ api, sender, store }) {
    this.api = api;
    this.sender = sender;
    this.store = store;
  }

  /** @param {Room} room @param {Words} words */
  message(room, words) {
    return this.sender.message(room, messageContent(words));
  }

  /** A file that has been uploaded. @param {Room} room @param {Record<string, any>} content @param {Omit<Words, 'text'>} words */
  file(room, content, words) {
    return this.sender.message(room, { ...content, ...relates(words), ...mentioned(words) });
  }

  /** @param {Room} room @param {Event} event @param {Omit<Words, 'replyTo' | 'thread'>} words */
  edit(room, event, words) {
    const fresh = { ...toContent(words.text, words.mentions ?? []), ...mentioned(words) };
    const fallback = { ...fresh, body: `* ${fresh.body}`, ...('formatted_body' in fresh && { formatted_body: `* ${fresh.formatted_body}` }) };
    return this.sender.about(room, 'm.room.message', {
      ...fallback,
      'm.mentions': {},
      'm.new_content': fresh,
      'm.relates_to': { rel_type: 'm.replace', event_id: event.event_id },
    });
  }

  /** Gives a reaction, or takes one's own back. @param {Room} room @param {Entry} entry @param {string} key */
  async react(room, entry, key) {
    const { event_id: id } = entry.event;
    const timelines = [room.timeline, ...room.others];
    const own = timelines.map((one) => one.find(id) && one.relations.reactions(id).find((reaction) => reaction.key === key)?.own(room.me)).find(Boolean);
    if (own?.startsWith('~')) return;
    if (own) return this.sender.redact(room, own);
    await this.sender.about(room, 'm.reaction', { 'm.relates_to': { rel_type: 'm.annotation', event_id: id, key } });
  }

  /** Pins a message or takes the pin away. @param {Room} room @param {string} id @param {boolean} pinned */
  async pin(room, id, pinned) {
    const others = room.pinned().filter((one) => one !== id);
    await this.api.put(at`/rooms/${room.id}/state/m.room.pinned_events/`, { pinned: pinned ? [...others, id] : others });
  }
}

/** @param {Words} words */
export function messageContent(words) {
  const { text } = words;
  const emote = text.startsWith('/me ');
  const content = toContent(emote ? text.slice(4) : text.replace(/^\/\//, '/'), words.mentions ?? []);
  return { ...content, msgtype: emote ? 'm.emote' : 'm.text', ...relates(words), ...mentioned(words) };
}

/** spec: client-server-api#rich-replies, #threading @param {Omit<Words, 'text'>} words */
function relates({ replyTo, thread, threadTail }) {
  const reply = replyTo && { 'm.in_reply_to': { event_id: replyTo.event_id } };
  if (thread) {
    // A client that knows no threads sees each as a reply to the one before.
    const fallback = { is_falling_back: !reply, 'm.in_reply_to': { event_id: replyTo?.event_id ?? threadTail ?? thread } };
    return { 'm.relates_to': { rel_type: 'm.thread', event_id: thread, ...fallback } };
  }
  return reply ? { 'm.relates_to': reply } : {};
}

/** Said always, also when it is nobody: else others search the text for names. @param {{ mentions?: Mention[], replyTo?: Event }} words */
function mentioned({ mentions = [], replyTo }) {
  const ids = new Set(mentions.map(({ id }) => id));
  if (replyTo) ids.add(replyTo.sender);
  const room = ids.delete('@room');
  return { 'm.mentions': { ...(ids.size && { user_ids: [...ids] }), ...(room && { room: true }) } };
}

/** The text to put before a person who edits a message. @param {Event} event @param {Record<string, any>} content what it says now */
export function sourceOf(event, content) {
  const { body, kind } = said(event.type, content);
  return kind === 'emote' ? `/me ${body}` : body;
}

/** A link to a message that any Matrix client can follow. @param {string} roomId @param {string} eventId @param {string[]} via */
export function permalink(roomId, eventId, via) {
  const query = via.map((server) => `via=${encodeURIComponent(server)}`).join('&');
  return `https://matrix.to/#/${encodeURIComponent(roomId)}/${encodeURIComponent(eventId)}${query && `?${query}`}`;
}
