/**
 * A file in a message: a picture, a film, a sound, or a card to download. Owns that its place
 * is kept before it comes, that it is fetched with the token, and that its name is shown as
 * what it is.
 */
import { h } from '../kit/dom.js';
import { onStop, signal } from '../kit/signal.js';
import { size, t } from '../i18n/index.js';
import { parseMxc } from '../matrix/media.js';
import { attempt } from './errors.js';
import { icon } from './icons.js';

/** The largest a picture is in the conversation, in CSS pixels. */
const WIDEST = 420;
const TALLEST = 320;
/** What the server is asked for: sharp on a dense screen, and one size for its cache. */
const THUMBNAIL = { width: 800, height: 600 };
/** Moving pictures are shown as they are, up to this many bytes. */
const MOVING = 8_000_000;

/** @typedef {import('../matrix/events.js').FileInfo} FileInfo */
/** @typedef {import('../matrix/entry.js').Entry} Entry */
/** @typedef {import('./talk.js').Talk} Talk */

/** @param {Talk} talk @param {Entry} entry @param {FileInfo} file */
export function attachment(talk, entry, file) {
  if (file.encrypted) return h.div({ class: 'message-body attachment' }, icon('lock'), h.bdi({ class: 'attachment-name' }, cleanName(file.name)), h.span({ class: 'attachment-kind' }, () => t('file.encrypted')));
  if (!parseMxc(file.url)) return card(talk, file, false);
  switch (file.msgtype) {
    case 'm.image': return picture(talk, entry, file);
    case 'm.video': return film(talk, file);
    case 'm.audio': return sound(talk, file);
    default: return card(talk, file, true);
  }
}

/**
 * A name without what could make it look like another: control and direction characters, and
 * parts of a path.
 * @param {string} name
 */
export function cleanName(name) {
  return name.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '').replace(/[/\\]/g, '_').replace(/\p{M}{3,}/gu, '').trim().slice(0, 200) || t('file.m.file');
}

/** @param {Talk} talk @param {Entry} entry @param {FileInfo} file */
function picture(talk, entry, file) {
  const url = signal('');
  const failed = signal(false);
  const { media } = talk.client;
  const moving = /^image\/(gif|webp|apng|png)$/.test(file.type) && (file.type !== 'image/png' || small(file)) && (file.size ?? Infinity) < MOVING;
  media.picture(file.url ?? '', moving || small(file) ? undefined : THUMBNAIL).then((found) => (url.value = found), () => (failed.value = true));
  return h.figure(
    { class: 'message-body picture-frame' },
    h.button(
      { type: 'button', class: 'picture', style: box(file), 'aria-label': () => t('file.open', { name: cleanName(file.name) }), onclick: async () => (await import('./lightbox.js')).openLightbox(talk, entry) },
      () => (failed.value ? h.span({ class: 'picture-failed' }, icon('image'), h.span(t('file.failed'))) : url.value ? h.img({ src: url.value, alt: cleanName(file.name), decoding: 'async', draggable: 'false', onerror: () => (failed.value = true) }) : null),
    ),
  );
}

/** @param {FileInfo} file */
function small({ width = Infinity, height = Infinity }) {
  return width <= THUMBNAIL.width && height <= THUMBNAIL.height;
}

/** The room a picture takes, known before it comes; its colour meanwhile. @param {FileInfo} file */
function box({ width, height, color }) {
  const known = width && height;
  const scale = known ? Math.min(1, WIDEST / width, TALLEST / height) : 1;
  return {
    width: `${Math.round(known ? Math.max(48, width * scale) : 280)}px`,
    'aspect-ratio': known ? String(Math.max(0.15, Math.min(width / height, 12))) : '4 / 3',
    ...(color && { '--picture-color': color }),
  };
}

