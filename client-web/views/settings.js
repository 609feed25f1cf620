/**
 * A person's settings, one page per subject: `#/settings/profile`. Owns which there are and
 * the links between them; each subject is its own file.
 */
import { h, keyed } from '../kit/dom.js';
import { link } from '../kit/router.js';
import { effect } from '../kit/signal.js';
import { chooseTheme, theme } from '../kit/theme.js';
import { choose, language, t } from '../i18n/index.js';
import { page, section } from './page.js';
import { chatSettings } from './settings-chat.js';
import { accountSettings, sessionSettings } from './settings-account.js';
import { notificationSettings } from './settings-notifications.js';
import { profileSettings } from './settings-profile.js';

/** @typedef {import('./app.js').App} App */

/** @type {Record<string, (app: App) => any>} */
const SUBJECTS = { profile: profileSettings, notifications: notificationSettings, appearance: appearanceSettings, chat: chatSettings, sessions: sessionSettings, account: accountSettings };
const LANGUAGES = /** @type {const} */ ([['en', 'English'], ['ko', '한국어']]);
const THEMES = /** @type {const} */ (['system', 'light', 'dark']);

/** @param {App} app */
export function settingsPage(app) {
  const subject = () => (app.place.value.args[0] in SUBJECTS ? app.place.value.args[0] : 'profile');
  const tabs = h.nav(
    { class: 'page-tabs', 'aria-label': () => t('settings.subjects') },
    h.div({ class: 'tabs' }, Object.keys(SUBJECTS).map((name) => h.a({ href: link('settings', name), 'aria-current': () => (subject() === name ? 'page' : null) }, () => t(/** @type {any} */ (`settings.${name}`))))),
  );
  // Where not all have room, the present one is in sight.
  effect(() => {
    subject();
    queueMicrotask(() => tabs.querySelector('[aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'center' }));
  });
  return page({ title: () => t('settings.title'), above: tabs }, keyed(subject, (name) => SUBJECTS[name](app)));
}

function appearanceSettings() {
  const choice = (/** @type {string} */ group, /** @type {() => string} */ text, /** @type {() => boolean} */ on, /** @type {() => void} */ pick, /** @type {string} */ lang = '') =>
    h.label({ class: 'choice', lang: lang || null }, h.input({ type: 'radio', name: group, checked: on, onchange: pick }), h.span(text));
  return [
    section(() => t('account.theme'), null, h.div({ class: 'choices', role: 'radiogroup', 'aria-label': () => t('account.theme') }, THEMES.map((name) => choice('theme', () => t(`theme.${name}`), () => theme.value === name, () => chooseTheme(name))))),
    section(() => t('account.language'), null, h.div({ class: 'choices', role: 'radiogroup', 'aria-label': () => t('account.language') }, LANGUAGES.map(([code, name]) => choice('language', () => name, () => language.value === code, () => choose(code), code)))),
  ];
}
