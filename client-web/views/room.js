/**
 * One room on screen: its head, the conversation, who types, where one writes. Also what
 * stands there instead: an invitation, a room that is still opening, or one that isn't ours.
 */
import { h, keyed } from '../kit/dom.js';
import { menu, menuItem } from '../kit/menu.js';
import { link } from '../kit/router.js';
import { computed, effect, signal } from '../kit/signal.js';
import { list, number, t } from '../i18n/index.js';
import { successor } from '../matrix/moves.js';
import { composer } from './composer.js';
import { confirm, joinDialog, leaveDialog } from './dialogs.js';
import { filesInto } from './drop.js';
import { attempt } from './errors.js';
import { icon, mark, named } from './icons.js';
import { memberAvatar, roomAvatar, roomName } from './names.js';
import { backLink } from './page.js';
import { talkIn } from './talk.js';
import { timelineView } from './timeline.js';

/** More than these typing at once are "several". */
const NAMED = 3;
/** How long a room that was just joined may take to arrive by sync. */
const PATIENCE = 6000;

/** @typedef {import('./app.js').App} App */
/** @typedef {import('../matrix/room.js').Room} Room */

/** @param {App} app @param {string} id */
export function roomView(app, id) {
  const { store } = app.client;
  return h.main(
    { class: 'room', id: 'main' },
    keyed(
      () => store.room(id),
      (room) => (room ? keyed(() => room.membership.value, (membership) => (membership === 'invite' ? invitation(app, room) : membership === 'knock' ? asked(app, room) : joined(app, room))) : absent(app, id)),
    ),
  );
}

/** @param {App} app @param {Room} room */
function joined(app, room) {
  const warm = signal(room.warm);
  if (!room.warm) app.client.warm(room).then(() => (warm.value = true));
  const talk = talkIn(app, room);
  /** @type {ReturnType<typeof composer> | null} */
  let writing = null;
  followAddress(app, room, talk, warm);
  return [
    head(app, room, talk),
    filesInto(
      h.div(
        { class: 'room-talk' },
        keyed(() => warm.value, (ready) => (ready ? timelineView(talk) : h.div({ class: 'timeline' }))),
        h.div({ class: 'typing', role: 'status' }, () => typing(room)),
        () => moved(room),
        keyed(
          () => (room.changed.value, successor(room) ? 'moved' : room.maySend() ? 'open' : 'closed'),
          (how) => {
            writing = how === 'open' ? composer(talk) : null;
            return writing ?? (how === 'closed' && h.p({ class: 'read-only' }, icon('lock'), h.span(() => t('room.readOnly'))));
          },
        ),
      ),
      { addFiles: (files) => writing?.addFiles(files) },
    ),
  ];
}

/** A link to a message goes to it, and leaves the address as the room's. @param {App} app @param {Room} room @param {import('./talk.js').Talk} talk @param {import('../kit/signal.js').Signal<boolean>} warm */
function followAddress(app, room, talk, warm) {
  effect(() => {
    const { name, args } = app.place.value;
    const [id, eventId] = args;
    if (name !== 'room' || id !== room.id || !eventId?.startsWith('$') || !warm.value) return;
    queueMicrotask(() => {
      app.replace('room', room.id);
      talk.show(eventId);
    });
  });
}

/** @param {Room} room */
function moved(room) {
  const to = successor(room);
  return to ? h.p({ class: 'read-only' }, h.span(t('room.moved')), h.a({ class: 'button small primary', href: link('room', to) }, t('room.goOn'))) : null;
}

/** @param {App} app @param {Room} room @param {import('./talk.js').Talk} talk */
function head(app, room, talk) {
  const open = () => app.place.value.args[1] === 'members';
  const topic = () => {
    const text = room.stateOf('m.room.topic')?.topic;
    return typeof text === 'string' && text.trim() ? text.slice(0, 300) : t('room.memberCount', { count: room.memberCount });
  };
  const arriving = computed(() => room.isArriving());
  return h.header(
    { class: 'room-head' },
    backLink(),
    roomAvatar(room),
    h.div({ class: 'room-head-text' }, h.h1({ dir: 'auto', title: () => roomName(room) }, () => roomName(room)), h.p({ dir: 'auto', title: topic, hidden: () => arriving.value }, topic), h.p({ class: 'arriving', role: 'status' }, () => (arriving.value ? t('room.arriving') : null))),
    () => {
      const unread = [...room.unreadThreads.value.values()].reduce((sum, { count }) => sum + count, 0);
      const label = t('threads.unread', { count: unread });
      return unread ? h.a({ ...named(label), href: link('room', room.id, 'threads') }, icon('thread'), h.span({ class: 'badge', 'aria-hidden': 'true' }, number(unread))) : null;
    },
    // The same button as long as it is allowed: one made anew with each piece of state would lose the keyboard's place.
    keyed(() => room.may('invite'), (may) => (may ? h.button({ type: 'button', ...named(() => t('room.invite')), onclick: async () => (await import('./invite.js')).inviteDialog(app, room) }, icon('invite')) : null)),
    h.a({ ...named(() => t('room.members')), href: () => (open() ? link('room', room.id) : link('room', room.id, 'members')), 'aria-current': () => (open() ? 'true' : null) }, icon('people')),
    menu({ ...named(() => t('action.more')) }, icon('more'), [
      searchItem(app, room),
      menuItem(() => t('room.settings'), () => app.go('room', room.id, 'settings'), { icon: icon('gear') }),
      menuItem(() => t('pins.title'), () => app.go('room', room.id, 'pins'), { icon: icon('pin') }),
      menuItem(() => t('threads.title'), () => app.go('room', room.id, 'threads'), { icon: icon('thread') }),
      menuItem(() => t('jump.title'), async () => (await import('./jump.js')).jumpDialog(talk), { icon: icon('calendar') }),
      h.hr(),
      tagItem(app, room, 'm.favourite', 'room.favourite'),
      tagItem(app, room, 'm.lowpriority', 'room.lowPriority'),
      h.hr(),
      menuItem(() => t('room.leave'), () => leaveDialog(app, room), { icon: icon('leave') }),
    ]),
  );
}