/** @param {Talk} talk @param {FileInfo} file */
function film(talk, file) {
  const poster = signal('');
  if (file.thumbnail) talk.client.media.picture(file.thumbnail, THUMBNAIL).then((found) => (poster.value = found), () => {});
  const { url, share, busy, load } = onDemand(talk, file);
  return h.figure(
    { class: 'message-body film', style: box(file) },
    () =>
      url.value
        ? h.video({ src: url.value, controls: true, autoplay: true, playsinline: true, 'aria-label': cleanName(file.name) })
        : h.button(
            { type: 'button', class: 'picture', 'aria-label': t('file.play', { name: cleanName(file.name) }), onclick: load },
            () => (poster.value ? h.img({ src: poster.value, alt: '', draggable: 'false' }) : null),
            h.span({ class: 'film-play' }, () => (busy.value ? progress(share) : icon('play'))),
            h.span({ class: 'film-facts' }, facts(file)),
          ),
  );
}

/** @param {Talk} talk @param {FileInfo} file */
function sound(talk, file) {
  const { url, share, busy, load } = onDemand(talk, file);
  return h.div(
    { class: 'message-body attachment sound' },
    () => (url.value ? icon('sound') : h.button({ type: 'button', class: 'attachment-play', 'aria-label': t('file.play', { name: cleanName(file.name) }), onclick: load }, () => (busy.value ? progress(share) : icon('play')))),
    h.bdi({ class: 'attachment-name' }, cleanName(file.name)),
    () => (url.value ? h.audio({ src: url.value, controls: true, autoplay: true, 'aria-label': cleanName(file.name) }) : h.span({ class: 'attachment-kind' }, facts(file))),
    downloadButton(talk, file),
  );
}

/** @param {Talk} talk @param {FileInfo} file @param {boolean} there */
function card(talk, file, there) {
  return h.div(
    { class: 'message-body attachment' },
    icon('file'),
    h.bdi({ class: 'attachment-name' }, cleanName(file.name)),
    h.span({ class: 'attachment-kind' }, () => (there ? facts(file) : t('file.gone'))),
    there && downloadButton(talk, file),
  );
}

/** @param {FileInfo} file */
function facts(file) {
  const parts = [t(/** @type {import('../i18n/index.js').Key} */ (`file.${file.msgtype}`))];
  if (file.duration) parts.push(clock(file.duration));
  if (file.size !== undefined) parts.push(size(file.size));
  return parts.join(' · ');
}

/** 3:07 @param {number} ms */
function clock(ms) {
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
}

/** A film or sound that comes when it is asked for, and goes with its row. @param {Talk} talk @param {FileInfo} file */
function onDemand(talk, file) {
  const url = signal('');
  const share = signal(0);
  const busy = signal(false);
  const cancel = new AbortController();
  onStop(() => {
    cancel.abort();
    if (url.peek()) URL.revokeObjectURL(url.peek());
  });
  const load = async () => {
    if (busy.peek()) return;
    busy.value = true;
    const blob = await attempt(talk.client.media.blob(file.url ?? '', undefined, { signal: cancel.signal, onProgress: (now) => (share.value = now) }).catch((error) => {
      if (!cancel.signal.aborted) throw error;
    }));
    busy.value = false;
    if (blob && !cancel.signal.aborted) url.value = URL.createObjectURL(blob);
  };
  return { url, share, busy, load };
}

/** @param {import('../kit/signal.js').Signal<number>} share */
function progress(share) {
  return h.progress({ max: '1', value: () => share.value, 'aria-label': t('file.loading') });
}

/** @param {Talk} talk @param {FileInfo} file */
function downloadButton(talk, file) {
  const busy = signal(false);
  const onclick = async () => {
    if (busy.peek()) return;
    busy.value = true;
    await attempt(download(talk.client.media, file));
    busy.value = false;
  };
  return h.button({ type: 'button', class: 'icon-button attachment-get', 'aria-label': () => t('file.download', { name: cleanName(file.name) }), title: () => t('file.download', { name: cleanName(file.name) }), 'aria-disabled': () => (busy.value ? 'true' : null), onclick }, icon('download'));
}

/** @param {import('../matrix/media.js').Media} media @param {FileInfo} file */
export async function download(media, file) {
  const blob = await media.blob(file.url ?? '');
  // As bytes: whatever it claims to be, it is only saved.
  const url = URL.createObjectURL(new Blob([blob], { type: 'application/octet-stream' }));
  const anchor = h.a({ href: url, download: cleanName(file.name), hidden: true });
  document.body.append(anchor);
  anchor.click();
  anchor.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
