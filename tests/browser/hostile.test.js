/**
 * Messages that mean harm, in the real browser: nothing runs, nothing breaks out of its
 * place, and each can still be deleted.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Person, send, startBrowser, until } from './support.js';

const ZALGO = 'h' + '\u0335\u0322\u031B\u0340\u0341\u0344\u0343'.repeat(60) + 'i';
const BODIES = {
  'script': '<script>pwned=1</script>after the script',
  'image error': '<img src=x onerror="pwned=1">after the picture',
  'image http': '<img src="https://example.org/tracker.png" alt="remote">',
  'link javascript': '<a href="javascript:pwned=1">click me</a>',
  'link mixed case': '<a href=" jAvA\tsCrIpT:pwned=1">click me</a>',
  'link entities': '<a href="&#106;avascript:pwned=1">click me</a>',
  'link data': '<a href="data:text/html,<script>pwned=1</script>">click me</a>',
  'link blob': '<a href="blob:https://example.org/x">click me</a>',
  'link relative': '<a href="/_matrix/client/v3/logout">click me</a>',
  'svg onload': '<svg onload="pwned=1"><a xlink:href="javascript:pwned=1"><text>svg</text></a></svg>after',
  'svg animate': '<svg><a><animate attributeName=href values=javascript:pwned=1 /><text x=20 y=20>click</text></a></svg>after',
  'iframe': '<iframe srcdoc="<script>parent.pwned=1</script>"></iframe>after',
  'object': '<object data="javascript:pwned=1"></object><embed src="javascript:pwned=1">after',
  'form': '<form action="javascript:pwned=1"><button formaction="javascript:pwned=1">go</button><input autofocus onfocus=pwned=1></form>after',
  'style': '<style>*{display:none!important}</style><b style="position:fixed;inset:0" onclick="pwned=1" class="app">bold</b>',
  'id clobber': '<a id="main" name="body">clobber</a><img name="getElementById" alt="x">',
  'math mxss': '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=pwned=1&gt;">',
  'form mxss': '<form><math><mtext></form><form><mglyph><style></math><img src onerror=pwned=1>',
  'svg mxss': '<svg></p><style><a id="</style><img src=1 onerror=pwned=1>">',
  'noscript mxss': '<noscript><p title="</noscript><img src=x onerror=pwned=1>">',
  'textarea mxss': '<textarea><p title="</textarea><img src=x onerror=pwned=1>">',
  'template': '<template><img src=x onerror=pwned=1></template>after',
  'meta': '<meta http-equiv="refresh" content="0;url=https://example.org/"><base href="https://example.org/"><link rel=stylesheet href="https://example.org/x.css">after',
  'broken': '<b><i>bold <u>and</b> broken </i><p><table><tr><td>cell',
  'reply fallback': '<mx-reply><blockquote>quoted</blockquote></mx-reply>rest of the reply',
  'color': '<span data-mx-color="red;position:fixed" data-mx-bg-color="#00ff00">colour</span>',
  'nested lists': '<ul><li>'.repeat(95) + 'deep down',
  'nested deeper': '<div>'.repeat(10_000) + 'the bottom',
  'nested quotes': '<blockquote>'.repeat(99) + 'quoted a lot',
  'wide table': `<table><tr>${'<td>wiiiiiiiiide</td>'.repeat(60)}</tr></table>`,
  'many elements': '<b>x</b>'.repeat(7000),
  'zalgo': `<b>${ZALGO}</b>`,
};
const TEXTS = {
  'long word': 'w'.repeat(40_000),
  'zalgo': `${ZALGO} plain`,
  'bidi override': '\u202Egnp.exe\u202C and \u2066\u2067\u2068 unclosed',
  'many lines': 'line\n'.repeat(6000),
  'markup as text': '<img src=x onerror="pwned=1"><script>pwned=1</script>',
  'closing marks': `https://example.org/${')'.repeat(30_000)}`,
};

let browser, alice, bob, room;

before(async () => {
  browser = await startBrowser();
  alice = await Person.at(browser, 'alice');
  bob = await Person.at(browser, 'bob');
  await alice.register();
  await bob.register();
  room = await alice.createRoom('Den of thieves');
  await alice.invite(bob);
  await bob.roomRow('Den of thieves').click();
  await bob.page.getByRole('button', { name: 'Join' }).click();
  await bob.box.waitFor();
  await bob.page.evaluate(() => (window.pwned = 0));
});
after(() => browser?.close());

/** What must hold after each message. */
async function holds(name) {
  const found = await bob.page.evaluate(() => {
    const log = document.querySelector('main');
    // Wherever words of others stand: messages, threads, quotes, lists beside, rows of rooms.
    const said = [...document.querySelectorAll('.said, bdi, [dir=auto], .reaction-key, mark, .quote-text')];
    const all = said.flatMap((el) => [...el.querySelectorAll('*')]);
    return {
      pwned: window.pwned,
      scripts: document.querySelectorAll('script').length,
      tags: all.filter((el) => /^(script|style|iframe|object|embed|svg|math|form|input|button|textarea|template|img|link|meta|base|video|audio)$/i.test(el.localName)).map((el) => el.localName),
      attributes: all.flatMap((el) => [...el.attributes].map((one) => one.name)).filter((attribute) => !/^(href|rel|target|class|title|start|style|role|tabindex|aria-label|inert|dir)$/.test(attribute)),
      styles: all.filter((el) => [...el.style].some((property) => !property.startsWith('--said-'))).length,
      links: all.filter((el) => el.hasAttribute('href') && !/^(https?|ftp|mailto|magnet|matrix):|^#\//.test(el.getAttribute('href'))).map((el) => el.getAttribute('href')),
      // Everything said stays within the conversation's width and its own row.
      wide: log.scrollWidth > log.clientWidth || document.documentElement.scrollWidth > innerWidth,
      app: document.querySelectorAll('.app').length,
    };
  });
  assert.deepEqual(found, { pwned: 0, scripts: 1, tags: [], attributes: [], styles: 0, links: [], wide: false, app: 1 }, name);
}

async function arrives(id) {
  await until(() => bob.page.evaluate((event) => Boolean(document.querySelector(`[data-event-id="${CSS.escape(event)}"]`)), id), 'the message');
}

test('hostile formatted bodies', async (t) => {
  for (const [name, html] of Object.entries(BODIES)) {
    await t.test(name, async () => {
      const id = await send(alice, room, { msgtype: 'm.text', body: name, format: 'org.matrix.custom.html', formatted_body: html });
      await arrives(id);
      await holds(name);
    });
  }
});

test('hostile plain bodies', async (t) => {
  for (const [name, body] of Object.entries(TEXTS)) {
    await t.test(name, async () => {
      await arrives(await send(alice, room, { msgtype: 'm.text', body }));
      await holds(name);
    });
  }
});

test('malformed events', async (t) => {
  const contents = {
    'no body': { msgtype: 'm.text' },
    'body is a number': { msgtype: 'm.text', body: 7 },
    'formatted body is an object': { msgtype: 'm.text', body: 'x', format: 'org.matrix.custom.html', formatted_body: { a: 1 } },
    'unknown kind': { msgtype: 'org.example.dance', body: 'dances' },
    'a file with a name that means harm': { msgtype: 'm.file', body: '<img src=x onerror=pwned=1>\u202Efdp.exe', url: 'javascript:pwned=1', info: { size: -5 } },
    'relates to nonsense': { msgtype: 'm.text', body: 'relates', 'm.relates_to': 'nonsense' },
    'an edit of nothing': { msgtype: 'm.text', body: 'edit', 'm.relates_to': { rel_type: 'm.replace', event_id: 4 } },
  };
  for (const [name, content] of Object.entries(contents)) {
    await t.test(name, async () => {
      // A server may be stricter than this; other servers are not.
      await send(alice, room, content).catch((error) => assert.match(error.message, /: 400 /));
      await send(alice, room, { msgtype: 'm.text', body: `after: ${name}` });
      await bob.sees(`after: ${name}`);
      await holds(name);
    });
  }
});

test('links in what is left lead only where they say, and tell nothing', async () => {
  const id = await send(alice, room, { msgtype: 'm.text', body: 'l', format: 'org.matrix.custom.html', formatted_body: '<a href="https://example.org/" target="_top" rel="opener">good</a>' });
  await arrives(id);
  const link = bob.log.getByRole('link', { name: 'good' });
  assert.equal(await link.getAttribute('rel'), 'noopener noreferrer nofollow');
  assert.equal(await link.getAttribute('target'), '_blank');
});

test('hostile names of people and rooms', async () => {
  const name = `<img src=x onerror=pwned=1> ${ZALGO} \u202Eeno`;
  const { userId } = await alice.session();
  await alice.call('PUT', `/profile/${encodeURIComponent(userId)}/displayname`, { displayname: name.slice(0, 200) });
  await alice.call('PUT', `/rooms/${encodeURIComponent(room)}/state/m.room.name/`, { name });
  await alice.call('PUT', `/rooms/${encodeURIComponent(room)}/state/m.room.topic/`, { topic: `${name}\n`.repeat(50) });
  await send(alice, room, { msgtype: 'm.emote', body: 'waves' });
  await bob.sees('waves');
  await holds('names');
  await bob.shot('hostile-names');
});

test('hostile reactions', async () => {
  const id = await send(alice, room, { msgtype: 'm.text', body: 'React to this' });
  await bob.sees('React to this');
  for (const key of ['<img src=x onerror=pwned=1>', `${ZALGO}`, '\u202Egnp.exe', 'w'.repeat(500), '<script>pwned=1</script>', '👍'.repeat(300)]) {
    await send(alice, room, { 'm.relates_to': { rel_type: 'm.annotation', event_id: id, key } }, 'm.reaction').catch((error) => assert.match(error.message, /: 400 /));
  }
  await bob.message('React to this').getByRole('button', { name: '<script>' }).waitFor();
  await holds('reactions');
});

test('hostile names of files', async () => {
  for (const filename of ['<img src=x onerror=pwned=1>.png', 'invoice\u202Efdp.exe', '../../../etc/passwd', `${ZALGO}.txt`, `${'n'.repeat(3000)}.txt`, '\u0000\n\r.txt', 'CON']) {
    await send(alice, room, { msgtype: 'm.file', body: filename, filename, url: 'mxc://localhost/abc', info: { size: 12, mimetype: 'text/html' } });
  }
  await bob.sees('.._.._.._etc_passwd');
  await holds('file names');
  const shown = await bob.log.locator('.attachment-name').allTextContents();
  assert.ok(shown.every((name) => !/[\u202a-\u202e\u2066-\u2069\u0000-\u001f/\\]/.test(name)), 'no name looks like another');
  const pictures = [{ w: 1e9, h: 1 }, { w: 1, h: 1e9 }, { w: -5, h: 'x' }, { w: 5e4, h: 5e4, 'chat.hearth.color': 'red;position:fixed' }];
  for (const info of pictures) await send(alice, room, { msgtype: 'm.image', body: 'p.png', url: 'mxc://localhost/abc', info, formatted_body: 7 }).catch((error) => assert.match(error.message, /: 400 /));
  await send(alice, room, { msgtype: 'm.text', body: 'after the pictures' });
  await bob.sees('after the pictures');
  await holds('measures of pictures');
});

test('answers, threads, pins and lists of hostile messages', async () => {
  const html = `<img src=x onerror=pwned=1><b>${ZALGO}</b>${'<div>'.repeat(10_000)}deep`;
  const id = await send(alice, room, { msgtype: 'm.text', body: `<img src=x onerror=pwned=1>${ZALGO} root`, format: 'org.matrix.custom.html', formatted_body: html });
  await send(alice, room, { msgtype: 'm.text', body: 'an answer', 'm.relates_to': { 'm.in_reply_to': { event_id: id } } });
  await send(alice, room, { msgtype: 'm.text', body: '<script>pwned=1</script> in the thread', format: 'org.matrix.custom.html', formatted_body: `${html}<script>pwned=1</script>`, 'm.relates_to': { rel_type: 'm.thread', event_id: id } });
  await alice.call('PUT', `/rooms/${encodeURIComponent(room)}/state/m.room.pinned_events/`, { pinned: [id, '$nothing', 7, { a: 1 }] }).catch((error) => assert.match(error.message, /: 400 /));
  await bob.sees('an answer');
  await bob.log.getByRole('link', { name: /1 reply/ }).click();
  const thread = bob.page.getByRole('complementary', { name: 'Thread' });
  await thread.getByText('deep').first().waitFor();
  await holds('a thread');
  await bob.page.goto(`${new URL(bob.page.url()).origin}/#/room/${room}/pins`);
  await bob.page.getByRole('complementary', { name: 'Pinned messages' }).waitFor();
  await holds('pins');
  await bob.page.goto(`${new URL(bob.page.url()).origin}/#/room/${room}/members`);
  await bob.page.getByRole('complementary', { name: 'Members' }).waitFor();
  await holds('members');
});

test('hostile results of a search', async () => {
  const result = (body) => ({ rank: 1, result: { type: 'm.room.message', event_id: '$x', sender: '@<img src=x onerror=pwned=1>:here', origin_server_ts: 1e99, room_id: room, content: { msgtype: 'm.text', body } } });
  await bob.page.route('**/v3/search*', (route) =>
    route.fulfill({ json: { search_categories: { room_events: { count: 'many', highlights: ['<b>', '(', ZALGO, 7, '.*'], results: [result(`<img src=x onerror=pwned=1> <b>bold</b> (x ${ZALGO}`), result('w'.repeat(60_000)), { result: 7 }, null] } } } }),
  );
  await bob.page.goto(`${new URL(bob.page.url()).origin}/#/search`);
  await bob.page.getByRole('searchbox', { name: 'Search messages' }).fill('<b>');
  await bob.page.locator('mark').first().waitFor();
  await holds('search');
  await bob.page.unroute('**/v3/search*');
  await bob.page.goto(`${new URL(bob.page.url()).origin}/#/room/${room}`);
  await bob.box.waitFor();
});

test('what one types oneself is no markup either', async () => {
  await bob.page.getByRole('button', { name: 'Format and preview' }).click();
  for (const text of ['<img src=x onerror=pwned=1>', '[x](javascript:pwned=1)', '**<script>pwned=1</script>**', '```"><script>\nx\n```', '> '.repeat(500), '*'.repeat(3000), `@${ZALGO}`, ':<img']) {
    await bob.box.fill(text);
    await holds(`typing ${text.slice(0, 20)}`);
  }
  await bob.box.fill('');
  await bob.page.getByRole('button', { name: 'Format and preview' }).click();
});

test('bodies of 60 KB come and go without a long halt', async () => {
  const units = ['word ', '<b>x</b>', '<a href="https://example.org/">x</a>', '<table><tr><td>', '&lt;', '\u202E'];
  for (const unit of units) await send(alice, room, { msgtype: 'm.text', body: 'big', format: 'org.matrix.custom.html', formatted_body: unit.repeat(55_000 / Buffer.byteLength(JSON.stringify(unit))) });
  await send(alice, room, { msgtype: 'm.text', body: 'after the big ones' });
  await bob.sees('after the big ones');
  await holds('60 KB');
});

test('the page’s policy stops what the code would never do', async () => {
  const policy = (await (await fetch(bob.client)).headers).get('content-security-policy');
  for (const part of ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"]) assert.ok(policy.includes(part), part);
  assert.doesNotMatch(policy, /unsafe|script-src[^;]*(http|blob|data)/);
  const threw = await bob.page.evaluate(() => {
    const tries = [() => (document.createElement('div').innerHTML = '<b>x</b>'), () => trustedTypes.createPolicy('other', {}), () => document.body.append(Object.assign(document.createElement('script'), { text: 'window.pwned = 1' }))];
    return tries.map((attempt) => {
      try {
        attempt();
        return 'ran';
      } catch (error) {
        return error.name;
      }
    });
  });
  assert.ok(!threw.includes('ran'), threw.join());
  assert.equal(await bob.page.evaluate(() => window.pwned), 0);
  bob.errors.length = 0;
});

test('each can be deleted', async () => {
  const id = await send(alice, room, { msgtype: 'm.text', body: 'x', format: 'org.matrix.custom.html', formatted_body: `${BODIES['nested deeper']}${ZALGO}` });
  await until(() => alice.page.evaluate((event) => Boolean(document.querySelector(`[data-event-id="${CSS.escape(event)}"]`)), id), 'the message');
  const row = alice.page.locator(`[data-event-id="${id}"]`);
  await alice.act(row, 'Delete message');
  await alice.page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await bob.page.locator(`[data-event-id="${id}"]`).getByText('Message deleted').waitFor();
});

test('no console errors', () => {
  for (const person of [alice, bob]) {
    // Chromium tells of each handler, style and base that the page's policy keeps inert in the
    // parsed document, which is never shown: that is the policy at work.
    person.errors = person.errors.filter((text) => !/^(Executing inline event handler|Applying inline style|Setting the document's base URI)/.test(text));
    person.noErrors();
  }
});