/** @param {App} app @param {Room} room @param {string} tag @param {import('../i18n/index.js').Key} label */
function tagItem(app, room, tag, label) {
  return menuItem(() => t(label), () => attempt(app.client.rooms.tag(room, tag, !room.hasTag(tag))), { checked: () => room.hasTag(tag), several: true });
}

/** @param {Room} room */
function typing(room) {
  const ids = room.typing.value;
  if (!ids.length) return null;
  const dots = h.span({ class: 'typing-dots', 'aria-hidden': 'true' }, h.i(), h.i(), h.i());
  if (ids.length > NAMED) return [dots, h.span(t('typing.many'))];
  return [dots, h.span(t('typing', { names: list(ids.map((id) => room.nameOf(id))), count: ids.length }))];
}

/** @param {App} app @param {Room} room */
function invitation(app, room) {
  const { client } = app;
  const busy = signal(false);
  const during = (/** @type {Promise<any>} */ deed) => {
    busy.value = true;
    return attempt(deed).finally(() => (busy.value = false));
  };
  const from = room.inviter;
  const name = () => (from ? room.nameOf(from) : '');
  const note = room.members.get(room.me)?.content.reason;
  const isRequest = Boolean(from) && room.invitedDirectly;
  const accept = () => (isRequest && from ? client.friends.accept(from) : client.join(room.id));
  const reject = () => (isRequest && from ? client.friends.reject(from) : client.leave(room.id));
  const block = async () => {
    if (from && (await confirm(t('person.block'), t('person.blockHint', { name: name() }), t('person.block')))) await during(client.people.block(from, true).then(reject).then(() => app.go('home')));
  };
  return [
    h.header({ class: 'room-head' }, backLink(), h.div({ class: 'room-head-text' }, h.h1({ dir: 'auto' }, () => roomName(room)))),
    h.section(
      { class: 'stand-in' },
      isRequest && from ? memberAvatar(room, from, 'large') : roomAvatar(room, 'large'),
      h.h2({ dir: 'auto' }, () => (!from ? t('invited.titleUnknown') : t(isRequest ? 'invited.friend' : 'invited.title', { name: name() }))),
      from && h.a({ class: 'row-note', href: link('user', from) }, from),
      !isRequest && h.p({ dir: 'auto' }, () => t('invited.text', { room: roomName(room) })),
      typeof note === 'string' && note.trim() && h.blockquote({ class: 'invitation-note', dir: 'auto' }, note.trim().slice(0, 500)),
      h.div(
        { class: 'start-buttons' },
        h.button({ type: 'button', class: 'button primary', disabled: () => busy.value, onclick: () => during(accept()) }, () => t(isRequest ? 'person.accept' : 'invited.accept')),
        h.button({ type: 'button', class: 'button', disabled: () => busy.value, onclick: () => during(reject().then(() => app.go('home'))) }, () => t('invited.reject')),
        from && h.button({ type: 'button', class: 'button quiet danger-text', disabled: () => busy.value, onclick: block }, () => t('person.block')),
      ),
    ),
  ];
}

/** One has knocked and waits. @param {App} app @param {Room} room */
function asked(app, room) {
  const busy = signal(false);
  const cancel = async () => {
    busy.value = true;
    await attempt(app.client.leave(room.id).then(() => app.go('home')));
    busy.value = false;
  };
  return [
    h.header({ class: 'room-head' }, backLink(), h.div({ class: 'room-head-text' }, h.h1({ dir: 'auto' }, () => roomName(room)))),
    h.section(
      { class: 'stand-in' },
      roomAvatar(room, 'large'),
      h.h2(() => t('join.asked')),
      h.p({ dir: 'auto' }, () => t('join.askedHint', { room: roomName(room) })),
      h.button({ type: 'button', class: 'button', disabled: () => busy.value, onclick: cancel }, () => t('join.takeBack')),
    ),
  ];
}

/** @param {App} app @param {string} id */
function absent(app, id) {
  const waiting = signal(true);
  setTimeout(() => (waiting.value = false), PATIENCE);
  return [
    h.header({ class: 'room-head' }, backLink(), h.div({ class: 'room-head-text' }, h.h1(() => (waiting.value ? t('room.loading') : t('room.unknown'))))),
    keyed(
      () => waiting.value || !app.client.store.ready.value,
      (wait) =>
        wait
          ? h.div({ class: 'timeline skeleton', role: 'img', 'aria-label': t('room.loading') }, [1, 2, 3].map((n) => h.div({ class: `skeleton-message n${n}` }, h.i(), h.b(), h.b())))
          : h.section({ class: 'stand-in' }, mark(), h.h2(() => t('room.unknown')), h.p(() => t('room.unknownHint')), h.button({ type: 'button', class: 'button', onclick: () => joinDialog(app, id) }, () => t('room.tryJoin'))),
    ),
  ];
}

/** Only where the server searches. @param {App} app @param {Room} room */
function searchItem(app, room) {
  return () => (app.client.searching.offered.value ? menuItem(() => t('search.inRoom'), () => app.go('room', room.id, 'search'), { icon: icon('search') }) : null);
}
