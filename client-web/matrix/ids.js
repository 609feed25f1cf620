/**
 * Matrix identifiers: their shapes, their parts, and the links that carry them.
 * spec: appendices#identifier-grammar, appendices#matrixto-navigation
 */

/**
 * Reads what a person typed or a link holds: `@bob:example.org`, `#room:example.org`,
 * `!id`, or a matrix.to or matrix: link to one of these.
 * @param {string} text
 * @returns {{ kind: 'user' | 'alias' | 'room', id: string, eventId?: string, via: string[] } | null}
 */
export function parseTarget(text) {
  const trimmed = text.trim();
  const [target, query = ''] = unwrap(trimmed).split('?', 2);
  const [id, eventId] = target.split('/');
  const kind = kindOf(id);
  if (!kind) return null;
  const via = new URLSearchParams(query).getAll('via').filter((name) => /^[\w.:[\]-]{1,255}$/.test(name));
  return { kind, id, via, ...(eventId?.startsWith('$') && { eventId }) };
}

/** @param {string} id */
function kindOf(id) {
  if (id.length > 255) return null;
  if (/^@[^\s:]+:[^\s/]+$/.test(id)) return 'user';
  if (/^#[^\s:]+:[^\s/]+$/.test(id)) return 'alias';
  // From room version 12 on, a room ID has no server part.
  if (/^![^\s/]+$/.test(id)) return 'room';
  return null;
}

/**
 * The identifier inside a link, with its query; other text as it is.
 * @param {string} text
 */
function unwrap(text) {
  const web = text.match(/^https?:\/\/matrix\.to\/#\/(.+)$/i);
  if (web) return web[1].split('?').map((part, at) => (at ? part : decode(part))).join('?');
  const uri = text.match(/^matrix:(u|r|roomid)\/([^/?]+)(?:\/e\/([^/?]+))?(\?.*)?$/i);
  if (!uri) return text;
  const sigil = { u: '@', r: '#', roomid: '!' }[uri[1].toLowerCase()];
  return sigil + decode(uri[2]) + (uri[3] ? `/$${decode(uri[3])}` : '') + (uri[4] ?? '');
}

/** @param {string} text */
function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** `@bob:example.org` → `bob` @param {string} id */
export function localpart(id) {
  return id.slice(1).split(':', 1)[0];
}

/** `@bob:example.org` → `example.org` @param {string} id */
export function serverOf(id) {
  const at = id.indexOf(':');
  return at < 0 ? '' : id.slice(at + 1);
}

/**
 * A full user ID from what a person typed: `bob` and `@bob` are on this server.
 * @param {string} text
 * @param {string} server
 */
export function userId(text, server) {
  const typed = text.trim();
  const target = parseTarget(typed);
  if (target) return target.kind === 'user' ? target.id : null;
  const local = typed.replace(/^@/, '');
  return /^[^\s:@#!/]+$/.test(local) ? `@${local}:${server}` : null;
}

/**
 * A full alias from `#name:server`, or from a bare name on this server.
 * @param {string} text
 * @param {string} server
 */
export function roomTarget(text, server) {
  const target = parseTarget(text);
  if (target) return target.kind === 'user' ? null : target;
  const local = text.trim().replace(/^#/, '');
  return /^[^\s:@!/]+$/.test(local) ? { kind: 'alias', id: `#${local}:${server}`, via: [] } : null;
}

/** One of `count` colours, always the same one for the same ID. @param {string} id @param {number} count */
export function hueOf(id, count) {
  let hash = 0;
  for (const char of id) hash = (hash * 31 + (char.codePointAt(0) ?? 0)) >>> 0;
  return hash % count;
}
