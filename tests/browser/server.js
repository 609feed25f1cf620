/**
 * A server of a test's own, to be stopped and started again.
 *
 * HEARTH_BIN  the server's binary, if it isn't the one that was just built
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from './support.js';

const ROOT = new URL('../../', import.meta.url).pathname;
const BINARY = process.env.HEARTH_BIN ?? join(process.env.CARGO_TARGET_DIR ?? join(ROOT, 'target'), 'debug/hearth');

/** Why there can be none: where only another server is at hand. */
export const noServer = existsSync(BINARY) ? false : `no server at ${BINARY}`;

export class Server {
  /**
   * @param {string} [more] lines of its configuration
   * @param {{ embedded?: boolean }} [how] `embedded`: the client as it is in the binary, not as it is in the folder
   */
  static async start(more = '', { embedded = false } = {}) {
    const it = new Server();
    it.home = mkdtempSync(join(tmpdir(), 'hearth-browser-'));
    it.port = await freePort();
    it.url = `http://127.0.0.1:${it.port}`;
    const lines = ['server_name = "localhost"', `listen = ["127.0.0.1:${it.port}"]`, `data_dir = "${it.home}/data"`, 'registration = "open"', 'rate_limits = false', embedded ? '' : `web_root = "${ROOT}client-web"`, more];
    writeFileSync(`${it.home}/hearth.toml`, lines.join('\n'));
    await it.up();
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
