/**
 * Public rooms, here and on another server: searched as one types, joined with one click.
 */
import { h } from '../kit/dom.js';
import { link } from '../kit/router.js';
import { signal } from '../kit/signal.js';
import { toast } from '../kit/toast.js';
import { t } from '../i18n/index.js';
import { attempt } from './errors.js';
import { icon } from './icons.js';
import { answered, asked } from './lists.js';
import { avatar } from './names.js';
import { empty, page } from './page.js';

const MOST_VIA = 3;

/** @typedef {import('../matrix/rooms.js').PublicRoom} PublicRoom */

/** @param {import('./app.js').App} app */
export function explorePage(app) {
  const { client } = app;
  const search = signal('');
  const server = signal('');
  const list = asked(async (/** @type {string | undefined} */ since) => {
    const { rooms, next } = await client.rooms.explore({ server: server.peek() || undefined, search: search.peek().trim() || undefined, since });
    return { rows: rooms, next };
  });
  const oninput = (/** @type {any} */ event) => {
    search.value = event.target.value;
    list.soon();
  };
  const byServer = (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    server.value = String(new FormData(/** @type {HTMLFormElement} */ (event.target)).get('server') ?? '').trim().replace(/^https?:\/\//, '').replace(/\/.*$/, '');
    list.afresh();
  };
  return page(
    { title: () => t('explore.title') },
    h.p({ class: 'hint' }, () => t('explore.hint')),
    h.div(
      { class: 'explore-ask' },
      h.label({ class: 'search-box' }, icon('search'), h.input({ type: 'search', 'aria-label': () => t('explore.search'), placeholder: () => t('explore.search'), oninput })),
      h.form({ class: 'explore-server', onsubmit: byServer }, h.input({ class: 'inline-field', name: 'server', 'aria-label': () => t('explore.server'), placeholder: client.server, autocomplete: 'off', spellcheck: 'false', autocapitalize: 'none' }), h.button({ class: 'button' }, () => t('explore.show'))),
    ),
    h.div({ role: 'status', class: 'section' }, answered(list, (room) => row(app, room, server.peek()), () => empty('compass', () => t('explore.none'), () => t('explore.noneHint')))),
  );
}

/** @param {import('./app.js').App} app @param {PublicRoom} room @param {string} server */
function row(app, room, server) {
  const name = room.name || room.canonical_alias || t('rooms.emptyName');
  const busy = signal(false);
  const target = room.canonical_alias ?? room.room_id;
  const via = [server, room.room_id.split(':').slice(1).join(':')].filter(Boolean).slice(0, MOST_VIA);
  const enter = async () => {
    busy.value = true;
    const knocks = room.join_rule === 'knock';
    const id = await attempt(knocks ? app.client.rooms.knock(target, { via }) : app.client.join(target, via));
    busy.value = false;
    if (!id) return;
    if (knocks) toast(t('join.asked'));
    else app.go('room', id);
  };
  const isIn = () => app.client.store.room(room.room_id)?.membership.value === 'join';
  return h.li(
    { class: 'row' },
    avatar(room.room_id, () => name, 'medium', 'room', () => room.avatar_url),
    h.div(
      { class: 'row-text' },
      h.bdi({ class: 'row-title' }, name),
      room.topic && h.span({ class: 'row-note wraps clamp', dir: 'auto' }, room.topic.slice(0, 300)),
      h.span({ class: 'row-note' }, () => [room.canonical_alias, t('room.memberCount', { count: room.num_joined_members ?? 0 })].filter(Boolean).join(' · ')),
    ),
    () =>
      isIn()
        ? h.a({ class: 'button small', href: link('room', room.room_id) }, () => t('explore.open'))
        : h.button({ type: 'button', class: 'button small primary', disabled: () => busy.value, 'aria-label': () => `${t(room.join_rule === 'knock' ? 'explore.knock' : 'join.submit')}: ${name}`, onclick: enter }, () => t(room.join_rule === 'knock' ? 'explore.knock' : 'join.submit')),
  );
}
