/**
 * The dialog in which a room is made.
 */
import { h, keyed } from '../kit/dom.js';
import { openDialog } from '../kit/dialog.js';
import { signal } from '../kit/signal.js';
import { t } from '../i18n/index.js';
import { field, form } from './form.js';
import { toggle } from './page.js';
import { pictureField } from './picture.js';

/** @param {import('./app.js').App} app */
export function createDialog(app) {
  return openDialog(t('create.title'), (close) => content(app, close));
}

/** @param {import('./app.js').App} app @param {() => void} close */
function content(app, close) {
  const open = signal(false);
  const alias = signal('');
  const name = signal('');
  const federated = signal(true);
  const announcements = signal(false);
  /** @type {Blob | null} */
  let picture = null;
  const choice = (/** @type {boolean} */ value, /** @type {string} */ text, /** @type {string} */ hint) =>
    h.label({ class: 'choice' }, h.input({ type: 'radio', name: 'who', value: String(value), checked: open.peek() === value, onchange: () => (open.value = value) }), h.span({ class: 'choice-text' }, h.span(text), h.span({ class: 'hint' }, hint)));
  const aliasField = () =>
    field({
      name: 'alias',
      label: () => t('create.alias'),
      hint: () => t('create.aliasHint', { alias: alias.value || '…', server: app.client.server }),
      pattern: '[^\\s:#@]+',
      maxlength: 200,
      value: alias.peek(),
      spellcheck: 'false',
      autocapitalize: 'none',
      oninput: (/** @type {any} */ event) => (alias.value = event.target.value),
    });
  return form(
    {
      submit: () => t('create.submit'),
      cancel: close,
      send: async ({ topic }) => {
        const id = await app.client.rooms.create({
          name: name.peek().trim(),
          topic: topic.trim(),
          open: open.peek(),
          alias: alias.peek().trim(),
          federated: federated.peek(),
          announcements: announcements.peek(),
          picture: picture ? await app.client.media.upload(picture, { name: 'room.webp' }) : undefined,
        });
        close();
        app.go('room', id);
      },
    },
    h.div(
      { class: 'with-picture' },
      pictureField({ id: 'new', name: () => name.value || '+', picture: () => undefined, shape: 'room', onchange: (blob) => (picture = blob) }),
      field({ name: 'name', label: () => t('create.name'), required: true, maxlength: 200, autofocus: true, dir: 'auto', oninput: (/** @type {any} */ event) => (name.value = event.target.value) }),
    ),
    field({ name: 'topic', label: () => t('create.topic'), maxlength: 1000, dir: 'auto' }),
    h.fieldset(h.legend(t('create.who')), choice(false, t('create.private'), t('create.privateHint')), choice(true, t('create.public'), t('create.publicHint'))),
    keyed(() => open.value, (isOpen) => (isOpen ? aliasField() : null)),
    h.details(
      { class: 'more' },
      h.summary(t('create.more')),
      toggle(() => t('create.announcements'), () => announcements.value, (on) => (announcements.value = on), { hint: () => t('create.announcementsHint') }),
      toggle(() => t('create.federated'), () => federated.value, (on) => (federated.value = on), { hint: () => t('create.federatedHint', { server: app.client.server }) }),
    ),
  );
}
