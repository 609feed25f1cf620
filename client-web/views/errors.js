/**
 * What went wrong, in words that help: from a server's error to a sentence.
 */
import { ApiError } from '../matrix/api.js';
import { t } from '../i18n/index.js';
import { toast } from '../kit/toast.js';

/** @type {Record<string, import('../i18n/index.js').Key>} */
const BY_CODE = {
  HEARTH_UNREACHABLE: 'error.unreachable',
  HEARTH_NOT_JSON: 'error.unreachable',
  HEARTH_UNSUPPORTED_FLOW: 'register.unsupported',
  HEARTH_TOKEN_NEEDED: 'error.wrongToken',
  M_USER_IN_USE: 'error.userInUse',
  M_INVALID_USERNAME: 'error.invalidName',
  M_WEAK_PASSWORD: 'error.weakPassword',
  M_ROOM_IN_USE: 'error.roomInUse',
  M_USER_LOCKED: 'error.locked',
  M_USER_SUSPENDED: 'error.suspended',
  M_USER_DEACTIVATED: 'error.deactivated',
  M_NOT_FOUND: 'error.notFound',
  M_LIMIT_EXCEEDED: 'error.tooMany',
};

/**
 * @param {unknown} error
 * @param {Partial<Record<string, import('../i18n/index.js').Key>>} [special] words for codes that mean something else here
 */
export function words(error, special = {}) {
  if (!(error instanceof ApiError)) throw error;
  const key = special[error.code] ?? BY_CODE[error.code];
  if (key) return t(key);
  if (error.code === 'M_FORBIDDEN') return t('error.forbidden');
  if (error.status >= 500) return t('error.server');
  return t('error.other', { text: error.message.slice(0, 300) });
}

/**
 * Does something that may be refused, and says so if it is.
 * @template T
 * @param {Promise<T>} deed
 * @returns {Promise<T | undefined>}
 */
export async function attempt(deed) {
  try {
    return await deed;
  } catch (error) {
    toast(words(error));
  }
}
