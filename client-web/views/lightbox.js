/**
 * A picture by itself, over everything: closer by wheel, keys or a double click, moved by
 * dragging, the next and the last by arrow keys. Owns zoom and place.
 */
import { cross, raise } from '../kit/dialog.js';
import { h } from '../kit/dom.js';
import { scope, signal } from '../kit/signal.js';
import { t } from '../i18n/index.js';
import { said } from '../matrix/events.js';
import { parseMxc } from '../matrix/media.js';
import { cleanName, download } from './attachment.js';
import { attempt } from './errors.js';
import { icon, named } from './icons.js';

const CLOSEST = 8;
const STEP = 1.5;

/** @typedef {import('../matrix/entry.js').Entry} Entry */
/** @typedef {import('./talk.js').Talk} Talk */

/** @param {Talk} talk @param {Entry} entry */
export function openLightbox(talk, entry) {
  const { room, client } = talk;
  const timeline = talk.timeline.peek();
  const fileOf = (/** @type {Entry} */ one) => {
    const { file } = said(one.event.type, timeline.current(one).content);
    return file?.msgtype === 'm.image' && !file.encrypted && parseMxc(file.url) ? file : undefined;
  };
  const all = timeline.shown().filter(fileOf);
  const at = signal(Math.max(0, all.indexOf(entry)));
  const url = signal('');
  const view = signal({ zoom: 1, x: 0, y: 0 });
  const file = () => /** @type {import('../matrix/events.js').FileInfo} */ (fileOf(all[at.value]));

  const show = (/** @type {number} */ next) => {
    if (!all[next]) return;
    at.value = next;
    url.value = '';
    view.value = { zoom: 1, x: 0, y: 0 };
    const mxc = file().url ?? '';
    attempt(client.media.picture(mxc)).then((found) => at.peek() === next && (url.value = found ?? ''));
  };
  const zoom = (/** @type {number} */ by, point = { x: 0, y: 0 }) => {
    const { zoom: now, x, y } = view.peek();
    const next = Math.max(1, Math.min(now * by, CLOSEST));
    // What is under the pointer stays there.
    const ratio = next / now;
    view.value = next === 1 ? { zoom: 1, x: 0, y: 0 } : { zoom: next, x: point.x - (point.x - x) * ratio, y: point.y - (point.y - y) * ratio };
  };
  const move = (/** @type {number} */ dx, /** @type {number} */ dy) => view.update((now) => (now.zoom === 1 ? now : { ...now, x: now.x + dx, y: now.y + dy }));

  const onkeydown = (/** @type {KeyboardEvent} */ event) => {
    const { zoom: now } = view.peek();
    /** @type {Record<string, () => void>} */
    const deeds = {
      '+': () => zoom(STEP), '=': () => zoom(STEP), '-': () => zoom(1 / STEP), 0: () => (view.value = { zoom: 1, x: 0, y: 0 }),
      ArrowLeft: () => (now > 1 ? move(80, 0) : show(at.peek() - 1)), ArrowRight: () => (now > 1 ? move(-80, 0) : show(at.peek() + 1)),
      ArrowUp: () => move(0, 80), ArrowDown: () => move(0, -80),
    };
    if (!deeds[event.key]) return;
    event.preventDefault();
    deeds[event.key]();
  };
  const middle = (/** @type {MouseEvent} */ event) => ({ x: event.clientX - innerWidth / 2, y: event.clientY - innerHeight / 2 });
  const button = (/** @type {Parameters<typeof icon>[0]} */ name, /** @type {import('../i18n/index.js').Key} */ label, /** @type {() => void} */ onclick, attrs = {}) =>
    h.button({ type: 'button', ...named(t(label)), onclick, ...attrs }, icon(name));

  const { value: dialog, stop } = scope(() =>
    h.dialog(
      { class: 'lightbox', 'aria-label': t('lightbox.title'), onkeydown },
      h.header(
        h.bdi({ class: 'lightbox-name' }, () => cleanName(file().name)),
        h.span({ class: 'lightbox-who' }, () => room.nameOf(all[at.value].event.sender)),
        button('minus', 'lightbox.out', () => zoom(1 / STEP), { 'aria-disabled': () => (view.value.zoom <= 1 ? 'true' : null) }),
        button('plus', 'lightbox.in', () => zoom(STEP)),
        button('download', 'lightbox.download', () => attempt(download(client.media, file()))),
        h.button({ type: 'button', ...named(t('action.close')), onclick: () => dialog.close() }, cross()),
      ),
      h.div(
        {
          class: () => `lightbox-stage ${view.value.zoom > 1 ? 'close' : ''}`,
          onwheel: (/** @type {WheelEvent} */ event) => (event.preventDefault(), zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, middle(event))),
          ondblclick: (/** @type {MouseEvent} */ event) => (view.peek().zoom > 1 ? zoom(0) : zoom(STEP * STEP, middle(event))),
          onpointerdown: (/** @type {PointerEvent} */ event) => drag(event, move),
          onclick: (/** @type {MouseEvent} */ event) => event.target === event.currentTarget && view.peek().zoom === 1 && dialog.close(),
        },
        () => (url.value ? h.img({ src: url.value, alt: cleanName(file().name), draggable: 'false', style: () => ({ transform: `translate(${view.value.x}px, ${view.value.y}px) scale(${view.value.zoom})` }) }) : h.progress({ 'aria-label': t('file.loading') })),
      ),
      h.button({ type: 'button', class: 'lightbox-step back', hidden: () => at.value === 0, 'aria-label': t('lightbox.last'), onclick: () => show(at.peek() - 1) }, icon('back')),
      h.button({ type: 'button', class: 'lightbox-step on', hidden: () => at.value >= all.length - 1, 'aria-label': t('lightbox.next'), onclick: () => show(at.peek() + 1) }, icon('back')),
    ),
  );
  dialog.addEventListener('close', () => {
    stop();
    dialog.remove();
  });
  raise(dialog);
  show(at.peek());
}

/** @param {PointerEvent} event @param {(dx: number, dy: number) => void} move */
function drag(event, move) {
  const stage = /** @type {HTMLElement} */ (event.currentTarget);
  let { clientX: x, clientY: y } = event;
  const end = new AbortController();
  stage.addEventListener('pointermove', (/** @type {PointerEvent} */ next) => {
    if (!next.buttons) return end.abort();
    move(next.clientX - x, next.clientY - y);
    ({ clientX: x, clientY: y } = next);
  }, { signal: end.signal });
  stage.addEventListener('pointerup', () => end.abort(), { signal: end.signal });
}
