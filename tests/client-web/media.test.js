/** Pictures and files: addresses, the token in the header, what is kept, uploads with progress. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Api, ApiError } from '../../client-web/matrix/api.js';
import { Media, parseMxc } from '../../client-web/matrix/media.js';

function media(answer, Request) {
  const calls = [];
  const fetch = async (url, options) => {
    calls.push({ url, ...options });
    return answer(url);
  };
  const made = [];
  const revoked = [];
  const url = { createObjectURL: (blob) => (made.push(blob), `blob:${made.length}`), revokeObjectURL: (one) => revoked.push(one) };
  return { it: new Media(new Api({ base: 'https://here.example', token: 'secret', fetch }), { url, Request }), calls, made, revoked };
}

test('only mxc addresses are addresses', () => {
  assert.deepEqual(parseMxc('mxc://here.example:8448/AbC-1_2'), { server: 'here.example:8448', id: 'AbC-1_2' });
  for (const wrong of ['https://evil.example/x', 'mxc://here/../../x', 'mxc://here/', 'mxc:///x', 'mxc://here/a?b', 7, null]) assert.equal(parseMxc(wrong), null);
});

test('a picture is asked for once, with the token in the header', async () => {
  const { it, calls } = media(() => new Response('picture', { status: 200 }));
  const size = { width: 80, height: 80, crop: true };
  assert.deepEqual(await Promise.all([it.picture('mxc://a/b', size), it.picture('mxc://a/b', size)]), ['blob:1', 'blob:1']);
  assert.equal(await it.picture('mxc://a/b', size), 'blob:1');
  assert.equal(calls.length, 1);
  assert.equal(calls[0].url, 'https://here.example/_matrix/client/v1/media/thumbnail/a/b?width=80&height=80&method=crop');
  assert.equal(calls[0].headers.Authorization, 'Bearer secret');
});

test('what is kept is bounded, and what goes is revoked', async () => {
  const { it, calls, revoked } = media(() => new Response(new Uint8Array(10_000_000), { status: 200 }));
  for (let n = 0; n < 8; n++) await it.picture(`mxc://a/${n}`);
  assert.equal(revoked.length, 4);
  await it.picture('mxc://a/7');
  assert.equal(calls.length, 8, 'the latest is still here');
  await it.picture('mxc://a/0');
  assert.equal(calls.length, 9, 'the oldest is asked for anew');
});

test('what is not there, and a network that is gone, are told apart', async () => {
  const { it } = media(() => new Response('{"errcode":"M_NOT_FOUND"}', { status: 404 }));
  await assert.rejects(it.picture('mxc://a/b'), (error) => error instanceof ApiError && error.status === 404);
  await assert.rejects(it.picture('https://evil.example/x.png'), (error) => error.status === 404);
  const gone = media(() => Promise.reject(new TypeError('network')));
  await assert.rejects(gone.it.picture('mxc://a/b'), (error) => error.status === 0);
});

test('an upload tells how far it is, and can be cancelled', async () => {
  const sent = [];
  class Request {
    upload = {};
    headers = {};
    open(method, url) {
      Object.assign(this, { method, url });
    }
    setRequestHeader(name, value) {
      this.headers[name] = value;
    }
    send(body) {
      sent.push(Object.assign(this, { body }));
    }
    abort() {
      this.aborted = true;
    }
    answer(status, body) {
      Object.assign(this, { status, responseText: JSON.stringify(body) });
      this.onload();
      this.onloadend();
    }
  }
  const { it } = media(() => {}, Request);
  const shares = [];
  const done = it.upload(new Blob(['12345678'], { type: 'text/plain' }), { name: 'a b.txt', onProgress: (share) => shares.push(share) });
  sent[0].upload.onprogress({ lengthComputable: true, loaded: 4, total: 8 });
  sent[0].answer(200, { content_uri: 'mxc://here/x' });
  assert.equal(await done, 'mxc://here/x');
  assert.deepEqual(shares, [0.5]);
  assert.ok(sent[0].url.endsWith('/_matrix/media/v3/upload?filename=a%20b.txt'));
  assert.equal(sent[0].headers['Content-Type'], 'text/plain');

  const cancel = new AbortController();
  const other = it.upload(new Blob(['x']), { signal: cancel.signal });
  cancel.abort();
  await assert.rejects(other, { name: 'AbortError' });
  assert.ok(sent[1].aborted);

  const refused = it.upload(new Blob(['x']));
  sent[2].answer(413, { errcode: 'M_TOO_LARGE' });
  await assert.rejects(refused, (error) => error.code === 'M_TOO_LARGE');
});
