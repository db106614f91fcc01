// Rooms, people, direct messages and files in conversations, as two people use them: two browser contexts and a relay.

import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { MESSAGES_MAX } from '../../www/src/talk/conversations.js';
import { NAME_MAX } from '../../www/src/talk/names.js';
import { KEPT_MESSAGES } from '../../www/src/talk/saved.js';
import { TEXT_MAX } from '../../www/src/talk/wire.js';
import { OUTPUT, Stage } from './harness.mjs';

const SVG = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 360" width="640" height="360">
<rect width="640" height="360" fill="#bfe3dc"/><circle cx="500" cy="90" r="48" fill="#ffd166"/>
<path d="M0 260 L150 130 L270 240 L370 160 L640 320 V360 H0 Z" fill="#0d7a6b"/></svg>`;
const MARKUP = '<img src=x onerror="document.title=1"><b>bold</b>';
const MINUTE = 60_000;

describe('talking', { timeout: 6 * MINUTE }, () => {
  let stage;
  let alice;
  let bob;
  const problems = [];
  before(async () => {
    stage = await Stage.open({ page: true });
    alice = await visit(await context({ colorScheme: 'light' }));
    bob = await visit(await context({ colorScheme: 'dark' }));
  });
  after(() => stage?.close());

  function context(options) {
    return stage.browser.newContext({ viewport: { width: 1180, height: 800 }, permissions: ['clipboard-read', 'clipboard-write'], ...options });
  }

  async function visit(context, at = '/') {
    const page = await context.newPage();
    page.setDefaultTimeout(MINUTE);
    page.on('pageerror', (error) => problems.push(error.message));
    page.on('console', (message) => {
      if (message.type() === 'error') problems.push(message.text());
    });
    await page.goto(stage.origin + at);
    await page.waitForSelector('body[data-ready]');
    await page.waitForSelector('#status[data-state="online"]');
    return Object.assign(page, { id: await page.getAttribute('#peer-id', 'data-id') });
  }

  async function write(page, text) {
    await page.fill('#text', text);
    await page.press('#text', 'Enter');
  }

  const lastOf = (page, mine) => page.locator(`.message[data-mine="${mine}"]`).last();

  /** The last message of the other side is this one. */
  async function hears(page, text) {
    await page.waitForFunction((text) => [...document.querySelectorAll('.message[data-mine="false"]')].at(-1)?.querySelector('.text')?.textContent === text, text);
  }

  /** What became of the last message of one's own. */
  async function settled(page, state) {
    await page.waitForFunction((state) => [...document.querySelectorAll('.message[data-mine="true"]')].at(-1)?.dataset.state === state, state);
  }

  const facts = (page, pattern) =>
    page.waitForFunction((source) => new RegExp(source).test(document.querySelector('#conversation-facts').textContent), pattern.source);

  test('who opens the page is in the lobby, and sees who else is', async () => {
    for (const [page, other] of [[alice, bob], [bob, alice]]) {
      assert.equal(await page.textContent('#conversation-title'), 'lobby');
      await page.waitForSelector(`#here-list li[data-id="${other.id}"]`);
      await facts(page, /^2 people here$/);
    }
  });

  test('a name is told to those who are there', async () => {
    await alice.fill('#my-name', 'Alice');
    await alice.press('#my-name', 'Tab');
    await bob.waitForFunction((id) => document.querySelector(`#here-list li[data-id="${id}"] .who`).textContent === 'Alice', alice.id);
  });

  test('what is said in a room is heard, with who said it', async () => {
    await write(alice, 'Hello, everybody!');
    await hears(bob, 'Hello, everybody!');
    await settled(alice, 'sent');
    const by = await lastOf(bob, false).locator('.by').textContent();
    assert.equal(by, `Alice …${alice.id.slice(-6)}`);
    await bob.waitForFunction(() => document.querySelector('#said').textContent === 'Alice: Hello, everybody!');
    await write(bob, 'Hello, Alice.\n\nSecond line');
    await hears(alice, 'Hello, Alice.\n\nSecond line');
  });

  test('another room is joined by its name, and left', async () => {
    for (const page of [alice, bob]) {
      await page.fill('#join input', '# Tea Room');
      await page.press('#join input', 'Enter');
      await page.waitForFunction(() => document.querySelector('#conversation-title').textContent === 'tea-room');
      assert.match(page.url(), /#room=tea-room$/);
    }
    await facts(alice, /^2 people here$/);
    await write(alice, 'Tea?');
    await hears(bob, 'Tea?');
    assert.equal(await bob.locator('.message').count(), 1, 'the messages of the lobby are there');
    await bob.click('#conversation-actions button[aria-label^="Leave"]');
    await bob.waitForFunction(() => document.querySelector('#conversation-title').textContent === 'lobby');
    await facts(alice, /^only you are here$/);
    assert.equal(await bob.locator('#rooms li').count(), 1);
  });

  test('a link opens the conversation with its owner', async () => {
    await alice.click('#share');
    const link = await alice.evaluate(() => navigator.clipboard.readText());
    assert.equal(link, `${stage.origin}/?peer=${alice.id}`);
    await bob.goto(link);
    await bob.waitForSelector('#status[data-state="online"]');
    await bob.waitForFunction((id) => location.href.endsWith(`/#with=${id}`), alice.id);
    await facts(bob, /^online/);
    await bob.waitForFunction(() => document.querySelector('#conversation-title').textContent === 'Alice');
  });

  test('a direct message has two ticks when it is there, and is counted until it is read', async () => {
    await write(bob, 'A word in private');
    await settled(bob, 'delivered');
    assert.equal(await lastOf(bob, true).locator('.tick').getAttribute('aria-label'), 'Delivered');
    await alice.waitForFunction(() => document.title.startsWith('(1) '));
    await alice.click(`#others li[data-id="${bob.id}"] a`);
    await hears(alice, 'A word in private');
    await alice.waitForFunction(() => document.title === 'tabpeer');
    await write(alice, 'Yes?');
    await settled(alice, 'delivered');
    await hears(bob, 'Yes?');
  });

  test('a file that is dropped into the conversation arrives, and is shown', async () => {
    const transfer = await bob.evaluateHandle((svg) => {
      const data = new DataTransfer();
      data.items.add(new File([svg], 'landscape.svg', { type: 'image/svg+xml' }));
      return data;
    }, SVG);
    await bob.dispatchEvent('#conversation', 'dragenter', { dataTransfer: transfer });
    await bob.waitForSelector('#drop-here:visible');
    await bob.dispatchEvent('#conversation', 'drop', { dataTransfer: transfer });
    await settled(bob, 'delivered');
    const card = lastOf(alice, false).locator('.file-card');
    await card.waitFor();
    assert.equal(await card.locator('.lines').textContent(), `landscape.svgSVG image, ${Buffer.byteLength(SVG)} bytes`);
    await card.locator('button', { hasText: 'Get' }).click();
    await alice.waitForFunction(() => document.querySelector('.file-card img')?.naturalWidth === 640);
    const download = alice.waitForEvent('download');
    await card.locator('button', { hasText: 'Save' }).click();
    assert.equal((await download).suggestedFilename(), 'landscape.svg');
    // The sender has it among the files.
    await bob.click('#parts a[data-part="files"]');
    await bob.click('#my-tree details[data-path="shared"] > summary');
    await bob.waitForSelector('#my-tree .file[data-path="shared/landscape.svg"]');
    await bob.goBack();
    await bob.waitForSelector('#conversation:visible');
  });

  test('a file of some length is got with progress', async () => {
    await alice.evaluate(() => {
      globalThis.seen = [];
      new MutationObserver(() => seen.push([...document.querySelectorAll('.file-card progress')].at(-1)?.value)).observe(document.querySelector('#messages'), {
        subtree: true,
        childList: true,
        characterData: true,
      });
    });
    await bob.setInputFiles('#attach', { name: 'long.bin', mimeType: 'application/octet-stream', buffer: Buffer.alloc(12_000_000, 'tabpeer') });
    await settled(bob, 'delivered');
    const card = lastOf(alice, false).locator('.file-card');
    await card.locator('.who', { hasText: 'long.bin' }).waitFor();
    await card.locator('button', { hasText: 'Get' }).click();
    await card.locator('button', { hasText: 'Save' }).waitFor();
    const values = await alice.evaluate(() => seen);
    assert.ok(values.some((value) => value > 0 && value < 12_000_000), `progress was ${values.join(' ')}`);
  });

  test('a contact goes and comes back; what could not be delivered can be tried again', async () => {
    await alice.click('.keep');
    await alice.waitForSelector(`#contacts li[data-id="${bob.id}"][data-online="true"]`);
    const back = bob.url();
    await bob.goto('about:blank');
    await alice.waitForSelector(`#contacts li[data-id="${bob.id}"][data-online="false"]`);
    await facts(alice, /^offline/);
    await write(alice, 'Are you there?');
    await settled(alice, 'failed');
    assert.match(await lastOf(alice, true).locator('.trouble').textContent(), /^Not delivered\. That peer cannot be reached.*Try again$/);
    await bob.goto(back);
    await alice.waitForSelector(`#contacts li[data-id="${bob.id}"][data-online="true"]`);
    await lastOf(alice, true).locator('button', { hasText: 'Try again' }).click();
    await settled(alice, 'delivered');
    await hears(bob, 'Are you there?');
    // With the message that came after the reload, those from before are still there.
    assert.ok((await bob.locator('.message').count()) > 3);
  });

  test('a reload keeps name, contacts, rooms and what was said', async () => {
    const before = await alice.locator('.message').count();
    await alice.reload();
    await alice.waitForSelector('body[data-ready]');
    await alice.waitForSelector(`#contacts li[data-id="${bob.id}"][data-online="true"]`);
    assert.equal(await alice.inputValue('#my-name'), 'Alice');
    assert.deepEqual(await alice.locator('#rooms .who').allTextContents(), ['lobby', 'tea-room']);
    assert.equal(await alice.locator('.message').count(), before);
    assert.equal(await alice.textContent('#conversation-title'), await bob.evaluate(() => document.querySelector('#my-name').placeholder));
  });

  test('what a stranger sends is text, and bounded', async () => {
    const mallory = await stage.peer({ relays: [stage.relay.address('ws')] });
    const send = (data) =>
      mallory.attempt((peer, [to, data]) => peer.send(to, 'tabpeer-demo/direct/1', data), [bob.id, data]);
    const name = `${MARKUP}\u202eedoc`;
    await send({ type: 'text', id: 'm-1', name, text: `${MARKUP}\u202e${'x'.repeat(100_000)}` });
    for (const data of [null, 7, [], { type: 'text' }, { type: 'text', id: {}, text: 'no' }, { type: 'file', id: 'm', file: { cid: '../..', name: 'no' } }]) await send(data);
    await send({ type: 'file', id: 'm-2', name, file: { cid: 'bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy', name: `${MARKUP}\u202egnp.exe`, size: 1e300, mimeType: MARKUP } });
    await bob.click(`#others li[data-id="${mallory.peerID}"] a`);
    await bob.waitForFunction(() => document.querySelectorAll('.message').length === 2);
    assert.equal(await bob.locator('#messages :is(img, b)').count(), 0);
    const text = await bob.textContent('.message .text');
    assert.equal(text.length, TEXT_MAX);
    assert.ok(text.startsWith(MARKUP) && text.endsWith('…'));
    const shown = await bob.textContent('#conversation-title');
    assert.ok(shown.length <= NAME_MAX && shown.startsWith('<img'), shown);
    assert.match(await bob.textContent('.file-card .who'), /^.*\ufffdgnp\.exe$/);
    assert.equal(await bob.title(), 'tabpeer');

    // More messages than one would read.
    await mallory.attempt(async (peer, { to, count }) => {
      for (let n = 0; n < count; n += 1) await peer.send(to, 'tabpeer-demo/direct/1', { type: 'text', id: `n-${n}`, name: 'M', text: `message ${n}` });
    }, { to: bob.id, count: MESSAGES_MAX + 50 });
    await hears(bob, `message ${MESSAGES_MAX + 49}`);
    assert.equal(await bob.locator('.message').count(), MESSAGES_MAX);
    // It is remembered within a second, without more of it than is said.
    const kept = await bob.waitForFunction(
      ([id, last]) => {
        const { conversations } = JSON.parse(localStorage.getItem(`tabpeer-demo:${id}`));
        const { messages } = conversations.at(-1);
        return messages.at(-1)?.text === last && messages.length;
      },
      [bob.id, `message ${MESSAGES_MAX + 49}`],
    );
    assert.equal(await kept.jsonValue(), KEPT_MESSAGES);
    assert.deepEqual(mallory.problems, []);
    await mallory.leave();
  });

  test('a file that is larger than was said is not got unasked', async () => {
    const mallory = await stage.peer({ relays: [stage.relay.address('ws')] });
    await mallory.attempt(async (peer, to) => {
      const { fileCid } = await peer.storeFile('big.bin', new Uint8Array(3_000_000));
      await peer.send(to, 'tabpeer-demo/direct/1', { type: 'file', id: 'f', name: 'M', file: { cid: fileCid, name: 'small.bin', size: 10, mimeType: '' } });
    }, bob.id);
    await bob.click(`#others li[data-id="${mallory.peerID}"] a`);
    const card = bob.locator('.file-card');
    await card.locator('button', { hasText: 'Get' }).click();
    await card.locator('button', { hasText: 'Get it anyway' }).waitFor();
    assert.match(await card.textContent(), /did not say that it is so large: 3\.0 MB/);
    await card.locator('button', { hasText: 'Get it anyway' }).click();
    await card.locator('button', { hasText: 'Save' }).waitFor();
    await mallory.leave();
  });

  test('a flood in a room leaves the page usable', async () => {
    const mallory = await stage.peer({ relays: [stage.relay.address('ws')] });
    for (const page of [alice, bob]) await page.goto(`${stage.origin}/#room=lobby`);
    await mallory.attempt(async (peer) => {
      const topic = 'tabpeer-demo/room/lobby';
      await peer.subscribe(topic, () => {});
      await Promise.all(Array.from({ length: 600 }, (_, n) => peer.publish(topic, { type: 'text', id: `f-${n}`, name: '', text: `flood ${n}` })));
    });
    await hears(bob, 'flood 599');
    await write(alice, 'After the flood');
    await hears(bob, 'After the flood');
    assert.ok((await bob.locator('.message').count()) <= MESSAGES_MAX);
    await mallory.leave();
  });

  test('without the relay the page says that it is offline, and what failed goes out later', async () => {
    await stage.relay.kill();
    await alice.waitForSelector('#status[data-state="offline"]');
    await write(alice, 'Does anybody hear this?');
    await settled(alice, 'failed');
    assert.match(await lastOf(alice, true).locator('.trouble').textContent(), /You are offline/);
    await stage.relay.restart();
    for (const page of [alice, bob]) await page.waitForSelector('#status[data-state="online"]');
    await bob.waitForSelector(`#here-list li[data-id="${alice.id}"]`);
    await facts(alice, /^2 people here$/);
    await lastOf(alice, true).locator('button', { hasText: 'Try again' }).click();
    await settled(alice, 'sent');
    await hears(bob, 'Does anybody hear this?');
    // The browser itself reports connections that failed.
    problems.splice(0, problems.length, ...problems.filter((problem) => !/WebSocket|WebTransport|ERR_CONNECTION_REFUSED|QUIC/.test(problem)));
  });

  test('garbage in the storage costs what it held, no more', async () => {
    const garbage = JSON.stringify({ rooms: [7, MARKUP], contacts: [['1'.repeat(46), 'nobody']], conversations: [{ kind: 'with', id: {} }], name: {} });
    for (const record of ['{', garbage]) {
      const carol = await visit(await context({}));
      await carol.goto('about:blank');
      // A page of the same origin that runs no peer.
      await carol.goto(`${stage.origin}/peer.html`);
      await carol.evaluate(([key, record]) => localStorage.setItem(key, record), [`tabpeer-demo:${carol.id}`, record]);
      await carol.goto(stage.origin);
      await carol.waitForSelector('#status[data-state="online"]');
      await carol.waitForSelector('#conversation:visible');
      await carol.waitForFunction(() => document.querySelectorAll('#contacts li').length === 0);
      await carol.context().close();
    }
  });

  test('links that lead nowhere say so', async () => {
    const carol = await visit(await context({}), '/?peer=nobody');
    assert.match(await carol.textContent('#notices'), /The link names nobody/);
    await carol.evaluate(() => document.querySelector('#notices button').click());
    await carol.fill('#find input', 'nonsense');
    await carol.press('#find input', 'Enter');
    await carol.waitForFunction(() => /Nobody is named by that/.test(document.querySelector('#notices').textContent));
    await carol.goto(`${stage.origin}/?peer=${carol.id}`);
    await carol.waitForFunction(() => /your own/.test(document.querySelector('#notices').textContent));
    // As long as an id, and none.
    await carol.goto(`${stage.origin}/?peer=${'1'.repeat(46)}`);
    await carol.waitForFunction(() => /That is not a peer id/.test(document.querySelector('#notices').textContent));
    await carol.context().close();
  });

  test('a second tab of one browser can be somebody else, and stays so', async () => {
    const tab = await bob.context().newPage();
    await tab.goto(stage.origin);
    await tab.click('#notices button:has-text("Be somebody else")');
    const online = async () => {
      await tab.waitForSelector('#status[data-state="online"]');
      return tab.getAttribute('#peer-id', 'data-id');
    };
    const id = await online();
    assert.notEqual(id, bob.id);
    await bob.goto(`${stage.origin}/#room=lobby`);
    await tab.waitForSelector(`#here-list li[data-id="${bob.id}"]`);
    await write(tab, 'I am another');
    await hears(bob, 'I am another');
    await tab.reload();
    assert.equal(await online(), id);
    await tab.close();
  });

  test('everything can be reached by keyboard and has a name', async () => {
    await alice.goto(`${stage.origin}/#room=lobby`);
    const nameless = await alice.evaluate(() =>
      [...document.querySelectorAll('button, input, select, textarea, summary, progress, iframe, a')]
        .filter((control) => !(control.labels?.length || control.ariaLabel || control.textContent.trim() || control.title))
        .map((control) => control.outerHTML.slice(0, 120)),
    );
    assert.deepEqual(nameless, []);
    // From the list into the conversation, where the next thing is to write.
    await alice.focus('#rooms a');
    await alice.keyboard.press('Enter');
    await alice.focus('#attach');
    await alice.keyboard.press('Tab');
    await alice.keyboard.type('typed, not clicked');
    await alice.keyboard.press('Enter');
    await settled(alice, 'sent');
    assert.equal(await alice.evaluate(() => document.activeElement.id), 'text');
    assert.equal(await alice.inputValue('#text'), '');
  });

  test('it fits a telephone, and has its picture taken', async () => {
    await bob.goto(`${stage.origin}/#with=${alice.id}`);
    await bob.waitForFunction(() => document.querySelector('#conversation-title').textContent === 'Alice');
    for (const [name, page, width] of [['talk-light', alice, 1180], ['talk-dark', bob, 1180], ['talk-phone', bob, 360]]) {
      await page.setViewportSize({ width, height: 720 });
      await writeFile(path.join(OUTPUT, `${name}.png`), await page.screenshot());
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${name} scrolls sideways`);
      assert.ok(await page.evaluate(() => document.documentElement.scrollHeight <= innerHeight), `${name} scrolls as a whole`);
    }
    await bob.click('.back');
    await bob.waitForSelector('#rooms a:visible');
    assert.equal(await bob.isVisible('#text'), false);
    // What comes meanwhile was not seen.
    await alice.goto(`${stage.origin}/#with=${bob.id}`);
    await write(alice, 'Do you see this?');
    await bob.waitForSelector(`#contacts li[data-id="${alice.id}"] .unread:visible, #others li[data-id="${alice.id}"] .unread:visible`);
    await bob.click('#rooms a');
    await bob.waitForSelector('#text:visible');
  });

  test('nothing went wrong on the way', () => assert.deepEqual(problems, []));
});
