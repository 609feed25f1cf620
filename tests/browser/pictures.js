/**
 * Makes the README's pictures from the running program: `HEARTH_URL=… node pictures.js`.
 * Owns the small town whose people talk in them.
 */
import { mkdirSync } from 'node:fs';
import { Person, freshName, send, startBrowser, until } from './support.js';

const FOLDER = new URL('../../client-web/screenshots/', import.meta.url).pathname;
mkdirSync(FOLDER, { recursive: true });
const browser = await startBrowser();

async function settle(name, display) {
  const person = await Person.at(browser, name);
  await person.register();
  const { userId } = await person.session();
  await person.call('PUT', `/profile/${encodeURIComponent(userId)}/displayname`, { displayname: display });
  return person;
}

const mina = await settle('mina', 'Mina Park');
const jonas = await settle('jonas', 'Jonas Weber');
const ada = await settle('ada', 'Ada Nwosu');
const everyone = [mina, jonas, ada];

async function room(name, topic, founder, lines) {
  const { room_id: id } = await founder.call('POST', '/createRoom', { name, topic, preset: 'public_chat' });
  for (const person of everyone) if (person !== founder) await person.call('POST', `/join/${encodeURIComponent(id)}`, {});
  const ids = [];
  for (const [who, body, html] of lines) ids.push(await send(who, id, { msgtype: 'm.text', body, ...(html && { format: 'org.matrix.custom.html', formatted_body: html }) }));
  return { id, ids };
}
const react = (who, { id, ids }, at, key) => send(who, id, { 'm.relates_to': { rel_type: 'm.annotation', event_id: ids.at(at), key } }, 'm.reaction');

await room('Book club', 'This month: The Left Hand of Darkness', ada, [[ada, 'Chapter six by Sunday?'], [jonas, 'If the weather stays bad, chapter nine.']]);
const choir = await room('Choir practice', 'Tuesdays at seven', jonas, [[jonas, 'The hall is ours again from next week.'], [ada, 'Lovely. I bring the scores.']]);
const garden = await room('Neighbourhood garden', 'Beds, tools and who waters when', mina, [
  [ada, 'The tomatoes made it through the storm!'],
  [ada, 'Two stakes broke, though.'],
  [jonas, 'I have spare ones in the shed. Saturday morning?'],
  [mina, 'Saturday works. A list so that nobody forgets:', '<p>Saturday works. A list so that nobody forgets:</p><ol><li>stakes and twine (<strong>Jonas</strong>)</li><li>the long hose</li><li>coffee, <em>lots</em></li></ol>'],
  [jonas, 'Nine o’clock, then. I’ll unlock the gate.'],
  [ada, 'The watering script is fixed as well:', '<p>The watering script is fixed as well:</p><pre><code class="language-sh">water --bed 4 --minutes 20 --unless-rain</code></pre>'],
  [ada, 'It looks at the forecast first now: https://weather.example/garden'],
  [mina, 'You are wonderful. 🍅'],
]);
await react(mina, garden, 0, '🎉');
await react(jonas, garden, 0, '🎉');
await react(jonas, garden, 3, '👍');
const { userId: minaId } = await mina.session();
await send(ada, choir.id, { msgtype: 'm.text', body: 'Mina, do you still have the key?', 'm.mentions': { user_ids: [minaId] } });

for (const person of [jonas, ada]) await person.page.goto(`${new URL(person.page.url()).origin}/#/room/${garden.id}`);
await mina.roomRow('Neighbourhood garden').click();
await mina.sees('You are wonderful.');
await until(async () => (await mina.page.locator('.readers .avatar').count()) >= 2, 'both have read');
await jonas.box.pressSequentially('And I');
await mina.page.getByText('Jonas Weber is typing').waitFor();

const shoot = async (person, name) => {
  await person.page.mouse.move(0, 0);
  await person.page.screenshot({ path: `${FOLDER}${name}.png`, animations: 'disabled' });
};
await shoot(mina, 'chat-light');
await mina.page.emulateMedia({ colorScheme: 'dark' });
await jonas.box.pressSequentially(' bring');
await shoot(mina, 'chat-dark');
await mina.page.emulateMedia({ colorScheme: 'light' });

const door = await Person.at(browser, freshName('door'), { locale: 'ko-KR' });
await door.open();
await door.page.getByRole('heading', { name: 'Hearth' }).waitFor();
await shoot(door, 'door-korean');

const phone = await Person.at(browser, 'phone', { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2, colorScheme: 'dark' });
phone.user = ada.user;
await phone.open(`#/room/${garden.id}`);
await phone.signIn();
await phone.sees('You are wonderful.');
await shoot(phone, 'phone-dark');
await browser.close();
