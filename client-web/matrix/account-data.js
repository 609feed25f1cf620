/**
 * What somebody keeps at their server, for their account or for one room, by type. Owns that what was chosen
 * here shows at once and stays, though the sync may still tell of an earlier choice: the next one builds on it.
 * spec: client-server-api#client-config
 */

/** Choices of one type that are waited for at most. */
const MOST = 20;

/** @extends {Map<string, any>} */
export class AccountData extends Map {
  /** What was chosen here and no sync has told of, the oldest first. @type {Map<string, string[]>} */
  #own = new Map();

  /** What was chosen here, as it will come by a sync. @param {string} type @param {any} content */
  expect(type, content) {
    const said = JSON.stringify(content);
    if (said !== JSON.stringify(this.get(type))) this.#own.set(type, [...(this.#own.get(type) ?? []), said].slice(-MOST));
    this.set(type, content);
  }

  /** It can't be kept, and so no sync will tell of it. @param {string} type @param {any} content */
  giveUp(type, content) {
    const said = JSON.stringify(content);
    this.#own.set(type, (this.#own.get(type) ?? []).filter((one) => one !== said));
  }

  /** What a sync tells: of this place's own choices only the last counts, of others' each. @param {string} type @param {any} content */
  hear(type, content) {
    const own = this.#own.get(type) ?? [];
    const later = own.slice(own.indexOf(JSON.stringify(content)) + 1);
    if (later.length && later.length < own.length) {
      this.#own.set(type, later);
      return;
    }
    this.#own.delete(type);
    this.set(type, content);
  }
}
