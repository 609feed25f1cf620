/**
 * A browser, people in it, and what they do, in the words of the tests.
 * Owns the browser's start and end and the watch for console errors; knows the page only by
 * what a person or a screen reader finds in it.
 *
 * HEARTH_URL  the server's base address, which also serves the client
 * CLIENT_URL  another place to take the client from, while working on it
 * CHROMIUM    the browser's path, if it isn't /usr/bin/chromium
 */
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { chromium } from 'playwright-core';

export const SERVER = (process.env.HEARTH_URL ?? '').replace(/\/+$/, '');
export const CLIENT = (process.env.CLIENT_URL ?? SERVER).replace(/\/+$/, '');
export const PASSWORD = 'a few words make a good one';
const SHOTS = new URL('./screenshots/', import.meta.url).pathname;
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const RUN = Date.now().toString(36);
let count = 0;

export async function startBrowser() {
  assert.ok(SERVER, 'HEARTH_URL says where the server is');
  mkdirSync(SHOTS, { recursive: true });
  await takeFirst(SERVER);
  return launch();
}

/** The browser alone, for those who bring a server of their own. */
export function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args: FLAGS });
}

/** The first account of a server is its administrator's: it is taken, so that the people of the tests are like others. */
export async function takeFirst(server) {
  const account = { username: freshName('operator'), password: PASSWORD };
  await call('POST', '/register', { ...account, auth: { type: 'm.login.dummy' } }, undefined, server);
}

/** A name that no earlier run has taken. */
export function freshName(base) {
  return `${base}-${RUN}-${++count}`;
}

/** One person at one browser. */
export class Person {
  /** What the console said that it should not have. */
  errors = [];
  /** Set while a test breaks the network on purpose. */
  expectsTrouble = false;

  /** `server` is another one than the tests' own; it serves the client too. */
  static async at(browser, name, { server, ...options } = {}) {
    const person = new Person();
    person.server = server ?? SERVER;
    person.client = server ?? CLIENT;
    person.name = name;
    person.user = freshName(name);
    person.context = await browser.newContext({ viewport: { width: 1280, height: 800 }, locale: 'en-GB', colorScheme: 'light', ...options });
    person.page = await person.context.newPage();
    person.page.setDefaultTimeout(30_000);
    person.watch(person.page);
    return person;
  }

  watch(page) {
    page.on('pageerror', (error) => this.errors.push(error.stack ?? String(error)));
    page.on('console', (message) => {
      if (message.type() !== 'error' && message.type() !== 'warning') return;
      // The browser reports every 401 and 404 as an error, also where the protocol means it so.
      const isStatus = message.text().startsWith('Failed to load resource: the server responded with a status of 4');
      if (!isStatus && !this.expectsTrouble) this.errors.push(message.text());
    });
  }

  async open(place = '') {
    await this.page.goto(`${this.client}/${place}`);
  }

  async useServer() {
    if (this.server === this.client) return;
    const server = this.page.getByLabel('Server address');
    if (!(await server.isVisible())) await this.page.getByText('Another server').click();
    await server.fill(this.server);
    await server.blur();
  }

  async register() {
    await this.open();
    await this.useServer();
    await this.page.getByRole('tab', { name: 'Create account' }).click();
    await this.page.getByLabel('Name').fill(this.user);
    await this.page.getByLabel('Password').fill(PASSWORD);
    await this.page.getByRole('button', { name: 'Create account' }).click();
    await this.page.getByRole('navigation', { name: 'Rooms' }).waitFor();
  }

  async signIn() {
    await this.useServer();
    await this.page.getByLabel('Name').fill(this.user);
    await this.page.getByLabel('Password').fill(PASSWORD);
    await this.page.getByRole('button', { name: 'Sign in' }).click();
    await this.page.locator('.app').waitFor();
  }

  async session() {
    return JSON.parse(await this.page.evaluate(() => localStorage.getItem('hearth.session')));
  }

  /** A request as this person, past the client. */
  async call(method, path, body) {
    const { token } = await this.session();
    return call(method, path, body, token, this.server);
  }

  /** Waits until the server too knows that nothing is unread in a room: the page counts so as soon as it is looked at. */
  async hasRead(room) {
    const filter = encodeURIComponent(JSON.stringify({ room: { rooms: [room], timeline: { limit: 1 } } }));
    const isRead = async () => {
      const { rooms } = await this.call('GET', `/sync?set_presence=offline&filter=${filter}`);
      return rooms.join[room].unread_notifications.notification_count === 0;
    };
    await until(isRead, 'read, as the server has it');
  }

  /** Opens the menu for new rooms, if there are rooms already. */
  async newRoom(item) {
    await this.page.getByRole('button', { name: 'New room' }).click();
    await this.page.getByRole('menuitem', { name: item }).click();
  }

  /** @returns the room's ID */
  async createRoom(name, { topic = '', alias = '' } = {}) {
    await this.newRoom('Create a room');
    const dialog = this.page.getByRole('dialog');
    await dialog.getByLabel('Name').fill(name);
    if (topic) await dialog.getByLabel('Topic').fill(topic);
    if (alias) {
      await dialog.getByLabel('Everybody').check();
      await dialog.getByLabel('Address').fill(alias);
    }
    await dialog.getByRole('button', { name: 'Create room' }).click();
    await this.page.getByRole('heading', { name, level: 1 }).waitFor();
    return this.roomId();
  }

