/**
 * The account's menu: language, appearance, signing out.
 */
import { h } from '../kit/dom.js';
import { menu, menuItem } from '../kit/menu.js';
import { chooseTheme, theme } from '../kit/theme.js';
import { choose, language, t } from '../i18n/index.js';
import { localpart } from '../matrix/ids.js';
import { icon } from './icons.js';
import { avatar } from './names.js';

/** Each language in its own words, so that one who reads no other finds it. */
const LANGUAGES = /** @type {const} */ ([['en', 'English'], ['ko', '한국어']]);
const THEMES = /** @type {const} */ (['system', 'light', 'dark']);

/** @param {import('../matrix/client.js').Client} client @param {() => void} signOut */
export function accountMenu(client, signOut) {
  return menu({ class: 'account-button', 'aria-label': () => t('account.menu'), title: () => t('account.menu') }, avatar(client.me, () => localpart(client.me), 'small'), [
    h.p({ class: 'menu-head' }, h.bdi(client.me)),
    h.p({ class: 'menu-title' }, () => t('account.language')),
    languages(),
    h.p({ class: 'menu-title' }, () => t('account.theme')),
    THEMES.map((name) => menuItem(() => t(`theme.${name}`), () => chooseTheme(name), { checked: () => theme.value === name })),
    h.hr(),
    menuItem(() => t('account.signOut'), signOut, { icon: icon('leave') }),
  ]);
}

function languages() {
  return LANGUAGES.map(([code, name]) => menuItem(() => name, () => choose(code), { checked: () => language.value === code }));
}

export function languageSwitch() {
  return h.div(
    { class: 'language-switch', role: 'group', 'aria-label': () => t('account.language') },
    LANGUAGES.map(([code, name]) => h.button({ type: 'button', class: 'link', lang: code, 'aria-pressed': () => String(language.value === code), onclick: () => choose(code) }, name)),
  );
}
