// Who this peer is, whether it is connected, how much it stores.

import { byId, copyButton, idText } from '../dom.js';
import { bytes, short } from '../format.js';
import { linkToPeer } from '../link.js';
import { peer } from '../peer.js';

export function show() {
  const status = byId('status');
  status.textContent = peer.description;
  status.dataset.state = peer.state;
}

peer.addEventListener('state', show);

export function start() {
  const { peerID, version } = peer.client;
  byId('peer-id').replaceWith(Object.assign(idText(peerID, short(peerID, 14, 8)), { id: 'peer-id' }));
  byId('peer-id-actions').append(
    copyButton('Copy peer id', peerID),
    copyButton('Copy a link to my files', linkToPeer(peerID), 'link'),
  );
  byId('version').textContent = version;
  showStorage();
  for (const event of ['tree', 'kept']) peer.addEventListener(event, showStorage);
}

let measuring = false;
let again = false;

/** Many changes in a row cost one more measurement, not one each. */
async function showStorage() {
  if (measuring) {
    again = true;
    return;
  }
  measuring = true;
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
  measuring = false;
  if (again) {
    again = false;
    showStorage();
  }
}
