/**
 * What a file is before it is sent: its kind, its measures, the colour to show until it
 * comes, and a still of a film. Owns asking the browser, which may not know the format.
 */

/** A format that the browser can't read must not hold up the sending. */
const PATIENCE = 4000;
const STILL = 640;
/** Pictures are safe to be shown as such; what can hold scripts is a file. */
const PICTURES = /^image\/(png|jpeg|gif|webp|avif|bmp)$/;

/** @typedef {{ msgtype: 'm.image' | 'm.video' | 'm.audio' | 'm.file', info: Record<string, any>, thumbnail?: { blob: Blob, info: Record<string, any> } }} Found */

/** @param {File} file @returns {Promise<Found>} */
export async function inspect(file) {
  const info = { size: file.size, ...(file.type && { mimetype: file.type }) };
  try {
    if (PICTURES.test(file.type)) return { msgtype: 'm.image', info: { ...info, ...(await picture(file)) } };
    if (file.type.startsWith('video/')) return await film(file, info);
    if (file.type.startsWith('audio/')) return { msgtype: 'm.audio', info: { ...info, ...(await sound(file)) } };
  } catch {
    // It goes as it is, without measures.
  }
  return { msgtype: 'm.file', info };
}

/** @param {Blob} file */
async function picture(file) {
  const bitmap = await createImageBitmap(file);
  const { width: w, height: h } = bitmap;
  const color = colorOf(bitmap);
  bitmap.close();
  return { w, h, ...(color && { 'chat.hearth.color': color }) };
}

/** One pixel of all. @param {CanvasImageSource} source */
function colorOf(source) {
  const context = new OffscreenCanvas(1, 1).getContext('2d');
  if (!context) return undefined;
  context.imageSmoothingQuality = 'high';
  context.drawImage(source, 0, 0, 1, 1);
  const [r, g, b] = context.getImageData(0, 0, 1, 1).data;
  return `#${[r, g, b].map((part) => part.toString(16).padStart(2, '0')).join('')}`;
}

/** @param {File} file @param {Record<string, any>} info @returns {Promise<Found>} */
async function film(file, info) {
  const { element, done } = await loaded(document.createElement('video'), file, 'loadeddata');
  try {
    const { videoWidth: w, videoHeight: h } = element;
    const duration = length(element);
    const scale = Math.min(1, STILL / Math.max(w, h));
    const canvas = new OffscreenCanvas(Math.max(1, Math.round(w * scale)), Math.max(1, Math.round(h * scale)));
    canvas.getContext('2d')?.drawImage(element, 0, 0, canvas.width, canvas.height);
    const blob = await canvas.convertToBlob({ type: 'image/jpeg', quality: 0.8 });
    const color = colorOf(canvas);
    return {
      msgtype: 'm.video',
      info: { ...info, w, h, ...duration, ...(color && { 'chat.hearth.color': color }) },
      thumbnail: { blob, info: { w: canvas.width, h: canvas.height, mimetype: blob.type, size: blob.size } },
    };
  } finally {
    done();
  }
}

/** @param {File} file */
async function sound(file) {
  const { element, done } = await loaded(document.createElement('audio'), file, 'loadedmetadata');
  done();
  return length(element);
}

/** @param {HTMLMediaElement} element */
function length({ duration }) {
  return Number.isFinite(duration) ? { duration: Math.round(duration * 1000) } : {};
}

/**
 * @template {HTMLMediaElement} E
 * @param {E} element @param {Blob} file @param {string} event
 * @returns {Promise<{ element: E, done: () => void }>}
 */
function loaded(element, file, event) {
  const url = URL.createObjectURL(file);
  const done = () => URL.revokeObjectURL(url);
  return new Promise((resolve, reject) => {
    const fail = () => {
      done();
      reject(new Error('unreadable'));
    };
    setTimeout(fail, PATIENCE);
    element.addEventListener(event, () => resolve({ element, done }), { once: true });
    element.addEventListener('error', fail, { once: true });
    element.muted = true;
    element.preload = 'auto';
    element.src = url;
  });
}
