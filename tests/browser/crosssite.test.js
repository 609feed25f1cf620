/**
 * A page of another site, in the browser of somebody who is signed in here: since nothing
 * authenticates by cookie, whatever it sends is nobody's. See spec/README.md, "Other sites".
 */
import assert from 'node:assert/strict';
import { createServer, request } from 'node:http';
import { after, before, test } from 'node:test';
import { Person, SERVER, startBrowser } from './support.js';

const SOCKET = '/_matrix/client/unstable/chat.hearth.ws/sync';
let browser, alice, page, site, rooms;

before(async () => {
  browser = await startBrowser();
  alice = await Person.at(browser, 'alice');
  await alice.register();
  await alice.createRoom('Mine');
  rooms = await joined();
  site = createServer((_, answer) => answer.setHeader('Content-Type', 'text/html').end('<!doctype html><title>Another site</title>'));
  await new Promise((resolve) => site.listen(0, '127.0.0.1', resolve));
  // The same browser, with whatever it keeps of the server.
  page = await alice.context.newPage();
  await page.goto(`http://127.0.0.1:${site.address().port}/`);
});
after(async () => {
  await browser?.close();
  site?.close();
});

const joined = async () => (await alice.call('GET', '/joined_rooms')).joined_rooms.sort();

test('a form that posts to the server is refused, and changes nothing', async () => {
  for (const [path, type] of [['/createRoom', 'text/plain'], ['/logout', 'application/x-www-form-urlencoded'], ['/account/deactivate', 'text/plain']]) {
    const url = `${SERVER}/_matrix/client/v3${path}`;
    const answer = page.waitForResponse(url);
    await page.evaluate(
      ([action, enctype]) => {
        const form = Object.assign(document.createElement('form'), { method: 'post', action, enctype, target: 'elsewhere' });
        form.append(Object.assign(document.createElement('input'), { name: '{"name":"', value: 'made by another site"}' }));
        document.body.append(Object.assign(document.createElement('iframe'), { name: 'elsewhere' }), form);
        form.submit();
      },
      [url, type],
    );
    assert.ok([401, 403].includes((await answer).status()), `${path}: ${(await answer).status()}`);
  }
  assert.deepEqual(await joined(), rooms);
});

test('a request with whatever the browser would add is nobody’s', async () => {
  const status = await page.evaluate(
    async (base) => (await fetch(`${base}/_matrix/client/v3/createRoom`, { method: 'POST', credentials: 'omit', headers: { 'Content-Type': 'application/json' }, body: '{}' })).status,
    SERVER,
  );
  assert.equal(status, 401);
  assert.deepEqual(await alice.context.cookies(), [], 'the server sets no cookie');
  assert.deepEqual(await joined(), rooms);
});

/** The answer to a handshake. */
function handshake(headers) {
  return new Promise((resolve, reject) => {
    const all = { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==', ...headers };
    const asked = request(`${SERVER}${SOCKET}`, { headers: all });
    asked.on('response', (answer) => resolve(answer.statusCode)).on('error', reject);
    asked.on('upgrade', (answer, socket) => {
      socket.destroy();
      resolve(answer.statusCode);
    });
    asked.end();
  });
}

test('a WebSocket of another site is refused, even with a token', async () => {
  const { token } = await alice.session();
  const protocols = `hearth.sync.v1, hearth.token.${token}`;
  assert.ok([401, 403].includes(await handshake({ Origin: new URL(page.url()).origin })));
  assert.equal(await handshake({ Origin: new URL(page.url()).origin, 'Sec-WebSocket-Protocol': protocols }), 403);
  assert.equal(await handshake({ Origin: SERVER, 'Sec-WebSocket-Protocol': protocols }), 101);
  const opened = await page.evaluate(
    ([url, list]) =>
      new Promise((resolve) => {
        const socket = new WebSocket(url, list);
        socket.onopen = () => resolve(true);
        socket.onerror = () => resolve(false);
      }),
    [SERVER.replace(/^http/, 'ws') + SOCKET, protocols.split(', ')],
  );
  assert.equal(opened, false);
});

test('no other site can frame the client', async () => {
  const answer = await fetch(SERVER);
  assert.match(answer.headers.get('content-security-policy'), /frame-ancestors 'none'/);
  assert.equal(answer.headers.get('set-cookie'), null);
  assert.match(answer.headers.get('referrer-policy') ?? '', /no-referrer|same-origin/);
});
