/** What messages say and which of it may live: sanitiser rules, links, identifiers, content. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isShown, oneLine, said } from '../../client-web/matrix/events.js';
import { DROPPED, TAGS, keep, linkify, safeHref } from '../../client-web/matrix/html-rules.js';
import { hueOf, parseTarget, roomTarget, userId } from '../../client-web/matrix/ids.js';
import { event, member, message } from './support.js';

const kept = (tag, attributes) => keep(tag, (name) => attributes[name] ?? null);

test('the allowed tags are the specification’s, and no dropped one is among them', () => {
  const spec = 'del h1 h2 h3 h4 h5 h6 blockquote p a ul ol sup sub li b i u strong em s code hr br div table thead tbody tr th td caption pre span img details summary';
  assert.deepEqual([...TAGS].sort(), spec.split(' ').sort());
  assert.deepEqual([...DROPPED].filter((tag) => TAGS.has(tag)), []);
  for (const tag of ['script', 'style', 'iframe', 'svg', 'math', 'mx-reply', 'noscript', 'template', 'textarea']) assert.ok(DROPPED.has(tag), tag);
});

test('attributes: only those named for the tag, with values that can do nothing', () => {
  const everything = { onclick: 'x()', style: 'color:red', id: 'main', class: 'app language-js', href: 'https://a.example/', src: 'https://a.example/x.png', name: 'x', start: '3', 'data-mx-color': '#ff0000' };
  assert.deepEqual(kept('p', everything), { attrs: {}, style: {} });
  assert.deepEqual(kept('code', everything).attrs, { class: 'language-js' });
  assert.deepEqual(kept('a', everything).attrs, { href: 'https://a.example/', target: '_blank', rel: 'noopener noreferrer nofollow' });
  assert.deepEqual(kept('img', everything), { attrs: {}, style: {} });
  assert.deepEqual(kept('ol', { start: '1e400' }).attrs, {});
  assert.deepEqual(kept('ol', { start: '-2' }).attrs, { start: '-2' });
  assert.deepEqual(kept('code', { class: 'language-x" onclick' }).attrs, {});
  assert.deepEqual(kept('span', { 'data-mx-color': '#ff0000', 'data-mx-bg-color': 'url(x)' }).style, { '--said-color': '#ff0000' });
  assert.equal(kept('span', { 'data-mx-spoiler': '' }).spoiler, '');
});

test('addresses: whole ones with a known scheme', () => {
  for (const good of ['https://a.example/b?c#d', 'http://a.example', 'mailto:a@b.example', 'magnet:?xt=urn:x', 'ftp://a.example/', 'matrix:u/bob:a.example']) assert.ok(safeHref(good), good);
  for (const bad of ['javascript:alert(1)', ' jAvAsCrIpT:alert(1)', 'java\tscript:alert(1)', '\u0001javascript:alert(1)', 'data:text/html,x', 'blob:https://a.example/x', 'vbscript:x', 'file:///etc/passwd', '/relative', '//a.example', '#frag', '', 'https://', `https://a.example/${'x'.repeat(9000)}`, null]) {
    assert.equal(safeHref(bad), undefined, String(bad));
  }
});

test('addresses in plain text, without the sentence around them', () => {
  const links = (text) => linkify(text).filter((part) => part.href).map((part) => part.text);
  assert.deepEqual(links('See https://a.example/b, or (https://c.example/d_(e)).'), ['https://a.example/b', 'https://c.example/d_(e)']);
  assert.deepEqual(links('javascript:alert(1) http:// nohttps://x'), []);
  for (const text of ['', 'plain', 'a https://a.example/ b']) assert.equal(linkify(text).map((part) => part.text).join(''), text);
  const begin = performance.now();
  linkify(`https://a.example/${')'.repeat(60_000)}`);
  linkify(`https://a.example/${'.'.repeat(60_000)}x`);
  linkify('https://a '.repeat(6000));
  assert.ok(performance.now() - begin < 500, 'no text takes long');
});

test('in one line stands what is read, not how it was written', () => {
  const line = (body, html) => oneLine(event('m.room.message', { msgtype: 'm.text', body, format: 'org.matrix.custom.html', formatted_body: html }));
  assert.equal(line('**Water** the `beds`', '<p><strong>Water</strong> the <code>beds</code></p>'), 'Water the beds');
  assert.equal(line('- a\n- b', '<ul><li>a</li><li>b &amp; &lt;c&gt;</li></ul>'), 'a b & <c>');
  assert.equal(line('> <@a:h> x\n\nyes', '<mx-reply><blockquote>x</blockquote></mx-reply>yes'), 'yes');
  // What is hidden stays so, and what is more than words is told as its sender wrote it.
  assert.equal(line('[hidden]', '<span data-mx-spoiler>the end</span>'), '[hidden]');
  assert.equal(line('safe', '<script>alert(1)</script>'), 'safe');
  assert.equal(line('empty', '<b></b>'), 'empty');
  const begin = performance.now();
  for (const html of ['<'.repeat(60_000), '<mx-reply>'.repeat(6000), '<p '.repeat(20_000), '&'.repeat(60_000)]) line('x', html);
  assert.ok(performance.now() - begin < 500, 'none takes long');
});

test('identifiers, typed or in links', () => {
  assert.deepEqual(parseTarget('https://matrix.to/#/%23room%3Aa.example?via=b.example&via=c.example'), { kind: 'alias', id: '#room:a.example', via: ['b.example', 'c.example'] });
  assert.deepEqual(parseTarget('https://matrix.to/#/!id:a.example/$event'), { kind: 'room', id: '!id:a.example', via: [], eventId: '$event' });
  assert.deepEqual(parseTarget('matrix:r/room:a.example'), { kind: 'alias', id: '#room:a.example', via: [] });
  assert.deepEqual(parseTarget('matrix:u/bob:a.example?action=chat'), { kind: 'user', id: '@bob:a.example', via: [] });
  assert.equal(parseTarget('!version12id')?.kind, 'room');
  for (const nothing of ['', 'hello', '#', '@bob', 'https://a.example', `#${'x'.repeat(300)}:a`, 'https://matrix.to/#/%E0%A4%A']) assert.equal(parseTarget(nothing), null, nothing);
  assert.equal(userId('bob', 'here'), '@bob:here');
  assert.equal(userId('@bob', 'here'), '@bob:here');
  assert.equal(userId('@bob:there', 'here'), '@bob:there');
  assert.equal(userId('#room:there', 'here'), null);
  assert.equal(userId('two words', 'here'), null);
  assert.equal(roomTarget('garden', 'here').id, '#garden:here');
  assert.equal(roomTarget('@bob:here', 'here'), null);
  assert.ok(hueOf('@bob:here', 8) < 8 && hueOf('@bob:here', 8) === hueOf('@bob:here', 8));
});

test('what a message says, whatever its content is', () => {
  assert.deepEqual(said('m.room.message', { msgtype: 'm.text', body: 'hi' }), { kind: 'text', body: 'hi' });
  assert.deepEqual(said('m.room.message', { msgtype: 'm.text', body: 'hi', format: 'org.matrix.custom.html', formatted_body: '<b>hi</b>' }).html, '<b>hi</b>');
  assert.equal(said('m.room.message', { msgtype: 'm.text', body: 'hi', format: 'other', formatted_body: '<b>hi</b>' }).html, undefined);
  assert.equal(said('m.room.encrypted', { ciphertext: 'x' }).kind, 'encrypted');
  const { name, caption, size } = said('m.room.message', { msgtype: 'm.file', body: 'caption', filename: 'a.pdf', info: { size: 12 } }).file;
  assert.deepEqual({ name, caption, size }, { name: 'a.pdf', caption: 'caption', size: 12 });
  const odd = said('m.room.message', { msgtype: 'm.image', body: 'x', url: 7, info: { w: -1, h: 'tall', size: NaN, 'chat.hearth.color': 'url(x)' } }).file;
  assert.deepEqual([odd.url, odd.width, odd.height, odd.size, odd.color], Array(5).fill(undefined));
  assert.equal(said('m.sticker', { body: 'cat' }).file.msgtype, 'm.image');
  for (const content of [{}, { msgtype: 7, body: {} }, { msgtype: 'm.text' }, { msgtype: 'org.example' }, { 'm.relates_to': null }]) assert.equal(typeof said('m.room.message', content).body, 'string');
});

test('a reply’s quoted beginning is left out, and only a reply’s', () => {
  const reply = { 'm.relates_to': { 'm.in_reply_to': { event_id: '$x' } } };
  assert.equal(said('m.room.message', { msgtype: 'm.text', body: '> <@bob:here> one\n> two\n\nanswer\n> kept', ...reply }).body, 'answer\n> kept');
  assert.equal(said('m.room.message', { msgtype: 'm.text', body: '> a quote\n\nof mine' }).body, '> a quote\n\nof mine');
  assert.equal(said('m.room.message', { msgtype: 'm.text', body: '> only', ...reply }).body, '> only');
});

test('what has a row', () => {
  assert.ok(isShown(message('x')) && isShown(member('@bob:here')));
  assert.ok(!isShown(event('m.room.power_levels', {}, { state_key: '' })));
  assert.ok(!isShown(event('m.reaction', {})) && !isShown(event('m.room.redaction', {})) && !isShown(event('org.example.silent', {})));
  assert.ok(isShown(event('org.example.poll', { body: 'a poll' })));
  const same = { membership: 'join', displayname: 'Bob' };
  assert.ok(!isShown(event('m.room.member', same, { state_key: '@bob:here', unsigned: { prev_content: same } })));
});
