// A browser driven by as little as will do: the DevTools protocol over a pipe, with nothing switched on. Playwright
// watches the network of its pages, and so has every WebSocket frame sent to it once more; that took the browser more
// time than the transfers that are measured.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chromiumPath, SWITCHES } from '../e2e/browser.mjs';

/** Messages on the pipe end with it. */
const END = '\0';

export class Browser {
  #process;
  #exited;
  #session;
  #waiting = new Map();
  #last = 0;

  /** Starts a browser whose storage is in the folder `profile`, with `url` open in it. */
  static async open(profile, url) {
    const browser = new Browser();
    browser.#start(profile);
    try {
      const { targetId } = await browser.#send('Target.createTarget', { url: 'about:blank' });
      const { sessionId } = await browser.#send('Target.attachToTarget', { targetId, flatten: true });
      browser.#session = sessionId;
      await browser.#send('Page.navigate', { url });
      await browser.#evaluate(`new Promise((resolve) => {
        const look = () => (globalThis.bench === undefined ? setTimeout(look, 20) : resolve());
        look();
      })`);
      return browser;
    } catch (error) {
      await browser.close();
      throw error;
    }
  }

  /** Runs a function that the page offers as `bench`. */
  call(name, argument) {
    return this.#evaluate(`bench[${JSON.stringify(name)}](${JSON.stringify(argument) ?? ''})`);
  }

  /** Chooses a file of the disk in an `<input type="file">`. */
  async choose(selector, file) {
    const { root } = await this.#send('DOM.getDocument');
    const { nodeId } = await this.#send('DOM.querySelector', { nodeId: root.nodeId, selector });
    await this.#send('DOM.setFileInputFiles', { nodeId, files: [file] });
  }

  /** Opens another tab in front of the page. */
  async hide() {
    await this.#ask('Target.createTarget', { url: 'about:blank' });
  }

  /** What all processes of the browser have used of the processor so far, as the browser counts it. */
  async processorSeconds() {
    const { processInfo } = await this.#ask('SystemInfo.getProcessInfo');
    return processInfo.reduce((sum, { cpuTime }) => sum + cpuTime, 0);
  }

  collectGarbage() {
    return this.#send('HeapProfiler.collectGarbage');
  }

  async close() {
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      this.#session = undefined;
      this.#send('Browser.close').catch(() => {});
    }
    await this.#exited;
  }

  #start(profile) {
    const switches = [...SWITCHES, '--headless', '--no-default-browser-check', '--remote-debugging-pipe', `--user-data-dir=${profile}`];
    // Its third and fourth files are what it reads and writes.
    this.#process = spawn(chromiumPath(), switches, { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });
    this.#exited = once(this.#process, 'exit').then(() => this.#fail('the browser ended'));
    this.#process.on('error', (error) => this.#fail(error.message));
    let text = '';
    const answers = this.#process.stdio[4].setEncoding('utf8');
    answers.on('data', (piece) => {
      const messages = (text + piece).split(END);
      text = messages.pop();
      for (const message of messages) this.#answer(JSON.parse(message));
    });
    for (const pipe of [this.#process.stdio[3], answers]) pipe.on('error', (error) => this.#fail(error.message));
  }

  /** To the page, once there is one. */
  #send(method, params) {
    return this.#ask(method, params, this.#session);
  }

  /** To the browser, if to no session. */
  #ask(method, params = {}, sessionId = undefined) {
    return new Promise((resolve, reject) => {
      const id = (this.#last += 1);
      this.#waiting.set(id, { resolve, reject });
      this.#process.stdio[3].write(JSON.stringify({ id, method, params, sessionId }) + END);
    });
  }

  async #evaluate(expression) {
    const outcome = await this.#send('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true });
    const thrown = outcome.exceptionDetails;
    if (thrown) throw new Error(thrown.exception?.description ?? thrown.text);
    return outcome.result.value;
  }

  #answer({ id, result, error }) {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error) waiting?.reject(new Error(error.message));
    else waiting?.resolve(result);
  }

  #fail(reason) {
    for (const { reject } of this.#waiting.values()) reject(new Error(reason));
    this.#waiting.clear();
  }
}
