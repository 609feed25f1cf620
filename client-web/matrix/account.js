/**
 * This person's account: password, sessions, deactivation, and what is kept for them at the
 * server. Owns proving by the password who is asking, where the server wants that.
 * spec: client-server-api#account-management, client-server-api#device-management
 */
import { ApiError, at } from './api.js';

/** @typedef {{ id: string, name: string, seen: number, ip: string, current: boolean }} Device */

const PASSWORD = 'm.login.password';
/** What this client keeps for a person: see `settings`. */
export const SETTINGS = 'chat.hearth.settings';

export class Account {
  /** @param {{ api: import('./api.js').Api, store: import('./store.js').Store, session: import('./session.js').Session }} parts */
  constructor({ api, store, session }) {
    this.api = api;
    this.store = store;
    this.session = session;
    /** @type {Promise<unknown>} */
    this.saving = Promise.resolve();
  }

  /** @returns {Promise<Device[]>} this one first, then by when they were last seen */
  async devices() {
    const { devices } = await this.api.get(at`/devices`);
    /** @type {Device[]} */
    const all = devices.map((/** @type {any} */ one) => ({ id: one.device_id, name: one.display_name ?? '', seen: one.last_seen_ts ?? 0, ip: one.last_seen_ip ?? '', current: one.device_id === this.session.deviceId }));
    return all.sort((a, b) => Number(b.current) - Number(a.current) || b.seen - a.seen);
  }

  /** @param {string} id @param {string} name */
  rename(id, name) {
    return this.api.put(at`/devices/${id}`, { display_name: name });
  }

  /** Signs other sessions out. @param {string[]} ids @param {string} password */
  signOut(ids, password) {
    return this.#proven(password, (auth) => this.api.post(at`/delete_devices`, { devices: ids, ...auth }));
  }

  /** @param {{ now: string, next: string, others: boolean }} how `others`: also sign all other sessions out */
  changePassword({ now, next, others }) {
    return this.#proven(now, (auth) => this.api.post(at`/account/password`, { new_password: next, logout_devices: others, ...auth }));
  }

  /** Ends the account for good. @param {string} password @param {boolean} erase also hide what was written, from who comes later */
  deactivate(password, erase) {
    return this.#proven(password, (auth) => this.api.post(at`/account/deactivate`, { erase, ...auth }));
  }

  /** What this client keeps for this person at the server. @returns {Record<string, any>} */
  settings() {
    return this.store.accountData(SETTINGS) ?? {};
  }

  /** Changes some of it; it shows at once. @param {Record<string, any>} changes */
  saveSettings(changes) {
    return this.saveData(SETTINGS, { ...this.settings(), ...changes });
  }

  /** @param {string} type @param {object} content */
  saveData(type, content) {
    this.store.expectAccountData(type, content);
    return this.#save(at`/user/${this.session.userId}/account_data/${type}`, content, () => this.store.giveUpAccountData(type, content));
  }

  /** @param {import('./room.js').Room} room @param {string} type @param {object} content */
  saveRoomData(room, type, content) {
    room.expectAccountData(type, content);
    return this.#save(at`/user/${this.session.userId}/rooms/${room.id}/account_data/${type}`, content, () => room.data.giveUp(type, content));
  }

  /** One after the other: the last word must be the last to arrive. @param {string} path @param {object} content @param {() => void} failed */
  #save(path, content, failed) {
    const turn = this.saving.catch(() => {}).then(() => this.api.put(path, content));
    turn.catch(failed);
    this.saving = turn;
    return turn;
  }

  /**
   * Asks once, and with the password if the server wants to know who is asking.
   * spec: client-server-api#user-interactive-authentication-api
   * @template T
   * @param {string} password
   * @param {(auth: object) => Promise<T>} ask
   */
  async #proven(password, ask) {
    try {
      return await ask({});
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 401 || !error.body.flows) throw error;
      const possible = error.body.flows.some((/** @type {any} */ { stages }) => stages?.length === 1 && stages[0] === PASSWORD);
      if (!possible) throw new ApiError(401, { errcode: 'HEARTH_UNSUPPORTED_FLOW' });
      return ask({ auth: { type: PASSWORD, identifier: { type: 'm.id.user', user: this.session.userId }, password, session: error.body.session } });
    }
  }
}
