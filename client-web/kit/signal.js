/**
 * Reactive values. `const n = signal(0); effect(() => log(n.value)); n.value++` logs twice.
 * Owns who reads what, when readers run again (once per microtask, oldest first) and which
 * scope stops them. Refuses to know the DOM.
 *
 * @template T
 * @typedef {{ value: T, peek(): T, update(change: (value: T) => T | void): void }} Signal
 */

/**
 * Something that reads signals: an effect, or a computed value.
 * @typedef {{ id: number, sources: Set<Set<Reader>>, stale(): void, run?: () => void, stopped?: boolean }} Reader
 */

/** @type {Reader | null} */
let reader = null;
/** What is started inside a scope is stopped with it. @type {Array<() => void> | null} */
let owner = null;
/** @type {Set<Reader> | null} */
let pending = null;
let lastId = 0;

/**
 * @template T
 * @param {T} value
 * @returns {Signal<T>}
 */
export function signal(value) {
  /** @type {Set<Reader>} */
  const readers = new Set();
  return {
    get value() {
      track(readers);
      return value;
    },
    set value(next) {
      if (Object.is(next, value)) return;
      value = next;
      notify(readers);
    },
    peek: () => value,
    // For changes inside a Map, Set or array, which `Object.is` can't see.
    update(change) {
      const next = change(value);
      if (next !== undefined) value = /** @type {T} */ (next);
      notify(readers);
    },
  };
}

/**
 * A value worked out from other signals, when it is asked for and they have changed.
 * @template T
 * @param {() => T} work
 * @returns {{ readonly value: T, peek(): T }}
 */
export function computed(work) {
  /** @type {Set<Reader>} */
  const readers = new Set();
  let fresh = false;
  /** @type {T} */
  let value;
  /** @type {Reader} */
  const self = {
    id: ++lastId,
    sources: new Set(),
    stale() {
      if (!fresh) return;
      fresh = false;
      notify(readers);
    },
  };
  const read = () => {
    if (!fresh) {
      forget(self);
      fresh = true;
      value = as(self, null, work);
    }
    return value;
  };
  return {
    get value() {
      track(readers);
      return read();
    },
    peek: read,
  };
}

/**
 * Runs now, and again whenever a signal it read changes. What it starts inside (effects,
 * `onStop` callbacks) is stopped before each further run.
 * @param {() => void} run
 * @returns {() => void} stops it
 */
export function effect(run) {
  /** @type {Array<() => void>} */
  let inner = [];
  const halt = () => {
    const list = inner;
    inner = [];
    for (const stop of list) stop();
  };
  /** @type {Reader} */
  const self = {
    id: ++lastId,
    sources: new Set(),
    stopped: false,
    stale() {
      schedule(self);
    },
    run() {
      forget(self);
      halt();
      as(self, inner, run);
    },
  };
  const stop = () => {
    self.stopped = true;
    forget(self);
    halt();
  };
  owner?.push(stop);
  self.run?.();
  return stop;
}

/**
 * Runs `work` so that everything started inside can be stopped at once.
 * @template T
 * @param {() => T} work
 * @returns {{ value: T, stop: () => void }}
 */
export function scope(work) {
  /** @type {Array<() => void>} */
  const list = [];
  const value = as(null, list, work);
  return { value, stop: () => list.splice(0).forEach((stop) => stop()) };
}

/** Calls `stop` when the scope or effect it is called in ends. @param {() => void} stop */
export function onStop(stop) {
  owner?.push(stop);
}

/**
 * Reads without becoming a reader.
 * @template T
 * @param {() => T} work
 * @returns {T}
 */
export function untracked(work) {
  return as(null, owner, work);
}

/** Runs every waiting effect now; otherwise they run at the next microtask. */
export function flush() {
  while (pending) {
    const batch = [...pending].sort((a, b) => a.id - b.id);
    pending = null;
    // An effect that throws must not keep the others from running.
    for (const item of batch) {
      if (item.stopped) continue;
      try {
        item.run?.();
      } catch (error) {
        reportError(error);
      }
    }
  }
}

/**
 * @template T
 * @param {Reader | null} self
 * @param {Array<() => void> | null} scope
 * @param {() => T} work
 */
function as(self, scope, work) {
  const outer = [reader, owner];
  reader = self;
  owner = scope;
  try {
    return work();
  } finally {
    [reader, owner] = /** @type {[Reader | null, Array<() => void> | null]} */ (outer);
  }
}

/** @param {Set<Reader>} readers */
function track(readers) {
  if (!reader) return;
  readers.add(reader);
  reader.sources.add(readers);
}

/** @param {Reader} self */
function forget(self) {
  for (const readers of self.sources) readers.delete(self);
  self.sources.clear();
}

/** @param {Set<Reader>} readers */
function notify(readers) {
  for (const one of [...readers]) one.stale();
}

/** @param {Reader} self */
function schedule(self) {
  if (!pending) {
    pending = new Set();
    queueMicrotask(flush);
  }
  pending.add(self);
}

/** @param {unknown} error */
function reportError(error) {
  if (typeof globalThis.reportError === 'function') globalThis.reportError(error);
  else queueMicrotask(() => { throw error; });
}
