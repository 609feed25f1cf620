/**
 * The settings of how conversations work for a person.
 */
import { t } from '../i18n/index.js';
import { attempt } from './errors.js';
import { section, toggle } from './page.js';

/** @param {import('./app.js').App} app */
export function chatSettings({ client }) {
  const { account } = client;
  return section(
    () => t('settings.receipts'),
    null,
    toggle(() => t('settings.privateReceipts'), () => account.settings().privateReceipts === true, (on) => attempt(account.saveSettings({ privateReceipts: on })), { hint: () => t('settings.privateReceiptsHint') }),
  );
}
