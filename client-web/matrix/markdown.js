/**
 * What a person types → what is sent: Markdown as the spec's HTML, if there is any in it.
 * Owns the small language (bold, italic, strike, spoiler, code, quote, lists, links, headings)
 * and escaping. Every tag written here is one that `html-rules.js` keeps.
 */
import { safeHref } from './html-rules.js';

/** Quotes and lists within each other. */
const MOST_DEEP = 8;
const ESCAPABLE = /[\\`*_~[\]()#>|!.+-]/;
const MARKS = /** @type {const} */ ([['**', 'strong'], ['__', 'strong'], ['~~', 'del'], ['||', 'spoiler'], ['*', 'em'], ['_', 'em']]);
const ITEM = /^( *)([-*+]|\d{1,9}[.)])\s+(\S.*)$/;

/** @typedef {{ id: string, name: string }} Mention */

/**
 * @param {string} text
 * @param {Mention[]} [mentions] people whose `@name` in the text becomes a link to them
 * @returns {{ msgtype: 'm.text', body: string, format?: 'org.matrix.custom.html', formatted_body?: string }}
 */
export function toContent(text, mentions = []) {
  const html = toHtml(text, mentions);
  const plain = escapeHtml(text).replace(/\n/g, '<br>');
  return { msgtype: 'm.text', body: text, ...(html !== plain && { format: 'org.matrix.custom.html', formatted_body: html }) };
}

/** @param {string} text @param {Mention[]} [mentions] */
export function toHtml(text, mentions = []) {
  const blocks = parseBlocks(text.split('\n'), mentions, 0);
  // One paragraph alone needs no frame.
  if (blocks.length === 1 && blocks[0].tag === 'p') return blocks[0].html;
  return blocks.map(({ tag, html }) => (tag === 'p' ? `<p>${html}</p>` : html)).join('');
}

const ENTITIES = /** @type {Record<string, string>} */ ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' });

/** @param {string} text */
export function escapeHtml(text) {
  return text.replace(/[&<>"']/g, (char) => ENTITIES[char]);
}

/** @typedef {{ tag: string, html: string }} Block */

/** @param {string[]} lines @param {Mention[]} mentions @param {number} depth @returns {Block[]} */
function parseBlocks(lines, mentions, depth) {
  /** @type {Block[]} */
  const blocks = [];
  /** @type {string[]} */
  let paragraph = [];
  const close = () => {
    if (paragraph.length) blocks.push({ tag: 'p', html: paragraph.map((line) => inline(line, mentions)).join('<br>') });
    paragraph = [];
  };
  for (let at = 0; at < lines.length; ) {
    const found = depth < MOST_DEEP ? block(lines, at, mentions, depth) : null;
    if (found) {
      close();
      blocks.push(found.block);
      at = found.next;
    } else {
      if (lines[at].trim()) paragraph.push(lines[at]);
      else close();
      at++;
    }
  }
  close();
  return blocks;
}

/**
 * The block that begins at a line, if one does.
 * @param {string[]} lines @param {number} at @param {Mention[]} mentions @param {number} depth
 * @returns {{ block: Block, next: number } | null}
 */
function block(lines, at, mentions, depth) {
  const line = lines[at];
  const fence = line.match(/^```([\w+#.-]{0,40})\s*$/);
  if (fence) {
    const end = lines.findIndex((one, index) => index > at && one.trim() === '```');
    if (end > 0) {
      const language = fence[1] && ` class="language-${fence[1]}"`;
      return { block: { tag: 'pre', html: `<pre><code${language}>${escapeHtml(lines.slice(at + 1, end).join('\n'))}\n</code></pre>` }, next: end + 1 };
    }
  }
  if (/^>/.test(line)) {
    const end = last(lines, at, (one) => one.startsWith('>'));
    const inner = parseBlocks(lines.slice(at, end).map((one) => one.replace(/^> ?/, '')), mentions, depth + 1);
    return { block: { tag: 'blockquote', html: `<blockquote>${inner.map(({ tag, html }) => (tag === 'p' ? `<p>${html}</p>` : html)).join('')}</blockquote>` }, next: end };
  }
  const heading = line.match(/^(#{1,6}) +(\S.*)$/);
  if (heading) return { block: { tag: 'h', html: `<h${heading[1].length}>${inline(heading[2], mentions)}</h${heading[1].length}>` }, next: at + 1 };
  if (/^(?:-{3,}|\*{3,})\s*$/.test(line)) return { block: { tag: 'hr', html: '<hr>' }, next: at + 1 };
  return ITEM.test(line) ? listBlock(lines, at, mentions, depth) : null;
}

/** @param {string[]} lines @param {number} at @param {Mention[]} mentions @param {number} depth */
function listBlock(lines, at, mentions, depth) {
  const [, indent, mark] = /** @type {RegExpMatchArray} */ (lines[at].match(ITEM));
  const ordered = /\d/.test(mark);
  /** @type {string[]} */
  const items = [];
  let next = at;
  while (next < lines.length) {
    const item = lines[next].match(ITEM);
    if (!item || item[1].length < indent.length || /\d/.test(item[2]) !== ordered) break;
    const end = last(lines, next + 1, (one) => one.startsWith(' '.repeat(indent.length + 2)) && Boolean(one.trim()));
    const inner = parseBlocks(lines.slice(next + 1, end).map((one) => one.slice(indent.length + 2)), mentions, depth + 1);
    items.push(`<li>${inline(item[3], mentions)}${inner.map(({ tag, html }) => (tag === 'p' ? `<br>${html}` : html)).join('')}</li>`);
    next = end;
  }
  const start = ordered ? Number.parseInt(mark, 10) : 1;
  const open = ordered ? `<ol${start === 1 ? '' : ` start="${start}"`}>` : '<ul>';
  return { block: { tag: 'list', html: `${open}${items.join('')}${ordered ? '</ol>' : '</ul>'}` }, next };
}

/** Where the lines that `holds` end. @param {string[]} lines @param {number} at @param {(line: string) => boolean} holds */
function last(lines, at, holds) {
  while (at < lines.length && holds(lines[at])) at++;
  return at;
}

/**
 * @param {string} text
 * @param {Mention[]} mentions
 * @param {number} [depth]
 * @returns {string} HTML
 */
function inline(text, mentions, depth = 0) {
  let html = '';
  /** Marks that close nowhere further on. @type {Set<string>} */
  const open = new Set();
  for (let at = 0; at < text.length; ) {
    const found = special(text, at, mentions, depth, open);
    html += found ? found.html : escapeHtml(text[at]);
    at += found ? found.length : 1;
  }
  return html;
}

/**
 * @param {string} text @param {number} at @param {Mention[]} mentions @param {number} depth @param {Set<string>} open
 * @returns {{ html: string, length: number } | null}
 */
function special(text, at, mentions, depth, open) {
  const char = text[at];
  if (char === '\\' && ESCAPABLE.test(text[at + 1] ?? '')) return { html: escapeHtml(text[at + 1]), length: 2 };
  if (char === '`') return code(text, at);
  if (char === '@') return mention(text, at, mentions);
  if (char === 'h') return address(text, at);
  if (char === '[' && depth < 4) return anchor(text, at, mentions, depth);
  if (!'*_~|'.includes(char) || depth > 6) return null;
  for (const [mark, tag] of MARKS) {
    if (!text.startsWith(mark, at) || open.has(mark)) continue;
    const end = closing(text, at + mark.length, mark);
    if (end === -1) open.add(mark);
    if (end < 0 || (char === '_' && /[\p{L}\p{N}]/u.test(text[at - 1] ?? ''))) continue;
    const inner = inline(text.slice(at + mark.length, end), mentions, depth + 1);
    return { html: tag === 'spoiler' ? `<span data-mx-spoiler>${inner}</span>` : `<${tag}>${inner}</${tag}>`, length: end + mark.length - at };
  }
  return null;
}

/**
 * Where a mark closes: after something that is no space, and not in the middle of a longer mark.
 * @param {string} text @param {number} from @param {string} mark
 * @returns {number} -1 if it closes nowhere from here on, -2 if it can't begin here
 */
function closing(text, from, mark) {
  if (!text[from] || /\s/.test(text[from]) || (mark.length === 1 && text[from] === mark)) return -2;
  for (let end = text.indexOf(mark, from + 1); end >= 0; end = text.indexOf(mark, end + 1)) {
    if (/\s/.test(text[end - 1])) continue;
    if (mark.length === 1 && (text[end + 1] === mark || text[end - 1] === mark)) {
      end++;
      continue;
    }
    if (mark.includes('_') && /[\p{L}\p{N}]/u.test(text[end + mark.length] ?? '')) continue;
    // Of a longer run the last ones close: the first close what is inside.
    return mark.length > 1 && text[end + mark.length] === mark[0] && text[end + mark.length + 1] !== mark[0] ? end + 1 : end;
  }
  return -1;
}

/** @param {string} text @param {number} at */
function code(text, at) {
  const mark = /** @type {RegExpMatchArray} */ (text.slice(at).match(/^`+/))[0];
  const end = text.indexOf(mark, at + mark.length);
  if (end < 0 || end === at + mark.length) return { html: mark, length: mark.length };
  return { html: `<code>${escapeHtml(text.slice(at + mark.length, end))}</code>`, length: end + mark.length - at };
}

/** @param {string} text @param {number} at @param {Mention[]} mentions */
function mention(text, at, mentions) {
  // The longest name that fits: Ada, or Ada Nwosu.
  const fits = mentions.filter(({ name }) => text.startsWith(name, at + 1)).sort((a, b) => b.name.length - a.name.length)[0];
  if (!fits) return null;
  const shown = escapeHtml(`@${fits.name}`);
  const html = fits.id.startsWith('@') && fits.id.includes(':') ? `<a href="https://matrix.to/#/${encodeURIComponent(fits.id)}">${shown}</a>` : shown;
  return { html, length: fits.name.length + 1 };
}

/** An address by itself: marks inside it are part of it. @param {string} text @param {number} at */
function address(text, at) {
  if (!/^https?:\/\/\S/.test(text.slice(at, at + 9))) return null;
  const found = /** @type {RegExpMatchArray} */ (text.slice(at, at + 4000).match(/^[^\s<>*]+/))[0];
  return { html: escapeHtml(found), length: found.length };
}

/** @param {string} text @param {number} at @param {Mention[]} mentions @param {number} depth */
function anchor(text, at, mentions, depth) {
  const found = text.slice(at, at + 6000).match(/^\[((?:[^[\]\\\n]|\\.){1,2000})\]\(([^\s()]{1,2000}(?:\([^\s()]{0,500}\)[^\s()]{0,500}){0,3})\)/);
  const href = found && safeHref(found[2]);
  if (!found || !href) return null;
  return { html: `<a href="${escapeHtml(href)}">${inline(found[1], mentions, depth + 4)}</a>`, length: found[0].length };
}
