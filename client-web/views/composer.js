/**
 * Where a message is written: Markdown with a preview, mentions, emoji, files, answers and
 * edits. Owns the draft, what Enter does, and saying that somebody types.
 */
import { cross } from '../kit/dialog.js';
import { h } from '../kit/dom.js';
import { effect, onStop, signal, untracked } from '../kit/signal.js';
import { t } from '../i18n/index.js';
import { isMessage, isRedacted } from '../matrix/events.js';
import { messageContent, sourceOf } from '../matrix/saying.js';
import { completion } from './complete.js';
import { draftKeeper } from './drafts.js';
import { attempt } from './errors.js';
import { formatBar, formatKey, insert } from './format-bar.js';
import { formatted } from './formatted.js';
import { icon, named } from './icons.js';
import { summary } from './message-body.js';
import { hue, roomName } from './names.js';
import { uploadTray, uploadsOf } from './uploads.js';

/** Without a key for this long, nobody types. */
const PAUSE = 6000;
/** A message must fit in an event with room for the rest. */
const LONGEST = 20_000;

/** @typedef {import('../matrix/saying.js').Mention} Mention */
/** @typedef {import('./talk.js').Talk} Talk */

/** @param {Talk} talk */
export function composer(talk) {
  const { client, room, thread, replyTo, editing } = talk;
  const keeper = draftKeeper(client.me, room.id, thread);
  const draft = keeper.load();
  const text = signal(draft.text);
  const showsFormat = signal(false);
  /** Those completed in this text; whoever is no longer in it isn't mentioned. @type {Mention[]} */
  let mentions = draft.mentions;
  const uploads = uploadsOf(talk);
  if (draft.replyTo) restoreReply(talk, draft.replyTo);

  /** @type {any} */
  let quiet;
  const stopTyping = () => {
    clearTimeout(quiet);
    client.typing(room, false);
  };
  const write = (/** @type {string} */ value) => {
    text.value = value;
    if (editing.peek()) return;
    keep();
    clearTimeout(quiet);
    if (thread) return;
    client.typing(room, Boolean(value.trim()));
    if (value.trim()) quiet = setTimeout(stopTyping, PAUSE);
  };
  const keep = () => keeper.save({ text: text.peek(), mentions: present(text.peek(), mentions), replyTo: replyTo.peek()?.event.event_id });
  const context = () => ({ thread, threadTail: thread && talk.present.entries.at(-1)?.event.event_id, replyTo: replyTo.peek()?.event });
  const submit = () => {
    const words = text.peek().trim();
    const files = uploads.list.peek().length;
    const edited = editing.peek();
    if (!words && !files) return;
    stopTyping();
    const said = { text: words, mentions: present(words, mentions) };
    if (edited) {
      editing.value = null;
      attempt(client.saying.edit(room, edited.event, said));
      return area.focus();
    }
    const reply = context();
    text.value = '';
    mentions = [];
    if (files) uploads.send(() => ({ ...context(), replyTo: reply.replyTo }), files === 1 ? words : '');
    if (words && files !== 1) client.saying.message(room, { ...said, ...reply });
    replyTo.value = null;
    keep();
    talk.newest();
    area.focus();
  };
  const cancel = () => {
    editing.value = null;
    replyTo.value = null;
  };

  const label = () => (thread ? t('composer.threadLabel') : t('composer.label', { room: roomName(room) }));
  /** @type {HTMLTextAreaElement} */
  const area = h.textarea({
    rows: 1,
    maxlength: LONGEST,
    dir: 'auto',
    'aria-label': label,
    value: () => text.value,
    enterkeyhint: 'send',
    oninput: () => {
      write(area.value);
      fit(area);
    },
    onpaste: (/** @type {ClipboardEvent} */ event) => {
      if (!event.clipboardData?.files.length) return;
      event.preventDefault();
      uploads.add(event.clipboardData.files);
    },
    onkeydown: (/** @type {KeyboardEvent} */ event) => {
      // While a syllable is being composed (Korean, Japanese, …), Enter belongs to it.
      if (event.isComposing || event.keyCode === 229 || complete.key(event) || formatKey(area, event)) return;
      if (event.key === 'Enter' && !event.shiftKey) submit();
      else if (event.key === 'Escape' && (editing.peek() || replyTo.peek())) cancel();
      else if (event.key === 'ArrowUp' && !area.value) editLast(talk);
      else return;
      event.preventDefault();
    },
  });
  const complete = completion(talk, area, ({ start, end }, choice) => {
    if (choice.mention) mentions.push(choice.mention);
    area.setSelectionRange(start, end);
    insert(area, choice.insert);
  });

  followAnswer(talk, area, text, keep, () => keeper.load().text);
  onStop(stopTyping);
  if (matchMedia('(hover: hover)').matches) queueMicrotask(() => area.focus({ preventScroll: true }));
  const pick = h.input({ type: 'file', multiple: true, hidden: true, 'aria-hidden': 'true', tabindex: '-1', onchange: () => (uploads.add(pick.files), (pick.value = ''), area.focus()) });
  const button = (/** @type {Parameters<typeof icon>[0]} */ name, /** @type {() => string} */ title, /** @type {(event: Event) => void} */ onclick, attrs = {}) =>
    h.button({ type: 'button', ...named(title), onclick, ...attrs }, icon(name));
  const empty = () => !text.value.trim() && !uploads.list.value.some((one) => one.state.value !== 'sending');
  const form = h.form(
    { class: 'composer', onsubmit: (/** @type {Event} */ event) => (event.preventDefault(), submit()) },
    complete.view,
    () => answered(talk, cancel),
    uploadTray(uploads),
    () => (showsFormat.value ? [preview(text), formatBar(area)] : null),
    h.div(
      { class: 'composer-line' },
      button('plus', () => t('composer.attach'), () => pick.click()),
      pick,
      // A placeholder of a text area is cut without a word where it is too long.
      h.div({ class: 'composer-area' }, area, h.span({ class: 'composer-hint', dir: 'auto', 'aria-hidden': 'true', hidden: () => Boolean(text.value) }, label)),
      button('format', () => t('composer.format'), () => ((showsFormat.value = !showsFormat.peek()), area.focus()), { 'aria-pressed': () => String(showsFormat.value) }),
      button('smile', () => t('composer.emoji'), (event) => emojiAt(/** @type {HTMLElement} */ (event.currentTarget), area)),
      h.button({ type: 'submit', class: 'send', 'aria-label': () => t('composer.send'), title: () => t('composer.send'), disabled: empty }, () => icon(editing.value ? 'check' : 'send')),
    ),
  );
  return Object.assign(form, { addFiles: uploads.add });
}

