/**
 * A server of a test's own, to be stopped and started again.
 *
 * HEARTH_BIN  the server's binary, if it isn't the one that was just built
 */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request as ask } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { takeFirst, until } from './support.js';

const ROOT = new URL('../../', import.meta.url).pathname;
const BINARY = process.env.HEARTH_BIN ?? join(process.env.CARGO_TARGET_DIR ?? join(ROOT, 'target'), 'debug/hearth');

/** Why there can be none: where only another server is at hand. */
export const noServer = existsSync(BINARY) ? false : `no server at ${BINARY}`;

export class Server {
  /**
   * @param {string} [more] lines of its configuration
   * @param {{ embedded?: boolean, isNew?: boolean, certificates?: string, gated?: boolean, presence?: boolean }} [how] `embedded`: the client as it is in the
   *   binary, not as it is in the folder; `isNew`: nobody has an account yet; `certificates`: a folder of them, with
   *   which it federates with other such servers; `gated`: they reach it through a gate that the test can
   *   shut; `presence`: whether it tells them who is there
   */
  static async start(more = '', { embedded = false, isNew = false, certificates, gated = false, presence = true } = {}) {
    const it = new Server();
    it.home = mkdtempSync(join(tmpdir(), 'hearth-browser-'));
    it.port = await freePort();
    it.url = `http://127.0.0.1:${it.port}`;
    const tls = certificates && (await freePort());
    it.name = tls ? `localhost:${tls}` : 'localhost';
    const own = ['[tls]', `listen = ["127.0.0.1:${tls}"]`, `certificate = "${certificates}/localhost.pem"`, `key = "${certificates}/localhost-key.pem"`];
    const federation = tls ? [...(gated ? [] : own), '[federation]', `trust = ["${certificates}/ca.pem"]`, 'allow_private_addresses = true', 'notaries = []', `presence = ${presence}`] : [];
    const lines = [`server_name = "${it.name}"`, `listen = ["127.0.0.1:${it.port}"]`, `data_dir = "${it.home}/data"`, 'registration = "open"', 'rate_limits = false', embedded ? '' : `web_root = "${ROOT}client-web"`, more, ...federation];
    writeFileSync(`${it.home}/hearth.toml`, lines.join('\n'));
    if (gated) it.#gate(Number(tls), /** @type {string} */ (certificates));
    await it.up();
    if (!isNew) await takeFirst(it.url);
    return it;
  }

  /** Which of the others' requests wait until `open` is called. @type {RegExp | undefined} */
  shut = undefined;
  /** @type {Array<() => void>} */
  #waiting = [];

  open() {
    this.shut = undefined;
    for (const pass of this.#waiting.splice(0)) pass();
  }

  /** @param {number} port @param {string} certificates */
  #gate(port, certificates) {
    const keys = { cert: readFileSync(`${certificates}/localhost.pem`), key: readFileSync(`${certificates}/localhost-key.pem`) };
    this.gate = createTlsServer(keys, (request, answer) => {
      const pass = () => {
        const { method, url: path, headers } = request;
        const on = ask({ host: '127.0.0.1', port: this.port, method, path, headers }, (told) => told.pipe(answer.writeHead(told.statusCode ?? 502, told.headers)));
        request.pipe(on.on('error', () => answer.destroy()));
      };
      if (this.shut?.test(request.url ?? '')) this.#waiting.push(pass);
      else pass();
    }).listen(port, '127.0.0.1');
  }

  async up() {
    this.process = spawn(BINARY, ['serve', '--config', `${this.home}/hearth.toml`], { stdio: 'ignore' });
    await until(() => fetch(`${this.url}/_matrix/client/versions`).then((answer) => answer.ok, () => false), 'the server’s answer', 30);
  }

  async down() {
    const gone = new Promise((resolve) => this.process.once('exit', resolve));
    this.process.kill('SIGTERM');
    await gone;
  }

  async end() {
    this.gate?.close();
    this.gate?.closeAllConnections();
    if (this.process.exitCode === null) await this.down();
    rmSync(this.home, { recursive: true, force: true });
  }
}

/** Servers that trust each other, and know nothing of each other yet. @param {number} count @param {{ gated?: boolean, presence?: boolean, isNew?: boolean }} [how] */
export async function federate(count, how = {}) {
  const certificates = mkdtempSync(join(tmpdir(), 'hearth-certificates-'));
  execFileSync(BINARY, ['dev-cert', '--dir', certificates, 'localhost']);
  const servers = await Promise.all(Array.from({ length: count }, () => Server.start('', { certificates, ...how })));
  return { servers, end: async () => (await Promise.all(servers.map((one) => one.end())), rmSync(certificates, { recursive: true, force: true })) };
}

/** @returns {Promise<number>} */
function freePort() {
  return new Promise((resolve, reject) => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const { port } = /** @type {import('node:net').AddressInfo} */ (probe.address());
      probe.close(() => resolve(port));
    });
    probe.once('error', reject);
  });
}
