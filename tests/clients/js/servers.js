/**
 * Servers of a scenario's own that federate, where one server for all does not do: Hearths from the binary that
 * was just built, or HEARTH_BIN, and Synapses where that is installed, in tests/synapse.
 */
import { execFileSync, spawn } from "node:child_process";
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { until } from "./common.js";

const ROOT = new URL("../../../", import.meta.url).pathname;
const BINARY = process.env.HEARTH_BIN ?? join(process.env.CARGO_TARGET_DIR ?? join(ROOT, "target"), "debug/hearth");

/** Why there can be none: where only a server that is at hand is tested. */
export const noServers = existsSync(BINARY) ? false : `no server at ${BINARY}`;

const SYNAPSE = join(ROOT, "tests/synapse");
const PYTHON = process.env.HEARTH_SYNAPSE_PYTHON ?? join(SYNAPSE, ".venv/bin/python");

/** Why there can be no Synapse. */
export const noSynapse = noServers || (existsSync(PYTHON) ? false : `no Synapse at ${PYTHON}`);

/** A server that trusts those with certificates of the same folder. */
class Server {
    static async start(home, certificates) {
        const it = new this();
        const [clients, servers] = [await freePort(), await freePort()];
        Object.assign(it, { url: `http://127.0.0.1:${clients}`, name: `localhost:${servers}` });
        it.command = it.prepare({ home, certificates, clients, servers });
        await it.up();
        return it;
    }

    async up() {
        this.process = spawn(...this.command, { stdio: "ignore" });
        await until(`${this.name} answers`, () =>
            fetch(`${this.url}/_matrix/client/versions`).then((answer) => answer.ok, () => false), 60_000);
    }

    /** Ends it at once, as a power cut does. */
    async kill() {
        const gone = new Promise((resolve) => this.process.once("exit", resolve));
        this.process.kill("SIGKILL");
        await gone;
    }
}

export class Hearth extends Server {
    /** Writes its settings. The program that serves by them, and its arguments. */
    prepare({ home, certificates, clients, servers }) {
        const config = join(home, "hearth.toml");
        writeFileSync(config, `
server_name = "${this.name}"
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
        return [BINARY, ["serve", "--config", config]];
    }
}

export class Synapse extends Server {
    prepare({ home, certificates, clients, servers }) {
        const config = join(home, "homeserver.yaml");
        const own = { NAME: this.name, HOME: home, CERTIFICATES: certificates, SERVERS: servers, CLIENTS: clients };
        const settings = readFileSync(join(SYNAPSE, "homeserver.yaml"), "utf8");
        writeFileSync(config, settings.replace(/@([A-Z]+)@/g, (_, what) => own[what]));
        copyFileSync(join(SYNAPSE, "log.yaml"), join(home, "log.yaml"));
        const serve = ["-m", "synapse.app.homeserver", "-c", config];
        execFileSync(PYTHON, [...serve, "--generate-keys"], { stdio: "ignore" });
        return [PYTHON, serve];
    }
}

/** Servers of the kinds that are wanted, and how to be rid of them. */
export async function federate(...kinds) {
    const home = mkdtempSync(join(tmpdir(), "hearth-federation-"));
    execFileSync(BINARY, ["dev-cert", "--dir", join(home, "certificates"), "localhost"]);
    const servers = await Promise.all(kinds.map((kind, n) =>
        kind.start(mkdtempSync(join(home, `${n}-`)), join(home, "certificates"))));
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
