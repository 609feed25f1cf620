/**
 * Builds elements: `h.button({ class: 'send', onclick: send, disabled: () => !text.value }, 'Send')`.
 * A function where a value could stand is followed: it is an effect. Owns the way from
 * values to nodes, and never parses markup, so no string can become an element.
 */
import { effect, onStop, scope, untracked } from './signal.js';

/** @typedef {any} Child a node, text, number, array of these, or a function that returns one */

const SVG = 'http://www.w3.org/2000/svg';

/** @type {Record<string, (...args: any[]) => any>} */
export const h = new Proxy({}, { get: (_, tag) => (/** @type {any[]} */ ...args) => build(document.createElement(String(tag)), args) });

/** @type {Record<string, (...args: any[]) => any>} */
export const svg = new Proxy({}, { get: (_, tag) => (/** @type {any[]} */ ...args) => build(document.createElementNS(SVG, String(tag)), args) });

/**
 * @param {Element} el
 * @param {any[]} args attributes (optional), then children
 */
function build(el, args) {
  const [first, ...rest] = args;
  const hasAttrs = first && typeof first === 'object' && !(first instanceof Node) && !Array.isArray(first);
  if (hasAttrs) attributes(el, first);
  append(el, hasAttrs ? rest : args);
  return el;
}

/**
 * @param {Element} el
 * @param {Record<string, any>} attrs
 */
function attributes(el, attrs) {
  for (const [name, value] of Object.entries(attrs)) {
    if (name.startsWith('on')) el.addEventListener(name.slice(2), value);
    else if (name === 'ref') value(el);
    else if (typeof value === 'function') effect(() => set(el, name, value()));
    else set(el, name, value);
  }
}

/**
 * @param {Element} el
 * @param {string} name
 * @param {any} value
 */
function set(el, name, value) {
  if (name === 'style') {
    // By CSSOM: the page's policy forbids style attributes in markup.
    for (const [property, text] of Object.entries(value)) /** @type {HTMLElement} */ (el).style.setProperty(property, String(text));
  } else if (value === false || value === null || value === undefined) {
    if (name === 'value') /** @type {any} */ (el).value = '';
    else el.removeAttribute(name);
  } else if (name === 'value' || name === 'checked' || name === 'open' || name === 'indeterminate') {
    /** @type {any} */ (el)[name] = value;
  } else el.setAttribute(name, value === true ? '' : String(value));
}

/**
 * @param {ParentNode & Node} parent
 * @param {Child[]} children
 */
export function append(parent, children) {
  for (const child of children.flat(Infinity)) {
    if (typeof child === 'function') follow(parent, child);
    else if (shown(child)) parent.append(child instanceof Node ? child : String(child));
  }
}

/** @param {Child} child */
const shown = (child) => child !== null && child !== undefined && child !== false && child !== '';

/**
 * Keeps what `child` returns up to date, in its place between two marks.
 * @param {ParentNode & Node} parent
 * @param {() => Child} child
 */
function follow(parent, child) {
  const [start, end] = [document.createComment(''), document.createComment('')];
  parent.append(start, end);
  /** @type {Child} */
  let last;
  let stop = () => {};
  onStop(() => stop());
  effect(() => {
    const value = child();
    // The same nodes stay where they are, and keep focus and scroll position.
    if (Object.is(value, last)) return;
    last = value;
    untracked(() => {
      stop();
      ({ stop } = scope(() => replace(start, end, value)));
    });
  });
}

/**
 * @param {Node} start
 * @param {ChildNode} end
 * @param {Child} value
 */
function replace(start, end, value) {
  const only = start.nextSibling;
  if (only instanceof Text && only.nextSibling === end && (typeof value === 'string' || typeof value === 'number')) {
    only.data = String(value);
    return;
  }
  while (start.nextSibling !== end) start.nextSibling?.remove();
  const fresh = document.createDocumentFragment();
  append(fresh, [value]);
  end.before(fresh);
}

/**
 * A child that is built anew only when its key changes, however often the key is asked for.
 * @template K
 * @param {() => K} key
 * @param {(key: K) => Child} render
 */
export function keyed(key, render) {
  /** @type {{ key: K, value: Child, stop: () => void } | null} */
  let last = null;
  onStop(() => last?.stop());
  return () => {
    const next = key();
    if (!last || !Object.is(last.key, next)) {
      last?.stop();
      // Untracked: the key alone decides; the parts inside follow their own signals.
      last = untracked(() => ({ key: next, ...scope(() => render(next)) }));
    }
    return last.value;
  };
}

/**
 * Keeps `parent`'s children equal to `items()`: one element per key, reused and moved.
 * @template T
 * @template {Element} P
 * @param {P} parent
 * @param {() => T[]} items
 * @param {(item: T) => string} key
 * @param {(item: T) => Element} render
 * @returns {P}
 */
export function each(parent, items, key, render) {
  /** @type {Map<string, { value: Element, stop: () => void }>} */
  const live = new Map();
  onStop(() => live.forEach((one) => one.stop()));
  effect(() => {
    const wanted = items();
    untracked(() => reconcile(parent, live, wanted, key, render));
  });
  return parent;
}

/**
 * @template T
 * @param {Element} parent
 * @param {Map<string, { value: Element, stop: () => void }>} live
 * @param {T[]} wanted
 * @param {(item: T) => string} key
 * @param {(item: T) => Element} render
 */
export function reconcile(parent, live, wanted, key, render) {
  const keep = new Set(wanted.map(key));
  for (const [id, one] of live) {
    if (keep.has(id)) continue;
    one.stop();
    one.value.remove();
    live.delete(id);
  }
  let at = parent.firstElementChild;
  for (const item of wanted) {
    const id = key(item);
    let one = live.get(id);
    if (!one) live.set(id, (one = scope(() => render(item))));
    if (one.value === at) at = at.nextElementSibling;
    else parent.insertBefore(one.value, at);
  }
}
