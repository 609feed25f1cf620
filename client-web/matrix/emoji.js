/**
 * Finding an emoji by a word, and remembering which a person takes most. Owns how the data is
 * read; the data stands by itself, and comes when it is first needed.
 */

/** @typedef {{ char: string, words: string[] }} Emoji */
/** @typedef {{ name: 'faces' | 'people' | 'nature' | 'food' | 'play' | 'travel' | 'things' | 'signs', list: Emoji[] }} Group */

/** Offered before somebody has chosen any. */
export const QUICK = ['👍', '❤️', '😂', '🎉', '🙏', '👀'];
const KEY = 'hearth.emoji';
const KEPT = 24;

/** @type {Promise<Group[]> | undefined} */
let groups;

/** @returns {Promise<Group[]>} */
export function emojiGroups() {
  groups ??= import('./emoji-data.js').then(({ GROUPS }) =>
    Object.entries(GROUPS).map(([name, text]) => ({
      name: /** @type {Group['name']} */ (name),
      list: text.split('|').map((line) => {
        const [char, ...words] = line.trim().split(' ');
        return { char, words };
      }),
    })),
  );
  return groups;
}

/**
 * The best matches first: a word that is the text, then one that begins with it, then one that has it.
 * @param {Group[]} all
 * @param {string} text
 * @param {number} most
 * @returns {Emoji[]}
 */
export function findEmoji(all, text, most) {
  const wanted = text.toLowerCase().trim().replace(/[\s-]+/g, '_');
  if (!wanted) return [];
  /** @type {Array<{ rank: number, emoji: Emoji }>} */
  const found = [];
  for (const { list } of all) {
    for (const emoji of list) {
      const rank = Math.min(...emoji.words.map((word, at) => rankOf(word, wanted) + Math.min(at, 3) / 10));
      if (rank < 4) found.push({ rank, emoji });
    }
  }
  return found.sort((a, b) => a.rank - b.rank).slice(0, most).map(({ emoji }) => emoji);
}

/** @param {string} word @param {string} wanted */
function rankOf(word, wanted) {
  if (word === wanted) return 0;
  if (word.startsWith(wanted)) return 1;
  if (word.includes(`_${wanted}`)) return 2;
  return word.includes(wanted) ? 3 : 9;
}

/** What this person took lately, most used first. @param {Pick<Storage, 'getItem'>} storage @returns {string[]} */
export function recentEmoji(storage) {
  return Object.entries(counts(storage)).sort(([, a], [, b]) => b - a).map(([char]) => char);
}

/** @param {Pick<Storage, 'getItem' | 'setItem'>} storage @param {string} char */
export function noteEmoji(storage, char) {
  const all = counts(storage);
  // Old habits fade, so that a new one can rise.
  for (const one of Object.keys(all)) all[one] *= 0.97;
  all[char] = (all[char] ?? 0) + 1;
  const kept = Object.entries(all).sort(([, a], [, b]) => b - a).slice(0, KEPT);
  storage.setItem(KEY, JSON.stringify(Object.fromEntries(kept)));
}

/** @param {Pick<Storage, 'getItem'>} storage @returns {Record<string, number>} */
function counts(storage) {
  try {
    const found = JSON.parse(storage.getItem(KEY) ?? '{}');
    return Object.fromEntries(Object.entries(found).filter(([char, count]) => char.length < 30 && typeof count === 'number'));
  } catch {
    return {};
  }
}
