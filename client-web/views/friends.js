/**
 * Friends: who they are and whether they are there, requests in both directions, finding
 * people, and those who are blocked. Each part is a place of its own: `#/friends/requests`.
 */
import { h, keyed } from '../kit/dom.js';
import { link } from '../kit/router.js';
import { computed, onStop, signal } from '../kit/signal.js';
import { language, number, t } from '../i18n/index.js';
import { serverOf, userId } from '../matrix/ids.js';
import { attempt } from './errors.js';
import { icon } from './icons.js';
import { rows } from './lists.js';
import { empty, page, section } from './page.js';
import { befriend, personRow, presenceText, tieButtons } from './person.js';

/** @typedef {import('./app.js').App} App */
/** @typedef {import('../matrix/friends.js').Tie} Tie */

/** @type {Record<string, (app: App) => any>} */
const PARTS = { all: friendList, requests: requestList, add: finder, blocked: blockedList };
/** Between the last key and the question. */
const PAUSE = 250;

/** @param {App} app */
export function friendsPage(app) {
  const part = () => (app.place.value.args[0] in PARTS ? app.place.value.args[0] : 'all');
  const waiting = () => app.client.friends.with('incoming').length;
  const tabs = h.nav(
    { class: 'page-tabs', 'aria-label': () => t('friends.parts') },
    h.div({ class: 'tabs' }, Object.keys(PARTS).map((name) =>
      h.a({ href: link('friends', name), 'aria-current': () => (part() === name ? 'page' : null) }, () => t(/** @type {any} */ (`friends.${name}`)), () => (name === 'requests' && waiting() ? h.span({ class: 'badge mention' }, number(waiting())) : null)))),
  );
  return page({ title: () => t('friends.title'), above: tabs }, keyed(part, (name) => PARTS[name](app)));
}

/** @param {App} app */
function friendList(app) {
  const { client } = app;
  // Who is here first, then who is away.
  const nearness = (/** @type {Tie} */ { user }) => ['unavailable', 'online'].indexOf(client.store.presence(user)?.state ?? '');
  const name = (/** @type {Tie} */ { room, user }) => room.member(user).name;
  const all = computed(() => {
    const order = new Intl.Collator(language.value);
    return client.friends.with('friend').sort((a, b) => nearness(b) - nearness(a) || order.compare(name(a), name(b)));
  });
  return keyed(
    () => all.value.length > 0,
    (any) => (any ? tieRows(app, () => all.value, ({ user }) => presenceText(client.store, user)) : empty('people', () => t('friends.none'), () => t('friends.noneHint'), h.a({ class: 'button primary', href: link('friends', 'add') }, () => t('friends.add')))),
  );
}

/** @param {App} app @param {() => Tie[]} ties @param {(tie: Tie) => string} note */
function tieRows(app, ties, note) {
  return rows(ties, ({ user, room }) => `${user} ${room.id}`, (tie) => personRow(app, tie.user, { note: () => note(tie), actions: tieButtons(app, tie.user) }));
}

/** @param {App} app */
function requestList(app) {
  const { friends } = app.client;
  const list = (/** @type {'incoming' | 'outgoing'} */ relation) => {
    const ties = computed(() => friends.with(relation).sort((a, b) => b.sent - a.sent));
    return keyed(
      () => ties.value.length > 0,
      (any) => (any ? tieRows(app, () => ties.value, ({ note }) => note) : h.p({ class: 'hint' }, () => t(relation === 'incoming' ? 'friends.noIncoming' : 'friends.noOutgoing'))),
    );
  };
  return [section(() => t('friends.incoming'), null, list('incoming')), section(() => t('friends.outgoing'), null, list('outgoing'))];
}

/** @param {App} app */
function finder(app) {
  const { client } = app;
  const found = signal(/** @type {import('../matrix/people.js').Profile[] | null} */ (null));
  const typed = signal('');
  /** The server of a whole address that nobody was found at, and whether it could be asked. */
  const asked = signal({ server: '', answered: true });
  let turn = 0;
  /** @type {any} */
  let pause;
  const ask = async () => {
    clearTimeout(pause);
    const text = typed.peek().trim();
    const mine = ++turn;
    if (!text) {
      found.value = null;
      return;
    }
    // A whole address is asked of its own server; words of the directory here.
    const id = userId(text, client.server);
    const [known, answer] = await Promise.all([attempt(client.people.search(text)), id ? client.people.look(id).catch((/** @type {any} */ error) => ({ error })) : null]);
    if (mine !== turn) return;
    const failed = answer && 'error' in answer ? answer.error : null;
    const exact = answer && 'error' in answer ? null : answer;
    asked.value = { server: text.startsWith('@') && id ? serverOf(id) : '', answered: !failed || (failed.status >= 400 && failed.status < 500) };
    found.value = [...(exact ? [exact] : []), ...(known ?? []).filter((one) => one.id !== exact?.id)].filter((one) => one.id !== client.me);
  };
  const soon = (/** @type {any} */ event) => {
    typed.value = event.target.value;
    clearTimeout(pause);
    pause = setTimeout(ask, PAUSE);
  };
  onStop(() => clearTimeout(pause));
  return [
    h.p({ class: 'hint' }, () => t('friends.addHint')),
    h.label({ class: 'search-box' }, icon('search'), h.input({ type: 'search', 'aria-label': () => t('friends.find'), placeholder: () => t('friends.find'), oninput: soon, spellcheck: 'false', autocapitalize: 'none', ref: (/** @type {HTMLElement} */ el) => queueMicrotask(() => el.focus()) })),
    h.div({ role: 'status' }, () => {
      if (!found.value) return null;
      if (!found.value.length) return nobody(asked.value, ask);
      return h.ul({ class: 'card flush', role: 'list' }, found.value.map(({ id }) => personRow(app, id, { note: () => id, actions: tieButtons(app, id, () => befriend(app, id)) })));
    }),
  ];
}

/** @param {{ server: string, answered: boolean }} asked @param {() => void} again */
function nobody({ server, answered }, again) {
  if (!server) return empty('person', () => t('friends.nobody'), () => t('friends.nobodyHint'));
  if (answered) return empty('person', () => t('friends.nobody'), () => t('friends.nobodyAt', { server }));
  return empty('alert', () => t('friends.unreachable', { server }), () => t('friends.unreachableHint'), h.button({ type: 'button', class: 'button', onclick: again }, () => t('action.retry')));
}

/** @param {App} app */
function blockedList(app) {
  const { store, people } = app.client;
  const blocked = computed(() => [...store.ignored()].sort());
  const row = (/** @type {string} */ id) => personRow(app, id, { note: () => id, actions: h.button({ type: 'button', class: 'button small', onclick: () => attempt(people.block(id, false)) }, () => t('person.unblock')) });
  return keyed(
    () => blocked.value.length > 0,
    (any) => (any ? rows(() => blocked.value, (id) => id, row) : empty('block', () => t('friends.noBlocked'), () => t('friends.noBlockedHint'))),
  );
}
