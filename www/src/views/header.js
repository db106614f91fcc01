// Who this peer is, whether it is connected, how much it stores.

import { coalesced } from '../coalesce.js';
import { byId, copyButton, element, idText, setText } from '../dom.js';
import { bytes, cut, short, undisguised } from '../format.js';
import { linkToPeer } from '../link.js';
import { peer } from '../peer.js';

/** Peers that are listed. */
const PEERS_SHOWN = 50;

const RELAY_STATES = {
  connecting: 'connecting…',
  connected: 'connected, getting a place for others to find this tab',
  reserved: 'connected',
  waiting: 'not reached, tried again soon',
  failed: 'cannot be reached from this browser',
};

export function show() {
  const status = byId('status');
  setText(status, peer.description);
  status.dataset.state = peer.state;
  if (byId('network').open) showNetwork();
}

peer.addEventListener('state', show);

export function start() {
  const { peerID, version } = peer.client;
  byId('peer-id').replaceWith(Object.assign(idText(peerID, short(peerID, 14, 8)), { id: 'peer-id' }));
  byId('peer-id-actions').append(copyButton('Copy peer id', peerID));
  byId('mine-actions').append(copyButton('Copy a link to my files', linkToPeer(peerID), 'link'));
  byId('version').textContent = version;
  showStorage();
  for (const event of ['tree', 'kept']) peer.addEventListener(event, showStorage);
  const network = byId('network');
  network.addEventListener('toggle', showNetwork);
  addEventListener('click', (event) => {
    if (!network.contains(event.target)) network.open = false;
  });
  network.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape') return;
    network.open = false;
    network.querySelector('summary').focus();
  });
}

/** Relays and connected peers, while somebody looks at them. */
function showNetwork() {
  const { relays = [], peers = [] } = peer.status ?? {};
  const relayRows = relays.map(({ relay, state, reason, latency }) => row(relay, [RELAY_STATES[state], reason, inMs(latency)]));
  const peerRows = peers
    .slice(0, PEERS_SHOWN)
    .map(({ peerID, route, latency, agent }) => row(short(peerID), [route === 'direct' ? 'direct' : 'through a relay', inMs(latency), agent]));
  if (peers.length > PEERS_SHOWN) peerRows.push(row(`and ${peers.length - PEERS_SHOWN} more`, []));
  byId('network-relays').replaceChildren(...(relayRows.length > 0 ? relayRows : [row('No relay is known.', [])]));
  byId('network-peers').replaceChildren(...(peerRows.length > 0 ? peerRows : [row('Nobody is connected.', [])]));
}

function row(what, facts) {
  const said = facts.filter(Boolean).map((fact) => cut(undisguised(fact), 200)).join(', ');
  return element('li', {}, element('span', {}, what), element('span', { class: 'muted' }, said));
}

function inMs(latency) {
  return latency === undefined ? '' : `${Math.round(latency)} ms`;
}

const showStorage = coalesced(async () => {
  try {
    const { used, quota, persistent } = await peer.client.storage();
    const of = quota === undefined ? '' : ` of ${bytes(quota)}`;
    byId('storage').textContent = `${bytes(used)}${of} used`;
    byId('storage').title = persistent
      ? 'The browser will not clear this storage by itself'
      : 'The browser may clear this storage when space runs short';
  } catch {
    byId('storage').textContent = '';
  }
});
