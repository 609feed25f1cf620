/**
 * The client's shape: imports run kit ← i18n, matrix ← views ← main and no other way; only
 * one file turns strings into documents; nothing reaches past the layer it lives in.
 */
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { test } from 'node:test';
import { brotliCompressSync, constants } from 'node:zlib';
import enFirst from '../../client-web/i18n/en.js';
import enAdmin from '../../client-web/i18n/en-admin.js';
import koAdmin from '../../client-web/i18n/ko-admin.js';
import koFirst from '../../client-web/i18n/ko.js';
import { GROUPS } from '../../client-web/matrix/emoji-data.js';

const ROOT = new URL('../../client-web/', import.meta.url).pathname;
/** What each layer may import from, besides itself. */
const MAY = { kit: [], i18n: ['kit'], matrix: ['kit'], views: ['kit', 'i18n', 'matrix'], '.': ['kit', 'i18n', 'matrix', 'views'] };

const en = { ...enFirst, ...enAdmin };
const ko = { ...koFirst, ...koAdmin };
const all = readdirSync(ROOT, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => relative(ROOT, join(entry.parentPath ?? entry.path, entry.name)));
const scripts = all.filter((path) => path.endsWith('.js'));
const text = (path) => readFileSync(join(ROOT, path), 'utf8');
/** Without comments, so that words in them don't count. */
const code = (path) => text(path).replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|\s)\/\/.*$/gm, '$1');
const matching = (pattern) => scripts.filter((path) => pattern.test(code(path)));
const layer = (path) => (path.includes('/') ? path.split('/')[0] : '.');

test('imports run one way', () => {
  for (const path of scripts) {
    const own = layer(path);
    assert.ok(own in MAY, `${path} is in a known layer`);
    for (const [, target] of code(path).matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)) {
      assert.match(target, /^\.\.?\//, `${path} imports ${target}: nothing from outside`);
      const other = layer(relative(ROOT, resolve(dirname(join(ROOT, path)), target)));
      assert.ok(other === own || MAY[own].includes(other), `${path} imports ${target}`);
    }
  }
});

test('one file has the Trusted Types policy, and no file writes markup', () => {
  assert.deepEqual(matching(/createPolicy/), ['views/formatted.js']);
  assert.deepEqual(matching(/DOMParser|parseFromString/), ['views/formatted.js']);
  assert.deepEqual(matching(/innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|\beval\b|new Function|setHTML/), []);
});

test('only matrix/ asks the network, and it knows no DOM', () => {
  assert.deepEqual(matching(/\bfetch\b|\bWebSocket\b|XMLHttpRequest/).filter((path) => layer(path) !== 'matrix'), []);
  assert.deepEqual(matching(/\bdocument\b|\bwindow\b|\bHTMLElement\b|\blocation\b/).filter((path) => layer(path) === 'matrix'), []);
});

test('the page itself holds no inline script or style', () => {
  const page = text('index.html');
  assert.doesNotMatch(page, /<style|\sstyle=|\son\w+=|javascript:/i);
  for (const [tag] of page.matchAll(/<script[^>]*>/g)) assert.match(tag, /\ssrc="/);
});

test('every file says what it owns, and none is long', () => {
  for (const path of all.filter((one) => /\.(js|css)$/.test(one))) {
    assert.match(text(path), /^\/\*/, `${path} opens with what it owns`);
    assert.ok(text(path).split('\n').length <= 400, `${path} is within 400 lines`);
  }
});

/** A module, and all that it can't do without. */
function withImports(path, found = new Set()) {
  if (found.has(path)) return found;
  found.add(path);
  for (const [, target] of code(path).matchAll(/(?:^|\n)(?:import|export)\b[^;]*?from '([^']+)'/g)) withImports(relative(ROOT, resolve(dirname(join(ROOT, path)), target)), found);
  return found;
}

/** As the server sends it: without lines that are comments and without indentation, packed. */
function sent(path) {
  const bare = text(path).replace(/^\s*\/\*[\s\S]*?\*\/$/gm, '').replace(/^\s*\/\/.*$/gm, '').replace(/\/\*\* @.*?\*\/ ?/g, '').replace(/^ +/gm, '');
  return brotliCompressSync(bare, { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } }).length;
}

test('what is needed to sign in and chat is under 120 KB compressed, and the whole client under 148 KB', () => {
  // Pages that come when they are first opened (settings, administration, …) are apart.
  const first = [...withImports('main.js'), 'index.html', ...all.filter((path) => path.endsWith('.css'))];
  const sum = (paths) => paths.reduce((bytes, path) => bytes + sent(path), 0);
  assert.ok(sum(first) < 120_000, `${sum(first)} bytes`);
  // In one language.
  const whole = all.filter((path) => /\.(js|css|html|svg|webmanifest)$/.test(path) && !path.startsWith('i18n/ko'));
  assert.ok(sum(whole) < 148_000, `${sum(whole)} bytes`);
});

test('no text within a script looks like a comment or needs its indentation, which the server would leave out', () => {
  const spanning = scripts.filter((path) => !/markdown|html-rules/.test(path) && code(path).split('\n').some((line) => (line.split('`').length - 1) % 2));
  assert.deepEqual(spanning, ['matrix/emoji-data.js']);
  assert.doesNotMatch(text(spanning[0]).slice(4), /^\s*\/[/*]/m);
  // Its lines break between one emoji and the next alone.
  for (const group of Object.values(GROUPS)) for (const emoji of group.split('|')) assert.match(emoji.trim(), /^\S+( \S+)+$/, 'an emoji, and words for it');
});

test('both languages have the same keys, with the same blanks', () => {
  assert.deepEqual(Object.keys(ko), Object.keys(en));
  const forms = (value) => (typeof value === 'string' ? [value] : Object.values(value));
  const blanks = (value) => [...new Set(forms(value).flatMap((form) => form.match(/\{\w+\}/g) ?? []))].sort();
  for (const key of Object.keys(en)) assert.deepEqual(blanks(ko[key]), blanks(en[key]), key);
});

test('every message is used, and every used one exists', () => {
  const used = scripts.filter((path) => layer(path) !== 'i18n').map(code).join('\n');
  const asked = new Set([...used.matchAll(/'([a-z]\w*(?:\.[\w.]+)?)'/gi)].map(([, key]) => key));
  for (const [, prefix] of used.matchAll(/`(\w+\.)\$\{/g)) Object.keys(en).filter((key) => key.startsWith(prefix)).forEach((key) => asked.add(key));
  assert.deepEqual(Object.keys(en).filter((key) => !asked.has(key)), [], 'unused');
  const called = [...used.matchAll(/\bt\('([^']+)'/g)].map(([, key]) => key);
  assert.deepEqual(called.filter((key) => !(key in en)), [], 'missing');
});
