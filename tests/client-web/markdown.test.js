/** From what is typed to what is sent. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { toContent, toHtml } from '../../client-web/matrix/markdown.js';
import { messageContent } from '../../client-web/matrix/saying.js';

test('plain text stays plain', () => {
  for (const text of ['hello', 'two\nlines', '2 * 3 * 4', 'snake_case_name and __init', 'a * b', '* ', '<b>not bold</b>', "it's & so", '1.5 - 2', 'https://example.org/a_b_c', '#tag', '>_<'.slice(1)]) {
    assert.deepEqual(toContent(text), { msgtype: 'm.text', body: text }, text);
  }
});

test('marks within a line', () => {
  const cases = {
    '**bold** and *italic*': '<strong>bold</strong> and <em>italic</em>',
    '__bold__ _italic_ ~~gone~~': '<strong>bold</strong> <em>italic</em> <del>gone</del>',
    '**bold *and italic***': '<strong>bold <em>and italic</em></strong>',
    '`a < b` and ``a ` b``': '<code>a &lt; b</code> and <code>a ` b</code>',
    '[Hearth](https://example.org/?a=1&b=2)': '<a href="https://example.org/?a=1&amp;b=2">Hearth</a>',
    '[wiki](https://example.org/a_(b))': '<a href="https://example.org/a_(b)">wiki</a>',
    '||the butler||': '<span data-mx-spoiler>the butler</span>',
    '\\*not italic\\* **x**': '*not italic* <strong>x</strong>',
    '**https://example.org/a_b**': '<strong>https://example.org/a_b</strong>',
    '<i>"x"</i> *y*': '&lt;i&gt;&quot;x&quot;&lt;/i&gt; <em>y</em>',
  };
  for (const [text, html] of Object.entries(cases)) assert.equal(toHtml(text), html, text);
});

test('blocks', () => {
  const cases = {
    '> quoted\n> twice\nanswer': '<blockquote><p>quoted<br>twice</p></blockquote><p>answer</p>',
    '- one\n- two\n  - deeper\n- three': '<ul><li>one</li><li>two<ul><li>deeper</li></ul></li><li>three</li></ul>',
    '3. three\n4. four': '<ol start="3"><li>three</li><li>four</li></ol>',
    '```js\nif (a < b) {}\n```': '<pre><code class="language-js">if (a &lt; b) {}\n</code></pre>',
    '# Head\ntext': '<h1>Head</h1><p>text</p>',
    'one\n\ntwo': '<p>one</p><p>two</p>',
    'a\n---\nb': '<p>a</p><hr><p>b</p>',
  };
  for (const [text, html] of Object.entries(cases)) assert.equal(toHtml(text), html, text);
});

test('nothing typed becomes markup of its own', () => {
  for (const text of ['[x](javascript:alert(1))', '[x](data:text/html,y)', '**<script>x</script>**', '[<img src=x>](https://a.example/"onclick="x)', '```"><script>\nx\n```']) {
    assert.doesNotMatch(toHtml(text), /<script|<img|javascript:alert\(1\)"|data:text\/html,y"|"onclick="/, text);
  }
});

test('mentions become links, and are said beside the text', () => {
  const mentions = [{ id: '@ada:here', name: 'Ada' }, { id: '@ada2:here', name: 'Ada Nwosu' }];
  const content = messageContent({ text: 'Hi @Ada Nwosu!', mentions: [mentions[1]] });
  assert.equal(content.body, 'Hi @Ada Nwosu!');
  assert.equal(content.formatted_body, 'Hi <a href="https://matrix.to/#/%40ada2%3Ahere">@Ada Nwosu</a>!');
  assert.deepEqual(content['m.mentions'], { user_ids: ['@ada2:here'] });
  assert.match(toHtml('@Ada Nwosu', mentions), /ada2/);
  assert.deepEqual(messageContent({ text: 'nobody' })['m.mentions'], {});
  assert.deepEqual(messageContent({ text: 'wake up @room', mentions: [{ id: '@room', name: 'room' }] })['m.mentions'], { room: true });
});

test('replies, threads and emotes as the spec wants them', () => {
  const replyTo = { event_id: '$1', sender: '@bob:here' };
  assert.deepEqual(messageContent({ text: 'yes', replyTo }), { msgtype: 'm.text', body: 'yes', 'm.relates_to': { 'm.in_reply_to': { event_id: '$1' } }, 'm.mentions': { user_ids: ['@bob:here'] } });
  const inThread = messageContent({ text: 'yes', thread: '$root', threadTail: '$last' });
  assert.deepEqual(inThread['m.relates_to'], { rel_type: 'm.thread', event_id: '$root', is_falling_back: true, 'm.in_reply_to': { event_id: '$last' } });
  assert.equal(messageContent({ text: '/me waves' }).msgtype, 'm.emote');
  assert.equal(messageContent({ text: '/me waves' }).body, 'waves');
  assert.equal(messageContent({ text: '//me' }).body, '/me');
});

test('whatever is typed takes little time', () => {
  const start = performance.now();
  for (const unit of ['*a ', '**', '_a', '`', '[', '[a](', '||', '> ', '- a\n  ', '~~ ', '```\n', '\\', '*_']) toHtml(unit.repeat(30_000 / unit.length));
  assert.ok(performance.now() - start < 4000, `${performance.now() - start} ms`);
});
