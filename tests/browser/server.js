/**
 * A server of a test's own, to be stopped and started again.
 *
 * HEARTH_BIN  the server's binary, if it isn't the one that was just built
 */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
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
   * @param {{ embedded?: boolean, isNew?: boolean, certificates?: string }} [how] `embedded`: the client as it is in the
   *   binary, not as it is in the folder; `isNew`: nobody has an account yet; `certificates`: a folder of them, with
   *   which it federates with other such servers
   */
  static async start(more = '', { embedded = false, isNew = false, certificates } = {}) {
    const it = new Server();
    it.home = mkdtempSync(join(tmpdir(), 'hearth-browser-'));
    it.port = await freePort();
    it.url = `http://127.0.0.1:${it.port}`;
    const tls = certificates && (await freePort());
    it.name = tls ? `localhost:${tls}` : 'localhost';
    const federation = tls ? ['[tls]', `listen = ["127.0.0.1:${tls}"]`, `certificate = "${certificates}/localhost.pem"`, `key = "${certificates}/localhost-key.pem"`, '[federation]', `trust = ["${certificates}/ca.pem"]`, 'allow_private_addresses = true', 'notaries = []', 'presence = true'] : [];
    const lines = [`server_name = "${it.name}"`, `listen = ["127.0.0.1:${it.port}"]`, `data_dir = "${it.home}/data"`, 'registration = "open"', 'rate_limits = false', embedded ? '' : `web_root = "${ROOT}client-web"`, more, ...federation];
    writeFileSync(`${it.home}/hearth.toml`, lines.join('\n'));
    await it.up();
    if (!isNew) await takeFirst(it.url);
    return it;
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
    if (this.process.exitCode === null) await this.down();
    rmSync(this.home, { recursive: true, force: true });
  }
}

/** Servers that trust each other, and know nothing of each other yet. @param {number} count */
export async function federate(count) {
  const certificates = mkdtempSync(join(tmpdir(), 'hearth-certificates-'));
  execFileSync(BINARY, ['dev-cert', '--dir', certificates, 'localhost']);
  const servers = await Promise.all(Array.from({ length: count }, () => Server.start('', { certificates })));
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
