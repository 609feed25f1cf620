/**
 * The account's menu: how one is seen, settings, administration, signing out.
 */
import { h } from '../kit/dom.js';
import { menu, menuItem } from '../kit/menu.js';
import { choose, language, t } from '../i18n/index.js';
import { attempt } from './errors.js';
import { icon } from './icons.js';
import { avatar } from './names.js';

/** Each language in its own words, so that one who reads no other finds it. */
const LANGUAGES = /** @type {const} */ ([['en', 'English'], ['ko', '한국어']]);
const STATES = /** @type {const} */ (['online', 'unavailable', 'offline']);

/** @param {import('./app.js').App} app */
export function accountMenu(app) {
  const { client } = app;
  const { people } = client;
  const me = people.profile(client.me);
  const picture = avatar(client.me, () => me.value.name, 'small', 'person', () => me.value.avatar);
  return menu({ class: 'account-button', 'aria-label': () => t('account.menu'), title: () => t('account.menu') }, h.span({ class: 'face' }, picture, h.span({ class: () => `dot is-${people.shown().state}` })), [
    h.p({ class: 'menu-head' }, h.bdi(() => me.value.name), h.bdi({ class: 'menu-note' }, client.me)),
    h.p({ class: 'menu-title' }, () => t('presence.title')),
    STATES.map((state) => menuItem(() => t(`presence.choice.${state}`), () => attempt(people.show({ state })), { checked: () => people.shown().state === state })),
    h.hr(),
    menuItem(() => t('settings.title'), () => app.go('settings'), { icon: icon('gear') }),
    () => (app.client.isAdmin.value ? menuItem(() => t('admin.title'), () => app.go('admin'), { icon: icon('shield') }) : null),
    menuItem(() => t('account.signOut'), app.signOut, { icon: icon('leave') }),
  ]);
}

export function languageSwitch() {
  return h.div(
    { class: 'language-switch', role: 'group', 'aria-label': () => t('account.language') },
    LANGUAGES.map(([code, name]) => h.button({ type: 'button', class: 'link', lang: code, 'aria-pressed': () => String(language.value === code), onclick: () => choose(code) }, name)),
  );
}
