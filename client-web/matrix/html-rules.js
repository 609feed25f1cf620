/**
 * What of a message's HTML is allowed to live: tags, attributes per tag, schemes, depth.
 * Data and pure decisions; building elements from them is the view's. Whatever isn't named
 * here is dropped. spec: client-server-api#mroommessage-msgtypes
 */

export const TAGS = new Set(
  ('del h1 h2 h3 h4 h5 h6 blockquote p a ul ol sup sub li b i u strong em s code hr br div table thead tbody tr th td ' +
    'caption pre span img details summary').split(' '),
);

/** These go with all they contain; of other unknown tags the text stays. */
export const DROPPED = new Set(
  ('script style template noscript textarea iframe object embed svg math select option title head noembed noframes xmp ' +
    'plaintext audio video canvas form mx-reply').split(' '),
);

/** Nesting beyond this becomes plain text. */
export const MOST_DEEP = 100;
/** Elements in one message; far more than any honest one has. */
export const MOST_ELEMENTS = 3000;

const SCHEMES = new Set(['https:', 'http:', 'ftp:', 'mailto:', 'magnet:', 'matrix:']);
const COLOR = /^#[0-9a-f]{6}$/i;

/**
 * The address a link may have, or undefined. Relative ones have no scheme, so they go too.
 * @param {string | null} href
 */
export function safeHref(href) {
  if (!href || href.length > 8000) return undefined;
  let url;
  try {
    url = new URL(href);
  } catch {
    return undefined;
  }
  return SCHEMES.has(url.protocol) ? url.href : undefined;
}

/**
 * @typedef {{ attrs: Record<string, string>, style: Record<string, string>, spoiler?: string }} Kept
 */

/**
 * What is kept of an element's attributes. Pictures in text are shown by their description:
 * `src` doesn't survive.
 * @param {string} tag
 * @param {(name: string) => string | null} get
 * @returns {Kept}
 */
export function keep(tag, get) {
  /** @type {Kept} */
  const kept = { attrs: {}, style: {} };
  if (tag === 'a') {
    const href = safeHref(get('href'));
    if (href) Object.assign(kept.attrs, { href, target: '_blank', rel: 'noopener noreferrer nofollow' });
  }
  if (tag === 'ol') {
    const start = Number(get('start') ?? NaN);
    if (Number.isInteger(start) && Math.abs(start) < 1e9) kept.attrs.start = String(start);
  }
  if (tag === 'code') {
    const language = (get('class') ?? '').split(/\s+/).find((name) => /^language-[\w+#.-]{1,40}$/.test(name));
    if (language) kept.attrs.class = language;
  }
  if (tag === 'span') {
    const [color, background, spoiler] = [get('data-mx-color'), get('data-mx-bg-color'), get('data-mx-spoiler')];
    if (color && COLOR.test(color)) kept.style['--said-color'] = color;
    if (background && COLOR.test(background)) kept.style['--said-background'] = background;
    if (spoiler !== null) kept.spoiler = spoiler.slice(0, 200);
  }
  return kept;
}

/** What stands for a picture in text. @param {(name: string) => string | null} get */
export function pictureText(get) {
  return (get('alt') || get('title') || '').slice(0, 200);
}

/**
 * Plain text with the addresses in it found.
 * @param {string} text
 * @returns {Array<{ text: string, href?: string }>}
 */
export function linkify(text) {
  const parts = [];
  let last = 0;
  for (const match of text.matchAll(/\b(?:https?:\/\/|mailto:)[^\s<>"'`]+/gi)) {
    const found = trimEnd(match[0]);
    const href = safeHref(found);
    if (!href) continue;
    if (match.index > last) parts.push({ text: text.slice(last, match.index) });
    parts.push({ text: found, href });
    last = match.index + found.length;
  }
  if (last < text.length) parts.push({ text: text.slice(last) });
  return parts;
}

/** Characters of HTML that are looked at for one line of text. */
const ONE_LINE = 3000;
/** @type {Record<string, string>} */
const NAMED = { lt: '<', gt: '>', quot: '"', amp: '&', nbsp: ' ', '#39': "'" };

/**
 * What HTML says, to stand in one line as text: it is never parsed. Undefined where the sender hides some of it, or
 * where more is in it than words.
 * @param {string} html
 */
export function wordsOf(html) {
  if (/data-mx-spoiler|<(?:img|table|script|style|template|svg|math|title|textarea|noscript|iframe)\b/i.test(html)) return undefined;
  const text = html.slice(0, ONE_LINE).replace(/^<mx-reply>[^]*?<\/mx-reply>/i, '').replace(/<(?:br|hr|\/?(?:p|li|h\d|div|blockquote|pre))\b[^<>]*>/gi, ' ').replace(/<[^<>]*(?:>|$)/g, '');
  return text.replace(/&(lt|gt|quot|amp|nbsp|#39);/g, (_, name) => NAMED[name]);
}

/** Punctuation after an address belongs to the sentence. Linear, whatever comes. @param {string} url */
function trimEnd(url) {
  let open = url.split('(').length - url.split(')').length;
  let end = url.length;
  for (; end > 0; end--) {
    const last = url[end - 1];
    if (last === ')' && open < 0) open++;
    else if (!'.,;:!?…'.includes(last)) break;
  }
  return url.slice(0, end);
}
