/**
 * Servers of a scenario's own that federate, where one server for all does not do: from the binary that
 * was just built, or HEARTH_BIN.
 */
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { until } from "./common.js";

const ROOT = new URL("../../../", import.meta.url).pathname;
const BINARY = process.env.HEARTH_BIN ?? join(process.env.CARGO_TARGET_DIR ?? join(ROOT, "target"), "debug/hearth");

/** Why there can be none: where only a server that is at hand is tested. */
export const noServers = existsSync(BINARY) ? false : `no server at ${BINARY}`;

/** A server that trusts those with certificates of the same folder. */
class Server {
    static async start(home, certificates) {
        const it = new Server();
        const [clients, servers] = [await freePort(), await freePort()];
        Object.assign(it, { url: `http://127.0.0.1:${clients}`, name: `localhost:${servers}`, config: join(home, "hearth.toml") });
        writeFileSync(it.config, `
server_name = "${it.name}"
listen = ["127.0.0.1:${clients}"]
data_dir = "${home}/data"
registration = "open"
rate_limits = false
[tls]
listen = ["127.0.0.1:${servers}"]
certificate = "${certificates}/localhost.pem"
key = "${certificates}/localhost-key.pem"
[federation]
trust = ["${certificates}/ca.pem"]
allow_private_addresses = true
notaries = []
`);
        await it.up();
        return it;
    }

    async up() {
        this.process = spawn(BINARY, ["serve", "--config", this.config], { stdio: "ignore" });
        await until(`${this.name} answers`, () =>
            fetch(`${this.url}/_matrix/client/versions`).then((answer) => answer.ok, () => false), 30_000);
    }

    /** Ends it at once, as a power cut does. */
    async kill() {
        const gone = new Promise((resolve) => this.process.once("exit", resolve));
        this.process.kill("SIGKILL");
        await gone;
    }
}

/** As many servers as are wanted, and how to be rid of them. */
export async function federate(count) {
    const home = mkdtempSync(join(tmpdir(), "hearth-federation-"));
    execFileSync(BINARY, ["dev-cert", "--dir", join(home, "certificates"), "localhost"]);
    const homes = Array.from({ length: count }, (_, n) => mkdtempSync(join(home, `${n}-`)));
    const servers = await Promise.all(homes.map((own) => Server.start(own, join(home, "certificates"))));
    const end = async () => {
        await Promise.all(servers.map((server) => server.kill()));
        rmSync(home, { recursive: true, force: true });
    };
    return { servers, end };
}

const freePort = () => new Promise((resolve, reject) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
        const { port } = probe.address();
        probe.close(() => resolve(port));
    });
    probe.once("error", reject);
});
