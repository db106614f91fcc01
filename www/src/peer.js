// Owns the peer of this tab: opens it, hears whether it is connected, tells the views.
//
// The package reconnects by itself; this module only makes its state visible.

import { connect } from 'tabpeer';
import { coalesced } from './coalesce.js';
import { ownKey } from './identity.js';

/** Emits `state` when `state` or `status` changed, `tree` when the tree of files did, `kept` when something was fetched. */
class PagePeer extends EventTarget {
  /** 'starting' | 'online' | 'offline' | 'failed' */
  state = 'starting';
  client = undefined;
  /** What the package said last of its relays and peers. */
  status = undefined;
  #wasOnline = false;

  async start() {
    // ?relay=… (an URL or multiaddr, may be repeated) for a page that no relay serves.
    const relays = new URLSearchParams(location.search).getAll('relay');
    try {
      this.client = await connect({ relays: relays.length > 0 ? relays : undefined, peerKey: ownKey() });
    } catch (error) {
      this.#enter('failed');
      throw error;
    }
    this.client.addEventListener('update', this.#look);
    this.client.addEventListener('close', () => this.#enter('failed'));
    this.#look();
    addEventListener('pagehide', (event) => {
      if (!event.persisted) this.client.close();
    });
  }

  /** What the status says in words. */
  get description() {
    switch (this.state) {
      case 'starting':
        return 'starting…';
      case 'online':
        return this.status?.reachable === 'no' ? 'connected, without a relay' : 'connected';
      case 'offline':
        return this.#wasOnline ? 'offline, reconnecting…' : 'offline, looking for a relay…';
      default:
        return 'not running';
    }
  }

  async storeFile(path, content, options) {
    const stored = await this.client.storeFile(path, content, options);
    this.#treeChanged();
    return stored;
  }

  async createDirectory(path) {
    const made = await this.client.createDirectory(path);
    this.#treeChanged();
    return made;
  }

  async removeFile(path) {
    const removed = await this.client.removeFile(path);
    this.#treeChanged();
    return removed;
  }

  #look = coalesced(async () => {
    try {
      this.status = await this.client.status();
    } catch {
      // It was closed meanwhile, which is told by an event of its own.
      return;
    }
    this.#enter(this.status.connected ? 'online' : 'offline');
  });

  #enter(state) {
    this.state = state;
    this.#wasOnline ||= state === 'online';
    this.dispatchEvent(new Event('state'));
  }

  #treeChanged() {
    this.dispatchEvent(new Event('tree'));
  }
}

export const peer = new PagePeer();
