// `client.fetch`: what a page that knows HTTP expects of ipfs:// addresses.

import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { noise } from './fixtures.mjs';
import { Stage } from './harness.mjs';

const BIG = 3_000_000;
const HTML = '<!doctype html><title>index</title>';

describe('client.fetch', { timeout: 120_000 }, () => {
  let stage;
  let peer;
  let root;
  const big = noise(BIG, 41);
  before(async () => {
    stage = await Stage.open();
    const site = path.join(stage.folder, 'fetched');
    await mkdir(path.join(site, 'data'), { recursive: true });
    await mkdir(path.join(site, 'odd name ?#%'), { recursive: true });
    await writeFile(path.join(site, 'index.html'), HTML);
    await writeFile(path.join(site, 'style.css'), 'body{}');
    await writeFile(path.join(site, 'data/big.bin'), big);
    await writeFile(path.join(site, 'data/empty'), '');
    await writeFile(path.join(site, 'odd name ?#%/ä.txt'), 'odd');
    root = await stage.relay.add(site, { profile: 'unixfs-v1-2025' });
    peer = await stage.peer({ relays: [stage.relay.address('ws')] });
  });
  after(() => stage?.close());

  /** What `fetch` answered, the body as its hash and, if short, as text. */
  const ask = (address, init) =>
    peer.attempt(
      async (peer, { address, init }) => {
        const response = await peer.fetch(address, init);
        const { status, headers } = response;
        const body = await response.arrayBuffer();
        const text = body.byteLength < 2000 ? new TextDecoder().decode(body) : undefined;
        return { status, headers: Object.fromEntries(headers), length: body.byteLength, text, sha256: await sha256(body) };
      },
      { address, init },
    );
  const hash = (bytes) => peer.attempt((_, bytes) => sha256(new Uint8Array(bytes)), [...bytes]);

  test('a file below a directory', async () => {
    const { status, headers, length } = await ask(`ipfs://${root}/data/big.bin`);
    assert.deepEqual([status, length, headers['content-length'], headers['accept-ranges']], [200, BIG, String(BIG), 'bytes']);
    assert.match(headers.etag, /^"baf\w+"$/);
    const css = await ask(`/ipfs/${root}/style.css`);
    assert.deepEqual([css.status, css.headers['content-type'], css.text], [200, 'text/css; charset=utf-8', 'body{}']);
    const empty = await ask(`ipfs://${root}/data/empty`);
    assert.deepEqual([empty.status, empty.length, empty.headers['content-length']], [200, 0, '0']);
  });

  test('names that an address has to escape', async () => {
    const odd = await ask(`ipfs://${root}/${encodeURIComponent('odd name ?#%')}/${encodeURIComponent('ä.txt')}`);
    assert.deepEqual([odd.status, odd.text], [200, 'odd']);
  });

  test('HEAD has the headers and no body', async () => {
    const { status, headers, length } = await ask(`ipfs://${root}/data/big.bin`, { method: 'HEAD' });
    assert.deepEqual([status, length, headers['content-length']], [200, 0, String(BIG)]);
  });

  for (const [range, start, end] of [
    ['bytes=0-0', 0, 1],
    ['bytes=1048570-1048589', 1_048_570, 1_048_590],
    ['bytes=2999990-', 2_999_990, BIG],
    ['bytes=-5', BIG - 5, BIG],
    ['bytes=2999999-9999999', BIG - 1, BIG],
  ]) {
    test(`Range: ${range}`, async () => {
      const found = await ask(`ipfs://${root}/data/big.bin`, { headers: { Range: range } });
      assert.equal(found.status, 206);
      assert.equal(found.headers['content-range'], `bytes ${start}-${end - 1}/${BIG}`);
      assert.equal(found.headers['content-length'], String(end - start));
      assert.equal(found.sha256, await hash(big.subarray(start, end)));
    });
  }

  test('a range beyond the end is 416; nonsense is the whole', async () => {
    const beyond = await ask(`ipfs://${root}/data/big.bin`, { headers: { range: `bytes=${BIG}-` } });
    assert.deepEqual([beyond.status, beyond.headers['content-range'], beyond.length], [416, `bytes */${BIG}`, 0]);
    const nothing = await ask(`ipfs://${root}/data/empty`, { headers: { range: 'bytes=0-' } });
    assert.equal(nothing.status, 416);
    for (const range of ['bytes=5-2', 'lines=1-2', 'bytes=0-1,4-5', 'bytes=-']) {
      assert.equal((await ask(`ipfs://${root}/style.css`, { headers: { range } })).status, 200, range);
    }
  });

  test('If-None-Match and If-Range', async () => {
    const { etag } = (await ask(`ipfs://${root}/style.css`)).headers;
    for (const tag of [etag, `W/${etag}`, `"other", ${etag}`, '*']) {
      const found = await ask(`ipfs://${root}/style.css`, { headers: { 'if-none-match': tag } });
      assert.deepEqual([found.status, found.length, found.headers.etag], [304, 0, etag], tag);
    }
    const other = await ask(`ipfs://${root}/style.css`, { headers: { 'if-none-match': '"other"' } });
    assert.equal(other.status, 200);
    const part = (tag) => ask(`ipfs://${root}/style.css`, { headers: { range: 'bytes=0-1', 'if-range': tag } });
    assert.deepEqual([(await part(etag)).status, (await part('"other"')).status], [206, 200]);
  });

  test('a directory is its index.html, or its entries', async () => {
    for (const address of [`ipfs://${root}`, `ipfs://${root}/`]) {
      const index = await ask(address);
      assert.deepEqual([index.status, index.text, index.headers['content-type']], [200, HTML, 'text/html; charset=utf-8']);
    }
    const listing = await ask(`ipfs://${root}/data/`);
    assert.deepEqual([listing.status, listing.headers['content-type']], [200, 'application/json']);
    assert.deepEqual(Object.keys(JSON.parse(listing.text).entries), ['big.bin', 'empty']);
    const same = await ask(`ipfs://${root}/data`, { headers: { 'if-none-match': listing.headers.etag } });
    assert.equal(same.status, 304);
  });

  test('what is not there is 404', async () => {
    for (const name of ['nothing', 'data/nothing', 'style.css/below']) {
      const { status, headers } = await ask(`ipfs://${root}/${name}`);
      assert.deepEqual([status, headers['content-type']], [404, 'text/plain; charset=utf-8'], name);
    }
  });

  test('what is no address, no CID, no method', async () => {
    for (const address of ['https://relay.example/', 'ipfs://', 'hello']) {
      await assert.rejects(ask(address), { name: 'TypeError' }, address);
    }
    await assert.rejects(ask(`ipfs://${root}/style.css`, { method: 'POST' }), { name: 'TypeError' });
    await assert.rejects(ask(`ipfs://${root}/%zz`), (error) => ['TypeError', 'URIError'].includes(error.name));
    await assert.rejects(ask('ipfs://nonsense/x'), { name: 'PeerError', code: 'INVALID_CID' });
    await assert.rejects(ask(`ipfs://${root}/a/../../b%00`), { name: 'PeerError', code: 'INVALID_PATH' });
  });

  test('an abort, before and in the middle', async () => {
    const said = await peer.attempt(async (peer, address) => {
      const early = await failureOf(peer.fetch(address, { signal: AbortSignal.abort(new Error('before')) }));
      const abort = new AbortController();
      const { body } = await peer.fetch(address, { signal: abort.signal });
      const reader = body.getReader();
      await reader.read();
      abort.abort(new Error('in the middle'));
      const late = await failureOf(reader.read());
      return [early.message, late.message];
    }, `ipfs://${root}/data/big.bin`);
    assert.deepEqual(said, ['before', 'in the middle']);
  });

  test('the Response is one that the browser takes', async () => {
    const image = '<svg xmlns="http://www.w3.org/2000/svg" width="3" height="2"/>';
    const seen = await peer.attempt(async (peer, image) => {
      const { rootCid } = await peer.storeFile('pictures/a.svg', image);
      const response = await peer.fetch(new URL(`ipfs://${rootCid}/pictures/a.svg`));
      const copy = response.clone();
      const blob = await response.blob();
      return { type: blob.type, size: blob.size, text: await copy.text(), ok: response.ok };
    }, image);
    assert.deepEqual(seen, { type: 'image/svg+xml', size: image.length, text: image, ok: true });
  });

  test('the page is well', () => peer.works());
});
