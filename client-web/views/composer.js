/**
 * Where a message is written. Owns the draft (kept per room over reloads), sending by Enter,
 * and saying that somebody types.
 */
import { h } from '../kit/dom.js';
import { onStop, signal } from '../kit/signal.js';
import { t } from '../i18n/index.js';
import { icon } from './icons.js';
import { roomName } from './names.js';

/** Without a key for this long, nobody types. */
const PAUSE = 6000;
/** A message must fit in an event with room for the rest. */
const LONGEST = 30_000;

/** @param {import('../matrix/client.js').Client} client @param {import('../matrix/room.js').Room} room */
export function composer(client, room) {
  const key = `hearth.draft.${client.me}.${room.id}`;
  const text = signal(localStorage.getItem(key) ?? '');
  /** @type {any} */
  let quiet;
  const stopTyping = () => {
    clearTimeout(quiet);
    client.typing(room, false);
  };
  const write = (/** @type {string} */ value) => {
    text.value = value;
    if (value) localStorage.setItem(key, value);
    else localStorage.removeItem(key);
    clearTimeout(quiet);
    client.typing(room, Boolean(value.trim()));
    if (value.trim()) quiet = setTimeout(stopTyping, PAUSE);
  };
  const send = () => {
    const body = text.peek().trim();
    if (!body) return;
    clearTimeout(quiet);
    client.say(room, body);
    text.value = '';
    localStorage.removeItem(key);
    area.focus();
  };
  const onkeydown = (/** @type {KeyboardEvent} */ event) => {
    // While a syllable is being composed (Korean, Japanese, …), Enter belongs to it.
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    send();
  };
  const label = () => t('composer.label', { room: roomName(room) });
  /** @type {HTMLTextAreaElement} */
  const area = h.textarea({
    rows: 1,
    maxlength: LONGEST,
    dir: 'auto',
    'aria-label': label,
    placeholder: label,
    value: () => text.value,
    oninput: () => {
      write(area.value);
      fit(area);
    },
    onkeydown,
    enterkeyhint: 'send',
  });
  onStop(stopTyping);
  if (matchMedia('(hover: hover)').matches) queueMicrotask(() => area.focus({ preventScroll: true }));
  return h.form(
    {
      class: 'composer',
      onsubmit: (/** @type {Event} */ event) => {
        event.preventDefault();
        send();
      },
    },
    area,
    h.button({ type: 'submit', class: 'send', 'aria-label': () => t('composer.send'), title: () => t('composer.send'), disabled: () => !text.value.trim() }, icon('send')),
  );
}

/** Grows with the text where the style sheet can't do it. @param {HTMLTextAreaElement} area */
function fit(area) {
  if (CSS.supports('field-sizing', 'content')) return;
  area.style.height = 'auto';
  area.style.height = `${area.scrollHeight}px`;
}
