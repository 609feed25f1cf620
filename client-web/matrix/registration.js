/**
 * Making an account, led by what the server asks for: user-interactive authentication.
 * Owns the stages this client can pass; refuses to know how they are asked of a person.
 * spec: client-server-api#user-interactive-authentication-api
 */
import { Api, ApiError, at } from './api.js';
import { fromAnswer } from './session.js';

const DUMMY = 'm.login.dummy';
const TOKEN = 'm.login.registration_token';
const KNOWN = new Set([DUMMY, TOKEN]);

/** @typedef {{ session?: string, completed?: string[], flows?: Array<{ stages: string[] }>, errcode?: string, error?: string }} Offer */

/**
 * What registering takes here: nothing more, a token, something this client can't do, or
 * it is closed to all.
 * @param {string} base
 * @param {typeof globalThis.fetch} [fetch]
 * @returns {Promise<'open' | 'token' | 'unsupported' | 'closed'>}
 */
export async function probe(base, fetch) {
  const api = new Api({ base, fetch });
  try {
    await api.post(at`/register`, {}, { waits: 1 });
    return 'open';
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 401) return needs(/** @type {Offer} */ (error.body));
    if (error.status === 403) return 'closed';
    throw error;
  }
}

/** @param {Offer} offer @returns {'open' | 'token' | 'unsupported'} */
export function needs(offer) {
  const flow = choose(offer.flows ?? []);
  if (!flow) return 'unsupported';
  return flow.includes(TOKEN) ? 'token' : 'open';
}

/**
 * The stages of the easiest flow that this client can pass.
 * @param {Array<{ stages: string[] }>} flows
 */
export function choose(flows) {
  return flows
    .map(({ stages }) => stages)
    .filter((stages) => stages.every((stage) => KNOWN.has(stage)))
    .sort((a, b) => Number(a.includes(TOKEN)) - Number(b.includes(TOKEN)) || a.length - b.length)[0];
}

/**
 * @param {{ base: string, user: string, password: string, token?: string, deviceName: string, fetch?: typeof globalThis.fetch }} options
 * @returns {Promise<import('./session.js').Session>}
 */
export async function register({ base, user, password, token, deviceName, fetch }) {
  const api = new Api({ base, fetch });
  const wanted = { username: user, password, initial_device_display_name: deviceName };
  /** @type {Record<string, unknown> | undefined} */
  let auth;
  let tried = '';
  // One round per stage and one to begin; more would be a server going in circles.
  for (let round = 0; round < KNOWN.size + 2; round++) {
    try {
      return { ...fromAnswer(base, await api.post(at`/register`, { ...wanted, ...(auth && { auth }) })), fresh: true };
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 401 || !error.body.flows) throw error;
      const offer = /** @type {Offer} */ (error.body);
      // A stage that was tried and refused carries an error; the rest are simply next.
      if (tried && offer.errcode) throw error;
      tried = nextStage(offer, error);
      auth = { type: tried, session: offer.session, ...(tried === TOKEN && { token }) };
      if (tried === TOKEN && !token) throw new ApiError(401, { errcode: 'HEARTH_TOKEN_NEEDED' });
    }
  }
  throw new ApiError(401, { errcode: 'HEARTH_UNSUPPORTED_FLOW' });
}

/**
 * @param {Offer} offer
 * @param {ApiError} error
 */
function nextStage(offer, error) {
  const flow = choose(offer.flows ?? []);
  if (!flow) throw new ApiError(401, { ...error.body, errcode: 'HEARTH_UNSUPPORTED_FLOW' });
  const stage = flow.find((one) => !offer.completed?.includes(one));
  if (!stage) throw error;
  return stage;
}
