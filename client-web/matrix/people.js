/**
 * People: this person's own profile and presence, finding others, and wanting to hear
 * nothing of some. Owns what is asked about people; what is known of them stands in the store.
 * spec: client-server-api#profiles, client-server-api#presence, client-server-api#ignoring-users
 */
import { signal } from '../kit/signal.js';
import { ApiError, at } from './api.js';
import { isObject } from './events.js';
import { localpart } from './ids.js';

/** @typedef {{ id: string, name: string, avatar?: string, missing?: boolean }} Profile `missing`: their server knows nobody of that name */
/** @typedef {'online' | 'unavailable' | 'offline'} State */

const IGNORED = 'm.ignored_user_list';
const FOUND = 20;
/** After this long, what is known of somebody is asked for anew when it is next shown. */
const FRESH = 5 * 60_000;
/** Profiles remembered at once. */
const MOST = 500;

/** @param {string} id @param {any} answer @returns {Profile} */
function profile(id, answer) {
  const { displayname, display_name: found = displayname, avatar_url: avatar } = answer ?? {};
  const name = typeof found === 'string' ? found.trim().slice(0, 120) : '';
  return { id, name: name || localpart(id), ...(typeof avatar === 'string' && { avatar }) };
}

export class People {
  /** @type {Map<string, import('../kit/signal.js').Signal<Profile>>} */
  #known = new Map();
  /** When each was last asked for. @type {Map<string, number>} */
  #asked = new Map();

  /** @param {{ api: import('./api.js').Api, sync: import('./sync.js').Sync, store: import('./store.js').Store, account: import('./account.js').Account, me: string }} parts */
  constructor({ api, sync, store, account, me }) {
    this.api = api;
    this.sync = sync;
    this.store = store;
    this.account = account;
    this.me = me;
  }

  /**
   * Somebody's profile: what is known of it at once, and what the server says when it has answered.
   * @param {string} id
   * @param {Profile} [met] as they are known from a room: then nobody is asked
   */
  profile(id, met) {
    const shown = this.#known.get(id) ?? signal(met ?? profile(id, null));
    if (met) {
      if (shown.peek().name !== met.name || shown.peek().avatar !== met.avatar) shown.value = met;
      this.#asked.set(id, Date.now());
    }
    this.#known.set(id, shown);
    for (const old of this.#known.keys()) {
      if (this.#known.size <= MOST) break;
      this.#known.delete(old);
      this.#asked.delete(old);
    }
    if (Date.now() - (this.#asked.get(id) ?? 0) > FRESH) {
      this.look(id).catch((error) => {
        // By the status: servers differ in the code that they give with it.
        if (error instanceof ApiError && error.status === 404 && error.code !== 'M_UNRECOGNIZED') shown.value = { ...shown.peek(), missing: true };
      });
    }
    return shown;
  }

  /** Asks anew. @param {string} id @returns {Promise<Profile>} rejects if there is nobody of that name */
  async look(id) {
    this.#asked.set(id, Date.now());
    const found = profile(id, await this.api.get(at`/profile/${id}`, { timeout: 60_000 }));
    const known = this.#known.get(id);
    if (known) known.value = found;
    else this.#known.set(id, signal(found));
    return found;
  }

  /** @param {'displayname' | 'avatar_url'} field @param {string} value */
  async setProfile(field, value) {
    await this.api.put(at`/profile/${this.me}/${field}`, { [field]: value });
    await this.look(this.me);
  }

  /** People by name or address, as far as this server knows them. @param {string} text @returns {Promise<Profile[]>} */
  async search(text) {
    try {
      const { results } = await this.api.post(at`/user_directory/search`, { search_term: text, limit: FOUND });
      return (results ?? []).filter((/** @type {any} */ one) => typeof one?.user_id === 'string').map((/** @type {any} */ one) => profile(one.user_id, one));
    } catch (error) {
      // A server without a directory of people still knows those of our rooms.
      if (error instanceof ApiError && error.code === 'M_UNRECOGNIZED') return [];
      throw error;
    }
  }

  /** How this person wants to be seen. @returns {{ state: State, status: string }} */
  shown() {
    const { presence, status } = this.account.settings();
    return { state: presence === 'unavailable' || presence === 'offline' ? presence : 'online', status: typeof status === 'string' ? status : '' };
  }

  /** @param {{ state?: State, status?: string }} changes */
  async show(changes) {
    const { state, status } = { ...this.shown(), ...changes };
    this.present(state, status);
    await Promise.all([this.account.saveSettings({ presence: state, status }), this.announce()]);
  }

  /** How this person is to be seen at each further sync. @param {State} state @param {string} status */
  present(state, status) {
    this.sync.present(state, status);
  }

  /** Says so now. */
  async announce() {
    const body = { presence: this.sync.presence, status_msg: this.sync.statusMessage };
    await (this.sync.request('presence', body) ?? this.api.put(at`/presence/${this.me}/status`, body, { waits: 1 }));
  }

  /** Hears nothing of somebody any more, or again. @param {string} id @param {boolean} blocked */
  block(id, blocked) {
    const now = this.store.accountData(IGNORED);
    const { [id]: _, ...others } = isObject(now?.ignored_users) ? now.ignored_users : {};
    return this.account.saveData(IGNORED, { ...now, ignored_users: { ...others, ...(blocked && { [id]: {} }) } });
  }
}
