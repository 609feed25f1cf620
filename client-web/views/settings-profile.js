/**
 * The settings of how others see a person: name, picture, status, presence.
 */
import { h } from '../kit/dom.js';
import { signal } from '../kit/signal.js';
import { toast } from '../kit/toast.js';
import { t } from '../i18n/index.js';
import { attempt } from './errors.js';
import { field, form } from './form.js';
import { section } from './page.js';
import { pictureField } from './picture.js';

const STATES = /** @type {const} */ (['online', 'unavailable', 'offline']);
/** The server keeps no more than this. */
const LONGEST_STATUS = 200;

/** @param {import('./app.js').App} app */
export function profileSettings({ client }) {
  const { people } = client;
  const me = people.profile(client.me);
  // It may have been changed elsewhere.
  people.look(client.me).catch(() => {});
  const uploading = signal(false);
  const change = async (/** @type {Blob | null} */ blob) => {
    uploading.value = true;
    const done = async () => people.setProfile('avatar_url', blob ? await client.media.upload(blob, { name: 'me.webp' }) : '');
    await attempt(done().then(() => toast(t('action.saved'))));
    uploading.value = false;
  };
  return [
    section(
      () => t('settings.profile'),
      null,
      h.div(
        { class: 'card' },
        h.div({ class: 'profile-head' }, pictureField({ id: client.me, name: () => me.value.name, picture: () => me.value.avatar, onchange: change }), h.bdi({ class: 'row-note' }, client.me)),
        h.div({ role: 'status', class: 'hint' }, () => (uploading.value ? t('picture.uploading') : null)),
        form(
          {
            submit: () => t('action.save'),
            send: async ({ name }) => {
              await people.setProfile('displayname', name.trim());
              toast(t('action.saved'));
            },
          },
          field({ name: 'name', label: () => t('profile.name'), hint: () => t('profile.nameHint'), maxlength: 120, dir: 'auto', value: () => me.value.name, autocomplete: 'name' }),
        ),
      ),
    ),
    section(
      () => t('presence.title'),
      () => t('presence.hint'),
      h.div({ class: 'choices', role: 'radiogroup', 'aria-label': () => t('presence.title') }, STATES.map((state) =>
        h.label({ class: 'choice' }, h.input({ type: 'radio', name: 'presence', checked: () => people.shown().state === state, onchange: () => attempt(people.show({ state })) }), h.span({ class: `dot is-${state}` }), h.span(() => t(`presence.choice.${state}`))))),
      form(
        {
          submit: () => t('action.save'),
          send: async ({ status }) => {
            await people.show({ status: status.trim() });
            toast(t('action.saved'));
          },
        },
        field({ name: 'status', label: () => t('profile.status'), hint: () => t('profile.statusHint'), maxlength: LONGEST_STATUS, dir: 'auto', value: () => people.shown().status }),
      ),
    ),
  ];
}
