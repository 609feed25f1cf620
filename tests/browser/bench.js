/**
 * How quick the web client is, in Chromium, as a table: `npm run bench`. The first lines are
 * measured against a server of its own, which serves the client from its binary; the rest
 * against a stand-in, so that they tell of the client alone. Goals stand beside the figures;
 * with `--check`, one that is missed fails; with `--folder`, the client is the one in the folder
 * (but uncompressed). Names of parts, such as `longRoom`, measure these alone.
 */
import { readdirSync } from 'node:fs';
import { get } from 'node:http';
import { performance } from 'node:perf_hooks';
import { Server } from './server.js';
import { StandIn, message } from './standin.js';
import { Person, launch, until } from './support.js';

const LONG_ROOM = 20_000;
const MANY_ROOMS = 2000;
const HOUR = 36_000;
const rows = [];
const browser = await launch();
const server = await Server.start('', { embedded: !process.argv.includes('--folder') });
const median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];
const share = (list, part) => list.toSorted((a, b) => a - b)[Math.min(list.length - 1, Math.floor(list.length * part))];

/** @param {string} what @param {number} value @param {string} unit @param {number} [goal] at most */
function tell(what, value, unit, goal) {
  rows.push({ what, value, unit, goal });
  const shown = value >= 100 ? Math.round(value) : Math.round(value * 10) / 10;
  console.log(`| ${what} | ${shown.toLocaleString('en')} ${unit} | ${goal === undefined ? '' : `${value <= goal ? '' : '**missed:** '}< ${goal} ${unit}`} |`);
}
console.log('| | measured | goal |\n|---|---|---|');

const paint = (page) => page.evaluate(() => new Promise((resolve) => new PerformanceObserver((list) => resolve(list.getEntries()[0].startTime)).observe({ type: 'paint', buffered: true })));

/** Bytes over the wire until nothing more comes. */
async function counting(page) {
  const chrome = await page.context().newCDPSession(page);
  await chrome.send('Network.enable');
  const count = { bodies: 0, all: 0, files: 0 };
  chrome.on('Network.dataReceived', ({ encodedDataLength }) => (count.bodies += encodedDataLength));
  chrome.on('Network.loadingFinished', ({ encodedDataLength }) => {
    count.all += encodedDataLength;
    count.files++;
  });
  return count;
}

async function firstPaint() {
  const times = [];
  let count;
  for (let n = 0; n < 5; n++) {
    const person = await Person.at(browser, 'visitor', { server: server.url });
    count = await counting(person.page);
    await person.open();
    times.push(await paint(person.page));
    await person.page.getByRole('button', { name: 'Sign in' }).waitFor();
    await person.page.waitForLoadState('networkidle');
    await person.context.close();
  }
  tell('sign-in page: first contentful paint, nothing cached', median(times), 'ms');
  tell('all that comes before one can sign in and chat, compressed', count.bodies / 1000, 'KB');
  tell(`the same, with the headers of its ${count.files} answers`, count.all / 1000, 'KB', 150);
}

/** Everything there is, in one language, asked for as a browser would: with the answers' headers. */
async function whole() {
  const folder = new URL('../../client-web/', import.meta.url).pathname;
  const [base] = /"(\/@[^/]+\/)main\.js"/.exec(await (await fetch(server.url)).text())?.slice(1) ?? [];
  const count = { bodies: 0, all: 0, files: 0 };
  const names = readdirSync(folder, { recursive: true }).map(String).filter((name) => /\.(js|css|svg|html)$/.test(name) && !/(^|\/)ko/.test(name));
  for (const name of names) {
    await new Promise((resolve, reject) => {
      const asked = get(`${server.url}${base}${name}`, { headers: { 'Accept-Encoding': 'br' } }, (answer) => {
        const head = answer.rawHeaders.reduce((sum, one) => sum + one.length + 2, 'HTTP/1.1 200 OK\r\n\r\n'.length);
        answer.on('data', (data) => (count.bodies += data.length));
        answer.on('end', () => {
          count.all += head;
          count.files++;
          resolve(undefined);
        });
      });
      asked.on('error', reject);
    });
  }
  tell(`the whole client, ${count.files} files, compressed`, count.bodies / 1000, 'KB', 150);
  tell('the same, with the headers of the answers', (count.bodies + count.all) / 1000, 'KB');
}

