/**
 * A message's HTML as elements: parsed into an inert document, then built anew from what
 * the rules keep. Owns the client's only Trusted Types policy, which serves nothing but that
 * parse: there is no other way here from a string to markup.
 */
import { h } from '../kit/dom.js';
import { link } from '../kit/router.js';
import { t } from '../i18n/index.js';
import { DROPPED, MOST_DEEP, MOST_ELEMENTS, TAGS, keep, linkify, pictureText } from '../matrix/html-rules.js';
import { parseTarget } from '../matrix/ids.js';

/** @type {{ createHTML(text: string): any }} */
const policy = /** @type {any} */ (globalThis).trustedTypes?.createPolicy('hearth-html', { createHTML: (/** @type {string} */ text) => text }) ?? {
  createHTML: (text) => text,
};

const BARE = new Set(['a', 'code', 'pre']);

/** @param {string} source @returns {Node[]} */
export function formatted(source) {
  const inert = new DOMParser().parseFromString(policy.createHTML(source), 'text/html');
  return rebuild(inert.body, 1, { left: MOST_ELEMENTS });
}

/** Plain text with its addresses as links. @param {string} text @returns {Node[]} */
export function plain(text) {
  return linkify(text).map((part) => (part.href ? anchor(part.href, [part.text]) : document.createTextNode(part.text)));
}

/**
 * @param {Node} node
 * @param {number} depth
 * @param {{ left: number }} budget
 * @param {boolean} [bare] whether addresses in it stay as they are: it is a link or code
 * @returns {Node[]}
 */
function rebuild(node, depth, budget, bare = false) {
  return [...node.childNodes].flatMap((child) => {
    if (child instanceof Text || child.nodeType === Node.TEXT_NODE) return text(child.textContent ?? '', bare, budget);
    if (child.nodeType !== Node.ELEMENT_NODE) return [];
    const el = /** @type {Element} */ (child);
    // By its own name, whatever namespace the parser gave it: `svg:a` is not a link.
    const tag = el.namespaceURI === 'http://www.w3.org/1999/xhtml' ? el.localName : 'svg';
    if (DROPPED.has(tag)) return [];
    if (depth > MOST_DEEP || --budget.left < 0) return [document.createTextNode(el.textContent ?? '')];
    const inner = rebuild(el, depth + 1, budget, bare || BARE.has(tag));
    return TAGS.has(tag) ? [element(tag, el, inner)] : inner;
  });
}

/** @param {string} words @param {boolean} bare @param {{ left: number }} budget */
function text(words, bare, budget) {
  const parts = bare ? [] : plain(words);
  budget.left -= Math.max(0, parts.length - 1);
  return bare || budget.left < 0 ? [document.createTextNode(words)] : parts;
}

/**
 * @param {string} tag
 * @param {Element} el
 * @param {Node[]} inner
 * @returns {Node}
 */
function element(tag, el, inner) {
  const get = (/** @type {string} */ name) => el.getAttribute(name);
  if (tag === 'img') return h.span({ class: 'said-picture' }, pictureText(get));
  const { attrs, style, spoiler } = keep(tag, get);
  if (tag === 'a') return attrs.href ? anchor(attrs.href, inner) : h.span(inner);
  if (spoiler !== undefined) return hidden(spoiler, inner);
  if (tag === 'table') return h.div({ class: 'said-table' }, h.table(inner));
  const colored = Object.keys(style).length > 0;
  return h[tag]({ ...attrs, ...(colored && { style, class: 'said-color' }) }, inner);
}

/** @param {string} href @param {Array<Node | string>} inner */
function anchor(href, inner) {
  const target = parseTarget(href);
  if (target?.kind === 'user') return h.span({ class: 'pill', title: target.id }, inner);
  // A link to a room opens it here.
  const place = target && (target.kind === 'alias' ? link('join', target.id) : link('room', target.id, ...(target.eventId ? [target.eventId] : [])));
  if (target) return h.a({ class: 'pill', href: place, title: target.id }, inner);
  return h.a({ href, target: '_blank', rel: 'noopener noreferrer nofollow' }, inner);
}

/** What the sender hid: shown when asked for. @param {string} reason @param {Node[]} inner */
function hidden(reason, inner) {
  /** @type {HTMLElement} */
  const el = h.span({ class: 'spoiler', role: 'button', tabindex: '0', title: reason || t('message.spoiler'), 'aria-label': reason || t('message.spoiler') }, h.span({ inert: true }, inner));
  const show = (/** @type {Event} */ event) => {
    if (event instanceof KeyboardEvent && event.key !== 'Enter' && event.key !== ' ') return;
    if (el.classList.contains('shown')) return;
    event.preventDefault();
    el.classList.add('shown');
    for (const name of ['role', 'tabindex', 'aria-label']) el.removeAttribute(name);
    el.firstElementChild?.removeAttribute('inert');
  };
  el.addEventListener('click', show);
  el.addEventListener('keydown', show);
  return el;
}
