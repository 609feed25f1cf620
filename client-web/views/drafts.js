/**
 * What was begun and not yet sent, per conversation, over reloads. Owns how it is kept.
 */

/** @typedef {{ text: string, mentions: import('../matrix/saying.js').Mention[], replyTo?: string }} Draft */

const PREFIX = 'hearth.draft.';

/** @param {string} me @param {string} roomId @param {string} [thread] */
export function draftKeeper(me, roomId, thread) {
  const key = `${PREFIX}${me}.${roomId}${thread ? `.${thread}` : ''}`;
  return {
    /** @returns {Draft} */
    load() {
      try {
        const found = JSON.parse(localStorage.getItem(key) ?? '');
        const mentions = Array.isArray(found.mentions) ? found.mentions.filter((/** @type {any} */ one) => typeof one?.id === 'string' && typeof one.name === 'string') : [];
        return { text: String(found.text ?? ''), mentions, ...(typeof found.replyTo === 'string' && { replyTo: found.replyTo }) };
      } catch {
        return { text: '', mentions: [] };
      }
    },
    /** @param {Draft} draft */
    save(draft) {
      try {
        if (draft.text || draft.replyTo) localStorage.setItem(key, JSON.stringify(draft));
        else localStorage.removeItem(key);
      } catch {
        // A full store costs the draft over a reload, not the writing.
      }
    },
  };
}

/** Nothing of a person who signs out stays. @param {string} me */
export function forgetDrafts(me) {
  for (const key of Object.keys(localStorage)) if (key.startsWith(`${PREFIX}${me}.`)) localStorage.removeItem(key);
}
