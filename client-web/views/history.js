/**
 * What a message said before it was edited.
 */
import { h } from '../kit/dom.js';
import { openDialog } from '../kit/dialog.js';
import { signal } from '../kit/signal.js';
import { exact, t } from '../i18n/index.js';
import { isObject, said } from '../matrix/events.js';
import { words } from './errors.js';
import { look, saying } from './message-body.js';
import { iso } from './timeline.js';

/** @param {import('./talk.js').Talk} talk @param {import('../matrix/entry.js').Entry} entry */
export function historyDialog({ client, room }, entry) {
  const versions = signal(/** @type {import('../matrix/events.js').Event[] | null} */ (null));
  const trouble = signal('');
  client.reading.history(room, entry.event.event_id).then((found) => (versions.value = found), (error) => (trouble.value = words(error)));
  return openDialog(
    t('message.history'),
    () => () => {
      if (trouble.value) return h.p({ class: 'problem', role: 'alert' }, trouble.value);
      if (!versions.value) return h.div({ class: 'skeleton' }, h.div({ class: 'skeleton-message' }, h.i(), h.b(), h.b()));
      return h.ol({ class: 'versions' }, versions.value.map(version));
    },
  );
}

/** @param {import('../matrix/events.js').Event} event */
function version(event) {
  const fresh = event.content['m.new_content'];
  const what = said(event.type, isObject(fresh) ? fresh : event.content);
  return h.li(h.time({ class: 'message-time', datetime: iso(event.origin_server_ts) }, exact(event.origin_server_ts)), h.div({ class: look(what), dir: 'auto' }, what.kind === 'unknown' && !what.body ? t('message.unknown') : saying(what)));
}
