/**
 * Where the person is, from the address's fragment: `#/room/!id/members`. Owns reading and
 * writing it, and leaves history to the browser. Refuses to know what the places mean.
 */
import { signal } from './signal.js';

/** @typedef {{ name: string, args: string[] }} Place */

/**
 * @param {string} hash
 * @returns {Place}
 */
export function parse(hash) {
  const parts = hash.replace(/^#?\/?/, '').split('/').map(decode);
  return { name: parts[0] || 'home', args: parts.slice(1) };
}

/**
 * The fragment of a place. Sigils and colons stay readable.
 * @param {...string} parts
 */
export function link(...parts) {
  return '#/' + parts.map((part) => encodeURIComponent(part).replace(/%(21|40|23|3A|24)/gi, (code) => decodeURIComponent(code))).join('/');
}

export function router() {
  const place = signal(parse(location.hash));
  addEventListener('hashchange', () => {
    place.value = parse(location.hash);
  });
  return {
    place,
    /** @param {...string} parts */
    go(...parts) {
      location.hash = link(...parts);
    },
    /** Like `go`, without a step in the history. @param {...string} parts */
    replace(...parts) {
      history.replaceState(null, '', link(...parts));
      place.value = parse(location.hash);
    },
  };
}

/** @param {string} text */
function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
