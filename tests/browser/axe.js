/**
 * One screen in both themes before axe-core: no violation of WCAG 2.2 A and AA.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

export async function clean(person, name) {
  for (const colorScheme of ['light', 'dark']) {
    await person.page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    await person.page.evaluate(axe);
    const { violations } = await person.page.evaluate(() => globalThis.axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
    const told = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} (${failureSummary})`).join('; ')}`);
    assert.deepEqual(told, [], `${name}, ${colorScheme}`);
  }
}
