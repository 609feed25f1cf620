/**
 * Where this person is told of things by other apps of theirs, and what came of it lately. Owns the
 * server's words for it. spec: `spec/push.md`
 */

const PATH = '/_matrix/client/unstable/chat.hearth.push/pushers';
/** What a client does without on servers that don't say it. */
const FEATURE = 'chat.hearth.push';

/** @typedef {'delivered' | 'failed' | 'dropped' | 'rejected'} Outcome */
/** @typedef {{ ts: number, outcome: Outcome, error: string }} Entry */
/** @typedef {{ id: string, app: string, device: string, gateway: string, enabled: boolean, failing: number, retry: number, log: Entry[] }} Pusher */

const OUTCOMES = ['delivered', 'failed', 'dropped', 'rejected'];

/**
 * None where the server does not tell.
 * @param {{ api: import('./api.js').Api, offers: (feature: string) => Promise<boolean> }} client
 * @returns {Promise<Pusher[]>}
 */
export async function pushersOf({ api, offers }) {
  if (!(await offers(FEATURE))) return [];
  const { pushers } = await api.get(PATH);
  return (Array.isArray(pushers) ? pushers : []).map((one) => ({
    id: text(one.id),
    app: text(one.app_display_name) || text(one.app_id),
    device: text(one.device_display_name),
    gateway: text(one.gateway),
    enabled: one.enabled !== false,
    failing: number(one.failing_since_ts),
    retry: number(one.retry_ts),
    log: (Array.isArray(one.log) ? one.log : [])
      .filter((/** @type {any} */ entry) => OUTCOMES.includes(entry?.outcome))
      .map((/** @type {any} */ entry) => ({ ts: number(entry.ts), outcome: entry.outcome, error: text(entry.error) })),
  }));
}

const text = (/** @type {unknown} */ value) => (typeof value === 'string' ? value : '');
const number = (/** @type {unknown} */ value) => (typeof value === 'number' ? value : 0);