/** The picker comes when it is first wanted. @param {HTMLElement} button @param {HTMLTextAreaElement} area */
async function emojiAt(button, area) {
  const { openEmojiPicker } = await import('./emoji-picker.js');
  openEmojiPicker(button, (char) => insert(area, char));
}

/** @param {string} text @param {Mention[]} mentions */
function present(text, mentions) {
  return mentions.filter(({ id, name }, at) => text.includes(`@${name}`) && mentions.findIndex((one) => one.id === id) === at);
}

/**
 * When an answer or an edit begins or ends: the words change places with the draft, and the
 * focus goes to where one writes.
 * @param {Talk} talk @param {HTMLTextAreaElement} area @param {import('../kit/signal.js').Signal<string>} text @param {() => void} keep @param {() => string} draft
 */
function followAnswer({ editing, replyTo, timeline }, area, text, keep, draft) {
  let before = [editing.peek(), replyTo.peek()];
  effect(() => {
    const now = [editing.value, replyTo.value];
    untracked(() => {
      if (now[0] !== before[0]) text.value = now[0] ? sourceOf(now[0].event, timeline.peek().current(now[0]).content) : draft();
      if (now[1] !== before[1] && !now[0]) keep();
      const begun = (now[0] && now[0] !== before[0]) || (now[1] && now[1] !== before[1]);
      before = now;
      // After the text has come in, and before the next key: it would be an order to the message, or be taken for
      // typed before the caret had its place.
      if (begun) queueMicrotask(() => (area.focus(), area.setSelectionRange(area.value.length, area.value.length), fit(area)));
    });
  });
}

/** @param {Talk} talk @param {string} id */
async function restoreReply({ client, room, replyTo, present: timeline }, id) {
  await client.warm(room);
  replyTo.value ??= timeline.find(id) ?? null;
}

/** @param {Talk} talk */
function editLast({ editing, present: timeline, room }) {
  const last = timeline.shown().findLast(({ event, status }) => event.sender === room.me && status === 'sent' && isMessage(event) && !isRedacted(event) && ['m.text', 'm.emote'].includes(event.content.msgtype));
  if (last) editing.value = last;
}

/** What is being answered or edited. @param {Talk} talk @param {() => void} cancel */
function answered({ editing, replyTo, room }, cancel) {
  const entry = editing.value ?? replyTo.value;
  if (!entry) return null;
  const { sender } = entry.event;
  return h.div(
    { class: 'answered' },
    icon(editing.value ? 'edit' : 'reply'),
    editing.value ? h.span(t('composer.editing')) : h.span({ class: 'answered-who' }, t('composer.replyTo'), ' ', h.bdi({ class: hue(sender) }, room.nameOf(sender))),
    h.span({ class: 'answered-text', dir: 'auto' }, summary(entry.event)),
    h.button({ type: 'button', ...named(t('action.cancel')), onclick: cancel }, cross()),
  );
}

/** What will be sent, as it will look. @param {import('../kit/signal.js').Signal<string>} text */
function preview(text) {
  return h.div({ class: 'preview', role: 'region', 'aria-label': t('composer.preview') }, () => {
    const { body, formatted_body: html } = /** @type {any} */ (messageContent({ text: text.value.trim() }));
    if (!body) return h.p({ class: 'preview-empty' }, t('composer.previewEmpty'));
    return h.div({ class: html ? 'said' : 'said plain', dir: 'auto' }, html ? formatted(html) : body);
  });
}

/** Grows with the text where the style sheet can't do it. @param {HTMLTextAreaElement} area */
function fit(area) {
  if (CSS.supports('field-sizing', 'content')) return;
  area.style.height = 'auto';
  area.style.height = `${area.scrollHeight}px`;
}
