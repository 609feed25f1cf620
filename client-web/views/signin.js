/**
 * The front door: signing in and making an account, here or on another server.
 * Owns its two forms; what the server asks for is found out by `matrix/registration.js`.
 */
import { h, keyed } from '../kit/dom.js';
import { effect, signal } from '../kit/signal.js';
import { t } from '../i18n/index.js';
import { probe, register } from '../matrix/registration.js';
import { signIn } from '../matrix/session.js';
import { words } from './errors.js';
import { field, form } from './form.js';
import { mark } from './icons.js';
import { languageSwitch } from './account-menu.js';

/** @typedef {import('../matrix/session.js').Session} Session */
/** @typedef {{ base: string, expired: import('../matrix/session.js').Expired | null, isLocked?: boolean, tab: 'sign-in' | 'register', token?: string, onSession: (session: Session) => void }} Options */

/** @param {Options} options */
export function signInView(options) {
  const { expired } = options;
  const tab = signal(options.tab);
  const base = signal(expired?.base ?? options.base);
  const tabButton = (/** @type {'sign-in' | 'register'} */ name, /** @type {() => string} */ text) =>
    h.button({ type: 'button', role: 'tab', id: `tab-${name}`, 'aria-controls': 'door', 'aria-selected': () => String(tab.value === name), onclick: () => (tab.value = name) }, text);
  return h.main(
    { class: 'door-page' },
    h.section(
      { class: 'door' },
      h.header({ class: 'door-brand' }, mark(), h.h1('Hearth'), h.p(() => t('app.tagline'))),
      expired && h.p({ class: 'door-note', role: 'status' }, () => t(options.isLocked ? 'error.locked' : 'signIn.expired')),
      h.div({ class: 'tabs', role: 'tablist' }, tabButton('sign-in', () => t('signIn.tab')), tabButton('register', () => t('register.tab'))),
      h.div({ id: 'door', role: 'tabpanel', 'aria-labelledby': () => `tab-${tab.value}` }, keyed(() => tab.value, (name) => (name === 'register' ? registerForm(options, base) : signInForm(options, base)))),
      serverChoice(base),
    ),
    h.footer({ class: 'door-foot' }, languageSwitch()),
  );
}

/** @param {Options} options @param {import('../kit/signal.js').Signal<string>} base */
function signInForm({ expired, onSession }, base) {
  return form(
    {
      submit: () => t('signIn.submit'),
      busy: () => t('signIn.busy'),
      special: { M_FORBIDDEN: 'error.wrongPassword', M_INVALID_USERNAME: 'error.wrongPassword', M_UNKNOWN: 'error.wrongPassword' },
      send: async ({ user, password }) => onSession(await signIn({ base: base.peek(), user: user.trim(), password, deviceName: deviceName(), expired })),
    },
    field({ name: 'user', label: () => t('signIn.user'), hint: () => t('signIn.userHint'), autocomplete: 'username', autocapitalize: 'none', spellcheck: 'false', required: true, value: expired?.userId ?? '' }),
    field({ name: 'password', type: 'password', label: () => t('signIn.password'), autocomplete: 'current-password', required: true }),
  );
}

/** @param {Options} options @param {import('../kit/signal.js').Signal<string>} base */
function registerForm({ token: given = '', onSession }, base) {
  /** @type {import('../kit/signal.js').Signal<'asking' | 'open' | 'token' | 'unsupported' | 'closed' | { problem: string }>} */
  const offer = signal(/** @type {any} */ ('asking'));
  effect(() => {
    const at = base.value;
    offer.value = 'asking';
    probe(at).then(
      (found) => at === base.peek() && (offer.value = found),
      (error) => at === base.peek() && (offer.value = { problem: words(error) }),
    );
  });
  const fields = () =>
    form(
      {
        submit: () => t('register.submit'),
        busy: () => t('register.busy'),
        special: { M_UNAUTHORIZED: 'error.wrongToken', M_FORBIDDEN: 'register.closed' },
        send: async ({ user, password, token }) => onSession(await register({ base: base.peek(), user: user.trim().toLowerCase(), password, token: token?.trim(), deviceName: deviceName() })),
      },
      field({ name: 'user', label: () => t('signIn.user'), hint: () => t('register.userHint'), autocomplete: 'username', autocapitalize: 'none', spellcheck: 'false', required: true, maxlength: 200 }),
      field({ name: 'password', type: 'password', label: () => t('signIn.password'), hint: () => t('register.passwordHint'), autocomplete: 'new-password', minlength: 8, required: true }),
      () => (offer.value === 'token' ? field({ name: 'token', label: () => t('register.token'), hint: () => t('register.tokenHint'), required: true, value: given, spellcheck: 'false' }) : null),
    );
  return [
    keyed(
      () => (offer.value === 'closed' || offer.value === 'unsupported' ? offer.value : typeof offer.value === 'object' ? offer.value.problem : ''),
      (trouble) => {
        if (!trouble) return fields();
        return h.p({ class: 'door-note', role: 'status' }, () => (trouble === 'closed' ? t('register.closed') : trouble === 'unsupported' ? t('register.unsupported') : trouble));
      },
    ),
  ];
}

/** @param {import('../kit/signal.js').Signal<string>} base */
function serverChoice(base) {
  const onchange = (/** @type {Event} */ event) => {
    const input = /** @type {HTMLInputElement} */ (event.target);
    const typed = input.value.trim().replace(/\/+$/, '');
    const url = /^https?:\/\//i.test(typed) ? typed : `https://${typed}`;
    if (typed && URL.canParse(url)) base.value = url;
    input.value = base.peek();
  };
  return h.details(
    { class: 'door-server', open: base.peek() !== location.origin },
    h.summary(() => t('signIn.server')),
    field({ name: 'server', type: 'url', label: () => t('signIn.serverLabel'), hint: () => t('signIn.serverHint'), value: base.peek(), onchange, inputmode: 'url', spellcheck: 'false' }),
  );
}

/** What this session is called in lists: also on what it runs, as there may be several. */
function deviceName() {
  const { userAgentData, platform } = /** @type {any} */ (navigator);
  return `${t('device.name')} (${userAgentData?.platform || platform})`;
}
