/**
 * Files dropped anywhere on a conversation go to where one writes.
 */
import { h } from '../kit/dom.js';
import { signal } from '../kit/signal.js';
import { t } from '../i18n/index.js';
import { icon } from './icons.js';

/**
 * @template {HTMLElement} E
 * @param {E} area where files may be dropped
 * @param {{ addFiles: (files: Iterable<File>) => void } | null} composer
 * @returns {E}
 */
export function filesInto(area, composer) {
  if (!composer) return area;
  const over = signal(false);
  let depth = 0;
  const hasFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes('Files');
  area.addEventListener('dragenter', (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    depth++;
    over.value = true;
  });
  area.addEventListener('dragover', (event) => hasFiles(event) && event.preventDefault());
  area.addEventListener('dragleave', (event) => {
    if (hasFiles(event) && --depth <= 0) over.value = Boolean((depth = 0));
  });
  area.addEventListener('drop', (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    depth = 0;
    over.value = false;
    composer.addFiles(event.dataTransfer?.files ?? []);
  });
  area.append(h.div({ class: 'drop', hidden: () => !over.value }, h.p(icon('file'), h.span(() => t('composer.drop')))));
  return area;
}