  /** The room on screen. */
  roomId() {
    return decodeURIComponent(new URL(this.page.url()).hash.split('/')[2]);
  }

  /** Chooses from the menu of the room on screen. */
  async menu(item) {
    await this.page.getByRole('main').getByRole('button', { name: 'More' }).first().click();
    await this.page.getByRole('menuitem', { name: item }).click();
  }

  /** Opens the settings at a subject. */
  async settings(subject) {
    await this.page.getByRole('button', { name: 'Your account' }).click();
    await this.page.getByRole('menuitem', { name: 'Settings' }).click();
    await this.page.getByRole('link', { name: subject, exact: true }).click();
  }

  async invite(other) {
    await this.page.getByRole('button', { name: 'Invite somebody' }).click();
    const dialog = this.page.getByRole('dialog');
    await dialog.getByLabel('Name or full address').fill(other.user);
    await dialog.getByRole('button', { name: 'Invite', exact: true }).click();
    await dialog.waitFor({ state: 'detached' });
  }

  /** Joins the room that this person was invited to. */
  async accept(name) {
    await this.roomRow(name).click();
    await this.page.getByRole('button', { name: 'Join' }).click();
    await this.box.waitFor();
  }

  /** Chooses from the menu of the room that is open. */
  async roomMenu(item) {
    await this.page.getByRole('main').locator('.room-head').getByRole('button', { name: 'More' }).click();
    await this.page.getByRole('menuitem', { name: item }).click();
  }

  roomRow(name) {
    return this.page.getByRole('navigation', { name: 'Rooms' }).getByRole('link', { name });
  }

  get box() {
    return this.page.getByRole('main').getByRole('textbox', { name: /^Message to/ });
  }

  async say(text) {
    await this.box.fill(text);
    await this.box.press('Enter');
  }

  get log() {
    return this.page.getByRole('main').getByRole('log');
  }

  message(text) {
    return this.log.getByRole('listitem').filter({ hasText: text });
  }

  /** Does one of the things that can be done with a message, by its bar of buttons or the menu there. */
  async act(row, label) {
    await row.hover();
    const bar = row.getByRole('toolbar');
    await bar.waitFor();
    const button = bar.getByRole('button', { name: label, exact: true });
    if (await button.count()) return button.click();
    await bar.getByRole('button', { name: 'More' }).click();
    await bar.getByRole('menuitem', { name: label, exact: true }).click();
  }

  async sees(text) {
    await this.message(text).first().waitFor();
  }

  async shot(name) {
    // What is moving comes to rest first.
    await this.page.evaluate(() => Promise.all(document.getAnimations().filter((one) => one.effect.getTiming().iterations !== Infinity).map((one) => one.finished.catch(() => {}))));
    await this.page.screenshot({ path: `${SHOTS}${name}.png` });
  }

  noErrors() {
    assert.deepEqual(this.errors, [], `${this.name}'s console is clean`);
  }
}

export async function call(method, path, body, token, server = SERVER) {
  for (;;) {
    const response = await fetch(`${server}/_matrix/client/v3${path}`, {
      method,
      headers: { ...(token && { Authorization: `Bearer ${token}` }), ...(body && { 'Content-Type': 'application/json' }) },
      body: body && JSON.stringify(body),
    });
    const answer = await response.json();
    if (response.status === 429) {
      await new Promise((resolve) => setTimeout(resolve, answer.retry_after_ms ?? 500));
      continue;
    }
    assert.ok(response.ok, `${method} ${path}: ${response.status} ${JSON.stringify(answer)}`);
    return answer;
  }
}

/** A picture with colours, as a PNG. */
export async function picture(person, width, height) {
  const data = await person.page.evaluate(
    async ([w, h]) => {
      const canvas = new OffscreenCanvas(w, h);
      const to = canvas.getContext('2d');
      const sky = to.createLinearGradient(0, 0, w, h);
      ['#f4a259', '#bc4b51', '#5b8e7d'].forEach((colour, at) => sky.addColorStop(at / 2, colour));
      to.fillStyle = sky;
      to.fillRect(0, 0, w, h);
      const bytes = new Uint8Array(await (await canvas.convertToBlob({ type: 'image/png' })).arrayBuffer());
      return btoa(String.fromCharCode(...bytes));
    },
    [width, height],
  );
  return Buffer.from(data, 'base64');
}

let txn = 0;

/** Sends an event past the client. @returns its ID */
export async function send(person, room, content, type = 'm.room.message') {
  const path = `/rooms/${encodeURIComponent(room)}/send/${encodeURIComponent(type)}/${RUN}-${++txn}`;
  return (await person.call('PUT', path, content)).event_id;
}

/** Waits until `check` holds. */
export async function until(check, what, seconds = 30) {
  const end = Date.now() + seconds * 1000;
  let last;
  while (Date.now() < end) {
    last = await check();
    if (last) return last;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail(`${what} did not happen within ${seconds} s`);
}
