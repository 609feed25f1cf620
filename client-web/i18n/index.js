/**
 * Words, numbers and dates in the person's language. Owns which language it is; views call
 * `t('key', { name })` inside functions, and so follow when it changes.
 */
import { computed, effect, signal } from '../kit/signal.js';
import en from './en.js';

/** @typedef {keyof typeof en | keyof typeof import('./en-admin.js').default} Key */
/** @typedef {'en' | 'ko'} Language */

/** @typedef {Record<keyof typeof en, string | { one?: string, other: string }>} Words */

/** What has come: English always, as the one that all others are measured by. @type {Partial<Record<Language, Words>>} */
const languages = { en };
/** Words that come with the pages that need them. @type {Record<Language, Record<string, string | { one?: string, other: string }>>} */
const more = { en: {}, ko: {} };
const KEY = 'hearth.language';

export const language = signal(/** @type {Language} */ ('en'));

/** The language as this person's browser writes it: clocks and dates differ within one. */
const locale = computed(() => (globalThis.navigator?.languages ?? []).find((tag) => tag.split('-')[0] === language.value) ?? language.value);

/** @type {Language} */
let wanted = stored() ?? preferred();
/** Resolves when the first page can be shown in its language. */
export const ready = speak(wanted);

/** @param {Language} next */
export function choose(next) {
  localStorage.setItem(KEY, next);
  return speak(next);
}

/** @param {Language} next */
async function speak(next) {
  wanted = next;
  try {
    if (next === 'ko') languages.ko ??= (await import('./ko.js')).default;
  } catch {
    // Without its words, the language stays what it was.
    return;
  }
  if (wanted === next) language.value = next;
}

/** Fetches the words of the administration, in all languages, as they may be switched. */
export async function bringAdmin() {
  const [en, ko] = await Promise.all([import('./en-admin.js'), import('./ko-admin.js')]);
  Object.assign(more.en, en.default);
  Object.assign(more.ko, ko.default);
}

export function markDocument() {
  effect(() => {
    document.documentElement.lang = language.value;
  });
}

/**
 * @param {Key} key
 * @param {Record<string, string | number>} [values] `count` chooses between singular and plural
 */
export function t(key, values = {}) {
  const text = /** @type {Words} */ (languages[language.value] ?? en)[/** @type {keyof typeof en} */ (key)] ?? more[language.value][key] ?? '';
  const form = typeof text === 'string' ? text : plural(text, Number(values.count));
  return form.replace(/\{(\w+)\}/g, (/** @type {string} */ _, /** @type {string} */ name) => {
    const value = values[name];
    return typeof value === 'number' ? number(value) : (value ?? '');
  });
}

/** @param {{ one?: string, other: string }} forms @param {number} count */
function plural(forms, count) {
  return /** @type {any} */ (forms)[plurals.value.select(count)] ?? forms.other;
}

// Making a format costs far more than using it.
const plurals = computed(() => new Intl.PluralRules(language.value));
const numbers = computed(() => new Intl.NumberFormat(locale.value));

/** @param {number} value */
export function number(value) {
  return numbers.value.format(value);
}

/** @param {string[]} names */
export function list(names) {
  return new Intl.ListFormat(locale.value, { type: 'conjunction' }).format(names);
}

/** 14:05 @param {number} ts */
export function time(ts) {
  return format(ts, { hour: 'numeric', minute: '2-digit' });
}

/** The same where there is hardly room: without saying which half of the day. @param {number} ts */
export function narrowTime(ts) {
  const text = time(ts);
  return /\d[\d:.]*/.exec(text)?.[0] ?? text;
}

/** Monday, 3 November 2025, 14:05:33 @param {number} ts */
export function exact(ts) {
  return format(ts, { dateStyle: 'full', timeStyle: 'medium' });
}

/** Today, Yesterday, Monday 3 November @param {number} ts */
export function day(ts) {
  const ago = daysAgo(ts);
  if (ago === 0 || ago === 1) return capital(new Intl.RelativeTimeFormat(locale.value, { numeric: 'auto' }).format(-ago, 'day'));
  const thisYear = new Date(ts).getFullYear() === new Date().getFullYear();
  return format(ts, { weekday: 'long', day: 'numeric', month: 'long', ...(!thisYear && { year: 'numeric' }) });
}

/** As short as tells enough: 14:05, Mon, 3 Nov, 3/11/2024 @param {number} ts */
export function brief(ts) {
  const ago = daysAgo(ts);
  if (ago <= 0) return time(ts);
  if (ago < 7) return format(ts, { weekday: 'short' });
  return format(ts, new Date(ts).getFullYear() === new Date().getFullYear() ? { day: 'numeric', month: 'short' } : { dateStyle: 'short' });
}

/** 5 minutes ago, yesterday @param {number} ts */
export function ago(ts) {
  const seconds = Math.max(0, (Date.now() - ts) / 1000);
  const [unit, size] = /** @type {[Intl.RelativeTimeFormatUnit, number]} */ ([['minute', 60], ['hour', 3600], ['day', 86_400], ['month', 2_629_746], ['year', 31_556_952]].findLast(([, one]) => seconds >= Number(one)) ?? ['minute', 60]);
  return new Intl.RelativeTimeFormat(locale.value, { numeric: 'auto' }).format(-Math.floor(seconds / size), unit);
}

/** 23 kB; a few bytes by their name, which has a plural @param {number} bytes */
export function size(bytes) {
  const units = ['byte', 'kilobyte', 'megabyte', 'gigabyte'];
  const step = Math.min(units.length - 1, bytes < 1 ? 0 : Math.floor(Math.log10(bytes) / 3));
  return new Intl.NumberFormat(locale.value, { style: 'unit', unit: units[step], unitDisplay: step ? 'short' : 'long', maximumFractionDigits: 1 }).format(bytes / 1000 ** step);
}

/** @type {Map<string, Intl.DateTimeFormat>} */
const formats = new Map();

/** @param {number} ts @param {Intl.DateTimeFormatOptions} options */
function format(ts, options) {
  const date = new Date(ts);
  if (Number.isNaN(date.getTime())) return '';
  const id = locale.value + JSON.stringify(options);
  const made = formats.get(id) ?? new Intl.DateTimeFormat(locale.value, options);
  formats.set(id, made);
  return made.format(date);
}

/** @param {number} ts */
function daysAgo(ts) {
  const start = (/** @type {Date} */ date) => new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
  return Math.round((start(new Date()) - start(new Date(ts))) / 86_400_000);
}

/** @param {string} text */
function capital(text) {
  return text.charAt(0).toLocaleUpperCase(locale.value) + text.slice(1);
}

/** @returns {Language | null} */
function stored() {
  const found = globalThis.localStorage?.getItem(KEY);
  return found === 'en' || found === 'ko' ? found : null;
}

/** @returns {Language} */
function preferred() {
  return (globalThis.navigator?.languages ?? []).map((tag) => tag.slice(0, 2)).find((tag) => tag === 'en' || tag === 'ko') === 'ko' ? 'ko' : 'en';
}
