/**
 * What survives a reload, in IndexedDB: the sync token and all that was known at it.
 * Owns the tables and that one answer is written in one transaction; refuses to know what
 * the records mean. Where the browser gives no database, memory stands in.
 */

/**
 * @typedef {{
 *   meta?: Record<string, any>, rooms?: any[], timelines?: Array<{ id: string, timeline: any }>,
 *   members?: Array<{ room: string, user: string, event: any }>, gone?: string[],
 * }} Changes
 * @typedef {{
 *   load(): Promise<{ meta: Record<string, any>, rooms: any[] }>,
 *   warm(ids: string[]): Promise<Map<string, { timeline: any, members: any[] }>>,
 *   write(changes: Changes): Promise<void>,
 *   destroy(): Promise<void>,
 *   turn: Promise<void>,
 * }} Disk `turn` resolves when it is this page that may write
 */

/** Rows written at a stretch: a frame has room for that. */
const PIECE = 40;
const VERSION = 1;

/** @param {string} userId @returns {Promise<Disk>} */
export async function openDisk(userId) {
  const name = `hearth:${userId}`;
  try {
    const db = await opened(name);
    return onDatabase(db, name, await lead(name));
  } catch {
    return inMemory();
  }
}

/**
 * Two pages of one person must not write by turns: what one knows would be older than the
 * token of the other. The first holds a lock for as long as it lives; the rest wait.
 * @param {string} name
 * @returns {Promise<{ turn: Promise<void>, end: () => void }>} known to be free or not before anything else
 */
async function lead(name) {
  const locks = globalThis.navigator?.locks;
  // Not over plain HTTP; there, as before, each writes.
  if (!locks) return { turn: Promise.resolve(), end() {} };
  let end = () => {};
  const over = new Promise((/** @type {(value?: any) => void} */ resolve) => (end = resolve));
  const turn = new Promise((/** @type {(value?: any) => void} */ resolve) => {
    locks.request(name, () => {
      resolve();
      return over;
    });
  });
  // Whoever is alone has it at once: the first write is not to be missed.
  await Promise.race([turn, locks.query().then(() => locks.query())]);
  return { turn, end };
}

/** @param {string} name @returns {Promise<IDBDatabase>} */
function opened(name) {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(name, VERSION);
    request.onupgradeneeded = () => {
      request.result.createObjectStore('meta');
      request.result.createObjectStore('rooms', { keyPath: 'id' });
      request.result.createObjectStore('timelines', { keyPath: 'id' });
      request.result.createObjectStore('members', { keyPath: ['room', 'user'] });
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error('blocked by another tab'));
  });
}

/** @param {IDBDatabase} db @param {string} name @param {{ turn: Promise<void>, end: () => void }} lead @returns {Disk} */
function onDatabase(db, name, { turn, end }) {
  // Another tab signs out: let it delete the database.
  db.onversionchange = () => db.close();
  return {
    turn,

    async load() {
      const tx = db.transaction(['meta', 'rooms']);
      const [keys, values, rooms] = await Promise.all([
        result(tx.objectStore('meta').getAllKeys()),
        result(tx.objectStore('meta').getAll()),
        result(tx.objectStore('rooms').getAll()),
      ]);
      return { meta: Object.fromEntries(keys.map((key, at) => [key, values[at]])), rooms };
    },

    async warm(ids) {
      const tx = db.transaction(['timelines', 'members']);
      const found = ids.map(async (id) => {
        const [row, members] = await Promise.all([result(tx.objectStore('timelines').get(id)), result(tx.objectStore('members').getAll(ofRoom(id)))]);
        return /** @type {[string, { timeline: any, members: any[] }]} */ ([id, { timeline: row?.timeline, members: members.map(({ event }) => event) }]);
      });
      return new Map(await Promise.all(found));
    },

    async write({ meta = {}, rooms = [], timelines = [], members = [], gone = [] }) {
      const tx = db.transaction(['meta', 'rooms', 'timelines', 'members'], 'readwrite');
      for (const [key, value] of Object.entries(meta)) tx.objectStore('meta').put(value, key);
      for (const id of gone) {
        tx.objectStore('rooms').delete(id);
        tx.objectStore('timelines').delete(id);
        tx.objectStore('members').delete(ofRoom(id));
      }
      const done = new Promise((resolve, reject) => {
        tx.oncomplete = () => resolve(undefined);
        tx.onabort = () => reject(tx.error);
      });
      const putAll = async () => {
        let count = 0;
        for (const [store, rows] of /** @type {Array<[string, any[]]>} */ ([['rooms', rooms], ['timelines', timelines], ['members', members]])) {
          for (const row of rows) {
            const put = tx.objectStore(store).put(row);
            // There may be thousands: the page has its turn in between.
            if (++count % PIECE === 0) await result(put);
          }
        }
      };
      await Promise.all([done, putAll()]);
    },

    destroy() {
      end();
      db.close();
      return new Promise((resolve) => {
        const request = indexedDB.deleteDatabase(name);
        request.onsuccess = request.onerror = request.onblocked = () => resolve();
      });
    },
  };
}

/** @param {string} id */
const ofRoom = (id) => IDBKeyRange.bound([id], [id, []]);

/** @template T @param {IDBRequest<T>} request @returns {Promise<T>} */
function result(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** The same for one page's life. @returns {Disk} */
export function inMemory() {
  /** @type {Record<string, any>} */
  let meta = {};
  const rooms = new Map();
  const timelines = new Map();
  /** @type {Map<string, Map<string, any>>} */
  const members = new Map();
  return {
    turn: Promise.resolve(),
    load: async () => structuredClone({ meta, rooms: [...rooms.values()] }),
    warm: async (ids) => new Map(ids.map((id) => [id, structuredClone({ timeline: timelines.get(id), members: [...(members.get(id)?.values() ?? [])] })])),
    async write(changes) {
      const copy = structuredClone(changes);
      Object.assign(meta, copy.meta);
      for (const room of copy.rooms ?? []) rooms.set(room.id, room);
      for (const { id, timeline } of copy.timelines ?? []) timelines.set(id, timeline);
      for (const { room, user, event } of copy.members ?? []) members.set(room, (members.get(room) ?? new Map()).set(user, event));
      for (const id of copy.gone ?? []) [rooms, timelines, members].forEach((table) => table.delete(id));
    },
    async destroy() {
      meta = {};
      [rooms, timelines, members].forEach((table) => table.clear());
    },
  };
}