async function reload() {
  const person = await Person.at(browser, 'resident', { server: server.url });
  await person.register();
  await person.createRoom('Home');
  for (let n = 0; n < 30; n++) await person.say(`Line ${n}.`);
  await person.sees('Line 29.');
  await until(async () => (await person.page.locator('.message.sending').count()) === 0, 'sent');
  const [paints, talks] = [[], []];
  for (let n = 0; n < 5; n++) {
    await person.page.reload();
    await person.sees('Line 29.');
    talks.push(await person.page.evaluate(() => performance.now()));
    paints.push(await paint(person.page));
  }
  tell('signed-in reload: first contentful paint', median(paints), 'ms');
  tell('signed-in reload: the conversation is there', median(talks), 'ms');
  await arrival(person);
  await person.context.close();
}

/** From a message's arrival on the socket to the frame that shows it. */
async function arrival(person) {
  const other = await Person.at(browser, 'watcher', { server: server.url });
  await other.register();
  await other.context.addInitScript(() => {
    const Socket = globalThis.WebSocket;
    globalThis.WebSocket = class extends Socket {
      set onmessage(listener) {
        super.onmessage = (event) => {
          const found = /arrives-(\d+)/.exec(event.data);
          if (found && !globalThis.times[found[1]]) {
            const start = performance.now();
            const look = () => {
              if (!document.querySelector('main')?.textContent.includes(found[0])) return requestAnimationFrame(look);
              // The frame after the one in which it stands in the document has painted it.
              requestAnimationFrame(() => (globalThis.times[found[1]] = performance.now() - start));
            };
            requestAnimationFrame(look);
          }
          listener(event);
        };
      }
    };
    globalThis.times = {};
  });
  const room = person.roomId();
  const { userId } = await other.session();
  await person.call('POST', `/rooms/${encodeURIComponent(room)}/invite`, { user_id: userId });
  await other.call('POST', `/join/${encodeURIComponent(room)}`, {});
  await other.open(`#/room/${room}`);
  await other.page.reload();
  await other.box.waitFor();
  await until(async () => (await other.page.locator('.status .offline').count()) === 0, 'a connection');
  for (let n = 0; n < 40; n++) {
    await person.say(`arrives-${n}`);
    await until(() => other.page.evaluate((at) => globalThis.times[at], n), `message ${n}`);
  }
  const times = Object.values(await other.page.evaluate(() => globalThis.times));
  tell('a message: from the socket to its paint, median', median(times), 'ms');
  tell('a message: from the socket to its paint, 95 of 100', share(times, 0.95), 'ms');
  await other.context.close();
}

/** Somebody at the client, with the stand-in behind it. */
async function visitor(standIn, place = '') {
  const person = await Person.at(browser, 'bench', { server: server.url });
  await person.context.addInitScript((session) => localStorage.setItem('hearth.session', JSON.stringify(session)), standIn.session());
  await person.open(place);
  return person;
}

/**
 * What the page's own thread worked at a stretch, in its processor time: on a machine that does
 * other things too, the clock would tell of those. But no longer than by the clock: a thread's
 * time comes in parcels here and there, and then a stretch of 5 ms is said to have taken 15 of it.
 */
async function working(page, during) {
  const chrome = await browser.newBrowserCDPSession();
  const events = [];
  chrome.on('Tracing.dataCollected', ({ value }) => events.push(...value));
  await chrome.send('Tracing.start', { traceConfig: { recordMode: 'recordAsMuchAsPossible', includedCategories: ['toplevel', 'blink.user_timing'] } });
  await page.evaluate(() => performance.mark('bench-page'));
  await during();
  const done = new Promise((resolve) => chrome.once('Tracing.tracingComplete', resolve));
  await chrome.send('Tracing.end');
  await done;
  await chrome.detach();
  const { pid, tid } = events.find(({ name }) => name === 'bench-page') ?? {};
  return events.filter((one) => one.pid === pid && one.tid === tid && one.ph === 'X' && /RunTask/.test(one.name) && one.tdur).map(({ tdur, dur }) => Math.min(tdur, dur) / 1000);
}

