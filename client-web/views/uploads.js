/**
 * Files on their way: what was picked, pasted or dropped waits beside the text, and goes one
 * after the other with its progress. Owns that list; what a file's event says is worked out in
 * `inspect.js`.
 */
import { cross } from '../kit/dialog.js';
import { h, each } from '../kit/dom.js';
import { onStop, signal } from '../kit/signal.js';
import { number, size, t } from '../i18n/index.js';
import { cleanName } from './attachment.js';
import { words } from './errors.js';
import { icon, named } from './icons.js';

/** Files at once: more is a mistake, or an archive's work. */
const MOST = 50;

/**
 * @typedef {{ id: string, file: File, preview: string, state: import('../kit/signal.js').Signal<'waiting' | 'sending' | 'failed'>,
 *   share: import('../kit/signal.js').Signal<number>, trouble: import('../kit/signal.js').Signal<string>, cancel: AbortController }} Upload
 */

/** @param {import('./talk.js').Talk} talk */
export function uploadsOf(talk) {
  const { client, room } = talk;
  const list = signal(/** @type {Upload[]} */ ([]));
  let lastId = 0;
  const remove = (/** @type {Upload} */ one) => {
    one.cancel.abort();
    if (one.preview) URL.revokeObjectURL(one.preview);
    list.value = list.peek().filter((other) => other !== one);
  };
  onStop(() => list.peek().forEach((one) => one.state.peek() === 'waiting' && one.preview && URL.revokeObjectURL(one.preview)));

  return {
    list,
    remove,
    /** @param {Iterable<File>} files */
    add(files) {
      const fresh = [...files].slice(0, MOST - list.peek().length).map((file) => ({
        id: String(++lastId),
        file,
        preview: /^image\/(png|jpeg|gif|webp|avif|bmp)$/.test(file.type) ? URL.createObjectURL(file) : '',
        state: signal(/** @type {'waiting' | 'sending' | 'failed'} */ ('waiting')),
        share: signal(0),
        trouble: signal(''),
        cancel: new AbortController(),
      }));
      list.value = [...list.peek(), ...fresh];
    },
    /**
     * Sends all, in order. A caption goes with a file that goes alone.
     * @param {() => Omit<import('../matrix/saying.js').Words, 'text'>} context asked for each, since a thread grows meanwhile
     * @param {string} [caption]
     */
    async send(context, caption = '') {
      const waiting = list.peek().filter((one) => one.state.peek() !== 'sending');
      for (const one of waiting) one.state.value = 'sending';
      for (const one of waiting) {
        if (one.cancel.signal.aborted) continue;
        one.trouble.value = '';
        try {
          const content = await upload(client, one, waiting.length === 1 ? caption : '');
          // Not the file itself: the message about it, which waits its turn like any other.
          client.saying.file(room, content, context());
          remove(one);
        } catch (error) {
          if (one.cancel.signal.aborted) continue;
          one.trouble.value = words(error, { M_TOO_LARGE: 'file.tooLarge' });
          one.state.value = 'failed';
        }
      }
    },
  };
}

/** @param {import('../matrix/client.js').Client} client @param {Upload} one @param {string} caption */
async function upload({ media }, one, caption) {
  const { file, cancel, share } = one;
  const { signal: stop } = cancel;
  const { inspect } = await import('./inspect.js');
  const { msgtype, info, thumbnail } = await inspect(file);
  const options = { signal: stop, onProgress: (/** @type {number} */ now) => (share.value = now) };
  const name = cleanName(file.name || t(/** @type {import('../i18n/index.js').Key} */ (`file.${msgtype}`)));
  const thumbnailUrl = thumbnail && (await media.upload(thumbnail.blob, { signal: stop }).catch(() => undefined));
  stop.throwIfAborted();
  const url = await media.upload(file, { ...options, name });
  if (msgtype === 'm.image') media.seed(url, file);
  if (thumbnail && thumbnailUrl) {
    media.seed(thumbnailUrl, thumbnail.blob);
    Object.assign(info, { thumbnail_url: thumbnailUrl, thumbnail_info: thumbnail.info });
  }
  return { msgtype, body: caption || name, filename: name, url, info };
}

/** The list beside the text. @param {ReturnType<typeof uploadsOf>} uploads */
export function uploadTray({ list, remove }) {
  return () =>
    list.value.length
      ? each(h.ul({ class: 'tray', role: 'list', 'aria-label': t('composer.files') }), () => list.value, (one) => one.id, (one) => tile(one, remove))
      : null;
}

/** @param {Upload} one @param {(one: Upload) => void} remove */
function tile(one, remove) {
  const name = cleanName(one.file.name);
  return h.li(
    { class: () => `tray-file ${one.state.value}` },
    one.preview ? h.img({ src: one.preview, alt: '' }) : icon('file'),
    h.span({ class: 'tray-text' }, h.bdi({ class: 'tray-name' }, name), h.span({ class: 'tray-facts' }, () => fact(one))),
    () => (one.state.value === 'sending' ? h.progress({ max: '1', value: () => one.share.value, 'aria-label': t('file.sending', { name }) }) : null),
    h.button({ type: 'button', ...named(() => t('file.cancel', { name })), onclick: () => remove(one) }, cross()),
  );
}

/** @param {Upload} one @returns {string} */
function fact(one) {
  if (one.trouble.value) return one.trouble.value;
  if (one.state.value === 'sending') return t('file.percent', { count: number(Math.round(one.share.value * 100)) });
  return size(one.file.size);
}
