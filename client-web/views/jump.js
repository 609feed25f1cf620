/**
 * Going to a day in a conversation.
 */
import { t } from '../i18n/index.js';
import { field, formDialog } from './form.js';

/** @param {import('./talk.js').Talk} talk */
export function jumpDialog(talk) {
  return formDialog(
    t('jump.title'),
    {
      submit: () => t('jump.submit'),
      special: { M_NOT_FOUND: 'jump.none', M_UNRECOGNIZED: 'jump.unsupported' },
      send: async ({ day }) => {
        // The start of that day, here.
        const ts = new Date(`${day}T00:00:00`).getTime();
        if (Number.isNaN(ts)) return t('jump.none');
        const id = await talk.client.reading.atTime(talk.room, ts);
        await talk.show(id);
      },
    },
    field({ name: 'day', type: 'date', label: () => t('jump.day'), required: true, autofocus: true, max: today() }),
  );
}

/** As a date field writes it, in this place's time. */
function today() {
  const now = new Date();
  return `${now.getFullYear()}-${String(now.getMonth() + 1).padStart(2, '0')}-${String(now.getDate()).padStart(2, '0')}`;
}
