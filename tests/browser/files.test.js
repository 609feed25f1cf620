/**
 * Files, as the sixth point has them: picked, pasted and dropped, several at once,
 * with progress and cancel; pictures with their place kept and a lightbox; films and sounds;
 * downloads under the right name; what can't be opened says so.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { Person, send, startBrowser, until } from './support.js';

let browser, alice, bob, room, png;

before(async () => {
  browser = await startBrowser();
  alice = await Person.at(browser, 'alice');
  bob = await Person.at(browser, 'bob');
  await alice.register();
  await bob.register();
  room = await alice.createRoom('Gallery');
  await alice.invite(bob);
  await bob.accept('Gallery');
  png = Buffer.from(await alice.page.evaluate(drawing, [1600, 900, '#2a6f97']), 'base64');
});
after(() => browser?.close());

/** A picture of one colour with a disc in it. */
async function drawing([width, height, color]) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext('2d');
  context.fillStyle = color;
  context.fillRect(0, 0, width, height);
  context.fillStyle = '#f4e9cd';
  context.beginPath();
  context.arc(width / 2, height / 2, height / 3, 0, 7);
  context.fill();
  const bytes = new Uint8Array(await (await canvas.convertToBlob({ type: 'image/png' })).arrayBuffer());
  return btoa(String.fromCharCode(...bytes));
}

/** A second of sound, as a WAVE file. */
function beep() {
  const rate = 8000;
  const buffer = Buffer.alloc(44 + rate);
  buffer.write('RIFF', 0);
  buffer.writeUInt32LE(36 + rate, 4);
  buffer.write('WAVEfmt ', 8);
  for (const [at, value, size] of [[16, 16, 4], [20, 1, 2], [22, 1, 2], [24, rate, 4], [28, rate, 4], [32, 1, 2], [34, 8, 2]]) buffer.writeUIntLE(value, at, size);
  buffer.write('data', 36);
  buffer.writeUInt32LE(rate, 40);
  for (let at = 0; at < rate; at++) buffer[44 + at] = 128 + Math.round(60 * Math.sin(at / 4));
  return buffer;
}

const picker = (person) => person.page.getByRole('main').locator('input[type=file]');
const tray = (person) => person.page.getByRole('list', { name: 'Files to be sent' });
async function events(type) {
  const { chunk } = await alice.call('GET', `/rooms/${encodeURIComponent(room)}/messages?dir=b&limit=20`);
  return chunk.filter((event) => event.content.msgtype === type);
}

