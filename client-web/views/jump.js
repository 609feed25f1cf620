/**
 * Going to a day in a conversation.
 */
import { h } from '../kit/dom.js';
import { openDialog } from '../kit/dialog.js';
import { t } from '../i18n/index.js';
import { field, form } from './form.js';

/** @param {import('./talk.js').Talk} talk */
export function jumpDialog(talk) {
  return openDialog(
    t('jump.title'),
    (close) =>
      form(
        {
          submit: () => t('jump.submit'),
          cancel: () => h.button({ type: 'button', class: 'button', onclick: () => close() }, t('action.cancel')),
          special: { M_NOT_FOUND: 'jump.none', M_UNRECOGNIZED: 'jump.unsupported' },
          send: async ({ day }) => {
            // The start of that day, here.
            const ts = new Date(`${day}T00:00:00`).getTime();
            if (Number.isNaN(ts)) return t('jump.none');
            const id = await talk.client.reading.atTime(talk.room, ts);
            close();
            await talk.show(id);
          },
        },
        field({ name: 'day', type: 'date', label: () => t('jump.day'), required: true, autofocus: true, max: today() }),
      ),
    { closeLabel: t('action.close') },
  );
}

/** As a date field writes it, in this place's time. */
function today() {
  const now = new Date();
  return `${now.getFullYear()}-${String(now.getMonth() + 1).padStart(2, '0')}-${String(now.getDate()).padStart(2, '0')}`;
}
