/**
 * Makes the README's pictures from the running program: `HEARTH_URL=… node pictures.js`.
 * Owns the small town whose people talk in them.
 */
import { mkdirSync } from 'node:fs';
import { Person, freshName, send, startBrowser, until } from './support.js';

/** Faces: a few shapes on a colour, drawn here. */
const FACES = { mina: ['#f2c9a8', '#3b2a20', '#c2542d'], jonas: ['#e9b48f', '#8a5a2b', '#3f6b8a'], ada: ['#8d5a3b', '#1d1512', '#4b7a4f'] };

const FOLDER = new URL('../../client-web/screenshots/', import.meta.url).pathname;
mkdirSync(FOLDER, { recursive: true });
const browser = await startBrowser();

async function settle(name, display) {
  const person = await Person.at(browser, name);
  await person.register();
  const { userId } = await person.session();
  await person.call('PUT', `/profile/${encodeURIComponent(userId)}/displayname`, { displayname: display });
  const { content_uri: url } = await upload(person, await drawn(person, FACES[name]));
  await person.call('PUT', `/profile/${encodeURIComponent(userId)}/avatar_url`, { avatar_url: url });
  return person;
}

/** @returns {Promise<Buffer>} a PNG */
async function drawn(person, [skin, hair, shirt]) {
  const data = await person.page.evaluate(async ([face, top, body]) => {
    const canvas = new OffscreenCanvas(256, 256);
    const to = canvas.getContext('2d');
    const round = (colour, x, y, width, height) => {
      to.fillStyle = colour;
      to.beginPath();
      to.ellipse(x, y, width, height, 0, 0, 2 * Math.PI);
      to.fill();
    };
    to.fillStyle = '#efe3d3';
    to.fillRect(0, 0, 256, 256);
    round(body, 128, 268, 104, 84);
    round(top, 128, 104, 74, 78);
    round(face, 128, 118, 56, 64);
    round(top, 128, 66, 64, 32);
    const bytes = new Uint8Array(await (await canvas.convertToBlob({ type: 'image/png' })).arrayBuffer());
    return btoa(String.fromCharCode(...bytes));
  }, [skin, hair, shirt]);
  return Buffer.from(data, 'base64');
}

async function upload(person, body) {
  const { base, token } = await person.session();
  const answer = await fetch(`${base}/_matrix/media/v3/upload`, { method: 'POST', headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'image/png' }, body });
  return answer.json();
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

// Jonas is a friend, Ada asks to be one; the choir is dear.
const [{ userId: jonasId }, { userId: mine }] = [await jonas.session(), await mina.session()];
const { room_id: chat } = await mina.call('POST', '/createRoom', { is_direct: true, preset: 'trusted_private_chat', invite: [jonasId] });
await jonas.call('POST', `/join/${encodeURIComponent(chat)}`, {});
await mina.call('PUT', `/user/${encodeURIComponent(mine)}/account_data/m.direct`, { [jonasId]: [chat] });
await send(jonas, chat, { msgtype: 'm.text', body: 'The shed key is under the pot.' });
await ada.call('POST', '/createRoom', { is_direct: true, preset: 'trusted_private_chat', invite: [mine] });
await mina.call('PUT', `/user/${encodeURIComponent(mine)}/rooms/${encodeURIComponent(choir.id)}/tags/m.favourite`, {});
await mina.page.evaluate(() => localStorage.setItem('hearth.desktop', 'later'));
await mina.page.reload();

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
// Nothing is under the finger any more.
await phone.page.reload();
await phone.sees('You are wonderful.');
await phone.page.locator('.readers img').first().waitFor();
await shoot(phone, 'phone-dark');
await browser.close();