async function longRoom() {
  const standIn = await StandIn.start();
  standIn.say({ '!long': standIn.room('!long', 'Long', LONG_ROOM) });
  const { page, log, context } = await visitor(standIn, '#/room/!long');
  await log.getByText(`${LONG_ROOM - 1}:`).waitFor();
  await page.evaluate(() => {
    globalThis.frames = [];
    globalThis.most = 0;
    let last = performance.now();
    requestAnimationFrame(function next(now) {
      globalThis.frames.push(now - last);
      last = now;
      requestAnimationFrame(next);
    });
    setInterval(() => (globalThis.most = Math.max(globalThis.most, document.querySelectorAll('main [role=log] li.message').length)), 250);
  });
  await log.hover();
  const start = performance.now();
  const scroll = () =>
    until(
      async () => {
        for (let n = 0; n < 12; n++) await page.mouse.wheel(0, -2500);
        return (await log.getByText('This is where Long begins').count()) > 0;
      },
      'the room’s start',
      600,
    );
  const work = await working(page, scroll);
  const { frames, most } = await page.evaluate(() => ({ frames: globalThis.frames, most: globalThis.most }));
  tell(`scrolling back over ${LONG_ROOM.toLocaleString('en')} messages: longest work of the page for a frame`, Math.max(0, ...work), 'ms', 50);
  tell('the same: 999 of 1,000 are below', share(work.filter((one) => one > 0.5), 0.999), 'ms', 50);
  tell('the same: frames that came later than 50 ms after the last, of 1,000', (frames.filter((one) => one > 50).length / frames.length) * 1000, '');
  tell('the same: messages in the document at most', most, '', 200);
  tell('the same: from the last to the first message', (performance.now() - start) / 1000, 's');
  await context.close();
  standIn.end();
}

async function manyRooms() {
  const standIn = await StandIn.start();
  const rooms = {};
  for (let n = 0; n < MANY_ROOMS; n++) rooms[`!r${n}`] = standIn.room(`!r${n}`, `${['Garden', 'Kitchen', 'Choir', 'Workshop'][n % 4]} ${n}`, 1);
  standIn.say(rooms);
  const { page, context } = await visitor(standIn);
  await page.getByRole('link', { name: /Workshop/ }).first().waitFor();
  await page.getByRole('searchbox', { name: 'Find a room' }).focus();
  await page.evaluate(() => {
    globalThis.keys = [];
    addEventListener(
      'input',
      () => {
        const start = performance.now();
        // After the effects, with style and layout, but without waiting for the next frame.
        const { port1, port2 } = new MessageChannel();
        port1.onmessage = () => {
          document.body.offsetHeight;
          globalThis.keys.push(performance.now() - start);
        };
        port2.postMessage(0);
      },
      true,
    );
  });
  const type = async () => {
    for (const text of ['kitchen 17', 'zzz', 'g', 'workshop']) {
      await page.keyboard.press('Control+a');
      await page.keyboard.type(text, { delay: 60 });
    }
  };
  const work = await working(page, type);
  const keys = await page.evaluate(() => globalThis.keys);
  tell(`a key in the filter of ${MANY_ROOMS.toLocaleString('en')} rooms, median`, median(keys), 'ms', 16);
  tell('the same: longest work of the page for a key', Math.max(0, ...work), 'ms', 16);
  await context.close();
  standIn.end();
}

async function hour() {
  const standIn = await StandIn.start();
  standIn.say({ '!open': standIn.room('!open', 'Open', 20), '!away': standIn.room('!away', 'Away', 20) });
  const { page, context, log } = await visitor(standIn, '#/room/!open');
  await log.getByText('19:').first().waitFor();
  const chrome = await context.newCDPSession(page);
  const heap = async () => {
    await chrome.send('HeapProfiler.collectGarbage');
    return (await chrome.send('Runtime.getHeapUsage')).usedSize / 1e6;
  };
  tell('memory of the page, just opened', await heap(), 'MB');
  let at = 20;
  const some = (room) => ({ timeline: { events: Array.from({ length: 10 }, (_, n) => ({ ...message(room, at + n), origin_server_ts: Date.now() })), prev_batch: String(at), limited: false } });
  const until = async (end) => {
    for (; at < end; at += 10) await standIn.say({ '!open': some('!open'), '!away': some('!away') });
  };
  await until(HOUR / 4);
  const quarter = await heap();
  await until(HOUR);
  tell('the same, after a quarter of an hour of 10 messages/s in each of two rooms', quarter, 'MB');
  tell('the same, after an hour', await heap(), 'MB', Math.ceil(quarter * 1.25));
  await context.close();
  standIn.end();
}

const only = process.argv.slice(2).filter((one) => !one.startsWith('--'));
for (const part of [firstPaint, whole, reload, longRoom, manyRooms, hour]) if (!only.length || only.includes(part.name)) await part();
await browser.close();
await server.end();
const missed = rows.filter(({ value, goal }) => goal !== undefined && value > goal);
if (process.argv.includes('--check') && missed.length) process.exitCode = 1;
