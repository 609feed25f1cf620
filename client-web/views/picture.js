/**
 * Choosing a picture for a person or a room: from a file, cut to a square that is moved and
 * enlarged by pointer or keyboard, with a preview. Owns the cutting; uploads nothing.
 */
import { h } from '../kit/dom.js';
import { openDialog } from '../kit/dialog.js';
import { effect, onStop, signal } from '../kit/signal.js';
import { toast } from '../kit/toast.js';
import { t } from '../i18n/index.js';
import { avatar } from './names.js';

/** Pixels on screen, and in the file. */
const VIEW = 280;
const SIDE = 512;
const MOST_ZOOM = 5;
const KEY_STEP = 8;

/** @typedef {{ x: number, y: number, zoom: number }} Cut the square's middle in the picture (0 to 1), and how far it is enlarged */

/**
 * A picture and the buttons to change it. `onchange` gets the cut file, or null for none.
 * @param {{ id: string, name: () => string, picture: () => unknown, shape?: 'person' | 'room', onchange: (blob: Blob | null) => void }} options
 */
export function pictureField({ id, name, picture, shape = 'person', onchange }) {
  const shown = signal(/** @type {string | null} */ (null));
  const drop = () => shown.peek() && URL.revokeObjectURL(shown.peek() ?? '');
  onStop(drop);
  /** @type {HTMLInputElement} */
  const input = h.input({
    type: 'file',
    accept: 'image/png,image/jpeg,image/webp,image/gif',
    hidden: true,
    'aria-label': () => t('picture.choose'),
    onchange: async () => {
      const [file] = input.files ?? [];
      input.value = '';
      const blob = file && (await cutDialog(file));
      if (!blob) return;
      drop();
      shown.value = URL.createObjectURL(blob);
      onchange(blob);
    },
  });
  const remove = () => {
    drop();
    shown.value = null;
    onchange(null);
  };
  return h.div(
    { class: 'picture-field' },
    () => (shown.value ? h.span({ class: `avatar large of-${shape}`, 'aria-hidden': 'true' }, h.img({ src: shown.value, alt: '' })) : avatar(id, name, 'large', shape, picture)),
    h.div(
      { class: 'picture-buttons' },
      h.button({ type: 'button', class: 'button small', onclick: () => input.click() }, () => t('picture.choose')),
      () => (shown.value || picture() ? h.button({ type: 'button', class: 'button small quiet', onclick: remove }, t('picture.remove')) : null),
      input,
    ),
  );
}

/** @param {File} file @returns {Promise<Blob | undefined>} */
async function cutDialog(file) {
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (!bitmap) {
    toast(t('picture.broken'));
    return;
  }
  const blob = await openDialog(t('picture.title'), (close) => cutter(bitmap, close));
  bitmap.close();
  return blob;
}

/** @param {ImageBitmap} bitmap @param {(result?: Blob) => void} close */
function cutter(bitmap, close) {
  const cut = signal(/** @type {Cut} */ ({ x: 0.5, y: 0.5, zoom: 1 }));
  const move = (/** @type {number} */ dx, /** @type {number} */ dy, zoom = cut.peek().zoom) => {
    const { x, y } = cut.peek();
    const side = Math.min(bitmap.width, bitmap.height) / zoom;
    const inside = (/** @type {number} */ at, /** @type {number} */ size) => Math.max(side / 2, Math.min(size - side / 2, at));
    const scale = side / VIEW;
    cut.value = { x: inside(x * bitmap.width - dx * scale, bitmap.width) / bitmap.width, y: inside(y * bitmap.height - dy * scale, bitmap.height) / bitmap.height, zoom };
  };
  /** @type {{ x: number, y: number } | null} */
  let grip = null;
  const keys = /** @type {Record<string, [number, number]>} */ ({ ArrowLeft: [KEY_STEP, 0], ArrowRight: [-KEY_STEP, 0], ArrowUp: [0, KEY_STEP], ArrowDown: [0, -KEY_STEP] });
  const canvas = h.canvas({
    class: 'cutter',
    width: VIEW * 2,
    height: VIEW * 2,
    tabindex: '0',
    role: 'img',
    'aria-label': () => t('picture.move'),
    onpointerdown: (/** @type {PointerEvent} */ event) => {
      grip = { x: event.clientX, y: event.clientY };
      canvas.setPointerCapture(event.pointerId);
    },
    onpointermove: (/** @type {PointerEvent} */ event) => {
      if (!grip) return;
      move(event.clientX - grip.x, event.clientY - grip.y);
      grip = { x: event.clientX, y: event.clientY };
    },
    onpointerup: () => (grip = null),
    onpointercancel: () => (grip = null),
    onkeydown: (/** @type {KeyboardEvent} */ event) => {
      const by = keys[event.key];
      if (!by) return;
      event.preventDefault();
      move(...by);
    },
  });
  const small = h.canvas({ class: 'cutter-preview', width: 144, height: 144, 'aria-hidden': 'true' });
  effect(() => {
    draw(canvas, bitmap, cut.value);
    draw(small, bitmap, cut.value);
  });
  const zoom = h.input({ type: 'range', min: '1', max: String(MOST_ZOOM), step: '0.05', value: '1', 'aria-label': () => t('picture.zoom'), oninput: () => move(0, 0, Number(zoom.value)) });
  const done = async () => {
    const full = document.createElement('canvas');
    full.width = full.height = SIDE;
    draw(full, bitmap, cut.peek());
    full.toBlob((blob) => close(blob ?? undefined), 'image/webp', 0.9);
  };
  return [
    h.p({ class: 'hint' }, t('picture.hint')),
    h.div({ class: 'cutter-place' }, canvas, h.div({ class: 'cutter-side' }, small, h.span({ class: 'hint' }, t('picture.preview')))),
    zoom,
    h.footer(h.button({ type: 'button', class: 'button', onclick: () => close() }, t('action.cancel')), h.button({ type: 'button', class: 'button primary', onclick: done }, t('picture.use'))),
  ];
}

/** @param {HTMLCanvasElement} canvas @param {ImageBitmap} bitmap @param {Cut} cut */
function draw(canvas, bitmap, { x, y, zoom }) {
  const side = Math.min(bitmap.width, bitmap.height) / zoom;
  const to = canvas.getContext('2d');
  if (!to) return;
  to.imageSmoothingQuality = 'high';
  to.clearRect(0, 0, canvas.width, canvas.height);
  to.drawImage(bitmap, x * bitmap.width - side / 2, y * bitmap.height - side / 2, side, side, 0, 0, canvas.width, canvas.height);
}