test('a picture is picked, previewed and sent, with its measures and colour', async () => {
  await picker(alice).setInputFiles({ name: 'harbour.png', mimeType: 'image/png', buffer: png });
  await tray(alice).getByText('harbour.png').waitFor();
  await alice.shot('files-tray');
  await alice.say('The harbour at noon');
  await bob.log.getByRole('img', { name: 'harbour.png' }).waitFor();
  await bob.sees('The harbour at noon');
  const [{ content }] = await events('m.image');
  assert.deepEqual([content.filename, content.body, content.info.w, content.info.h, content.info.mimetype], ['harbour.png', 'The harbour at noon', 1600, 900, 'image/png']);
  assert.match(content.info['chat.hearth.color'], /^#[0-9a-f]{6}$/);
  assert.equal(await alice.log.getByRole('img', { name: 'harbour.png' }).count(), 1);
});

test('its place is kept before it comes: nothing moves', async () => {
  await bob.page.route('**/media/**', async (route) => {
    await new Promise((resolve) => setTimeout(resolve, 400));
    await route.continue();
  });
  await bob.page.reload();
  const frame = bob.log.getByRole('button', { name: 'Open harbour.png' });
  await frame.waitFor();
  const before = await frame.boundingBox();
  assert.equal(await frame.locator('img').count(), 0, 'not here yet');
  await frame.locator('img').waitFor();
  assert.deepEqual(await frame.boundingBox(), before);
  assert.ok(Math.abs(before.width / before.height - 16 / 9) < 0.02);
  await bob.page.unroute('**/media/**');
});

test('several files at once, by dropping and by pasting', async () => {
  await alice.page.evaluate(() => {
    const make = () => {
      const transfer = new DataTransfer();
      for (const n of [1, 2]) transfer.items.add(new File([`notes ${n}`], `notes-${n}.txt`, { type: 'text/plain' }));
      return transfer;
    };
    const talk = document.querySelector('.room-talk');
    talk.dispatchEvent(new DragEvent('dragenter', { dataTransfer: make(), bubbles: true, cancelable: true }));
    talk.dispatchEvent(new DragEvent('drop', { dataTransfer: make(), bubbles: true, cancelable: true }));
    const pasted = new DataTransfer();
    pasted.items.add(new File(['pasted'], 'pasted.txt', { type: 'text/plain' }));
    document.querySelector('.composer textarea').dispatchEvent(new ClipboardEvent('paste', { clipboardData: pasted, bubbles: true, cancelable: true }));
  });
  assert.equal(await tray(alice).getByRole('listitem').count(), 3);
  await alice.page.getByRole('button', { name: 'Send' }).click();
  for (const name of ['notes-1.txt', 'notes-2.txt', 'pasted.txt']) await bob.sees(name);
  const order = await bob.log.locator('.attachment-name').allTextContents();
  assert.deepEqual(order.slice(-3), ['notes-1.txt', 'notes-2.txt', 'pasted.txt']);
});

test('progress is shown, and sending can be cancelled', async () => {
  let go;
  const held = new Promise((resolve) => (go = resolve));
  await alice.page.route('**/media/v3/upload*', async (route) => {
    await held;
    await route.continue().catch(() => {});
  });
  await picker(alice).setInputFiles([{ name: 'first.bin', mimeType: '', buffer: Buffer.alloc(300_000) }, { name: 'second.bin', mimeType: '', buffer: Buffer.alloc(300_000) }]);
  await alice.page.getByRole('button', { name: 'Send' }).click();
  await tray(alice).getByRole('progressbar', { name: 'Sending first.bin' }).waitFor();
  await tray(alice).getByRole('button', { name: 'Take away first.bin' }).click();
  go();
  await bob.sees('second.bin');
  await tray(alice).waitFor({ state: 'detached' });
  assert.equal(await bob.message('first.bin').count(), 0);
  await alice.page.unroute('**/media/v3/upload*');
});

test('what the server refuses is told at the file, which can be sent again', async () => {
  await alice.page.route('**/media/v3/upload*', (route) => route.fulfill({ status: 413, contentType: 'application/json', body: '{"errcode":"M_TOO_LARGE","error":"too large"}' }));
  await picker(alice).setInputFiles({ name: 'huge.iso', mimeType: '', buffer: Buffer.alloc(10) });
  await alice.page.getByRole('button', { name: 'Send' }).click();
  await tray(alice).getByText('Too large for this server').waitFor();
  await alice.page.unroute('**/media/v3/upload*');
  await alice.page.getByRole('button', { name: 'Send' }).click();
  await bob.sees('huge.iso');
});

test('a file is downloaded under its right name, as bytes', async () => {
  const wait = bob.page.waitForEvent('download');
  await bob.message('notes-1.txt').getByRole('button', { name: 'Download notes-1.txt' }).click();
  const download = await wait;
  assert.equal(download.suggestedFilename(), 'notes-1.txt');
  assert.equal(readFileSync(await download.path(), 'utf8'), 'notes 1');
});

test('the lightbox: closer, further, the next, and back to where one was', async () => {
  const second = Buffer.from(await alice.page.evaluate(drawing, [900, 900, '#9c6644']), 'base64');
  await picker(alice).setInputFiles({ name: 'square.png', mimeType: 'image/png', buffer: second });
  await alice.page.getByRole('button', { name: 'Send' }).click();
  await bob.log.getByRole('img', { name: 'square.png' }).waitFor();
  await bob.log.getByRole('button', { name: 'Open square.png' }).click();
  const box = bob.page.getByRole('dialog', { name: 'Picture' });
  const image = box.getByRole('img', { name: 'square.png' });
  await image.waitFor();
  await bob.shot('lightbox');
  const width = async (one) => (await one.boundingBox()).width;
  const before = await width(image);
  await bob.page.keyboard.press('+');
  await until(async () => (await width(image)) > before * 1.3, 'closer');
  await bob.page.keyboard.press('0');
  await until(async () => Math.abs((await width(image)) - before) < 2, 'as it was');
  await box.getByRole('button', { name: 'Closer' }).click();
  await until(async () => (await width(image)) > before * 1.3, 'closer');
  await bob.page.keyboard.press('0');
  await bob.page.keyboard.press('ArrowLeft');
  await box.getByRole('img', { name: 'harbour.png' }).waitFor();
  await bob.page.keyboard.press('Escape');
  await box.waitFor({ state: 'detached' });
  assert.equal(await bob.page.evaluate(() => document.activeElement.getAttribute('aria-label')), 'Open square.png', 'focus comes back');
});

test('a sound has a player', async () => {
  await picker(alice).setInputFiles({ name: 'beep.wav', mimeType: 'audio/wav', buffer: beep() });
  await alice.page.getByRole('button', { name: 'Send' }).click();
  await bob.message('beep.wav').getByText('0:01').waitFor();
  await bob.message('beep.wav').getByRole('button', { name: 'Play beep.wav' }).click();
  const player = bob.log.locator('audio');
  await player.waitFor();
  await until(() => player.evaluate((el) => el.currentTime > 0 || el.ended), 'sound');
});

test('a film has its measures, a still and a player', async () => {
  const bytes = await alice.page.evaluate(async () => {
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [320, 180];
    const context = canvas.getContext('2d');
    const recorder = new MediaRecorder(canvas.captureStream(20), { mimeType: 'video/webm' });
    const parts = [];
    recorder.ondataavailable = ({ data }) => parts.push(data);
    recorder.start();
    for (let frame = 0; frame < 12; frame++) {
      context.fillStyle = `hsl(${frame * 20} 60% 50%)`;
      context.fillRect(0, 0, 320, 180);
      await new Promise((resolve) => setTimeout(resolve, 40));
    }
    const stopped = new Promise((resolve) => (recorder.onstop = resolve));
    recorder.stop();
    await stopped;
    return [...new Uint8Array(await new Blob(parts).arrayBuffer())];
  });
  await picker(alice).setInputFiles({ name: 'clip.webm', mimeType: 'video/webm', buffer: Buffer.from(bytes) });
  await alice.page.getByRole('button', { name: 'Send' }).click();
  const play = bob.log.getByRole('button', { name: 'Play clip.webm' });
  await play.locator('img').waitFor();
  const [{ content }] = await events('m.video');
  assert.deepEqual([content.info.w, content.info.h, content.info.thumbnail_url.slice(0, 6)], [320, 180, 'mxc://']);
  await play.click();
  await until(() => bob.log.locator('video').evaluate((el) => el.currentTime > 0), 'moving pictures');
  await bob.shot('files');
});

test('what is encrypted or unknown says so, never as raw data', async () => {
  await send(alice, room, { msgtype: 'm.image', body: 'secret.png', file: { url: 'mxc://localhost/x', key: {}, iv: '', hashes: {}, v: 'v2' } });
  await bob.message('secret.png').getByText('Encrypted; this client can’t open it yet').waitFor();
  await send(alice, room, { some: 'thing', nested: { value: 1 } }, 'm.room.message').catch(() => {});
  await send(alice, room, { msgtype: 'm.image', body: 'gone.png', url: 'mxc://localhost/nothinghere', info: { w: 200, h: 100 } });
  await bob.message('The picture can’t be fetched').waitFor();
  await send(alice, room, { msgtype: 'm.file', body: 'report\u202Efdp.exe', url: 'https://evil.example/x' });
  await bob.message('reportfdp.exe').getByText('This file can’t be fetched').waitFor();
  assert.doesNotMatch(await bob.log.textContent(), /nested|"value"|\{/);
});

test('on a phone a picture fits', async () => {
  await bob.page.setViewportSize({ width: 360, height: 740 });
  await bob.log.getByRole('button', { name: 'Open square.png' }).scrollIntoViewIfNeeded();
  assert.ok(await bob.page.evaluate(() => document.documentElement.scrollWidth <= 360));
  await bob.shot('files-phone');
});

test('no console errors', () => {
  alice.noErrors();
  bob.noErrors();
});
