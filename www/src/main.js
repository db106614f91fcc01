// Starts the peer and puts the views together. Each view owns one part of the page.

import { peer } from './peer.js';
import { openLink } from './link.js';
import * as browse from './views/browse.js';
import * as get from './views/get.js';
import * as header from './views/header.js';
import * as mine from './views/mine.js';
import { problem } from './views/notices.js';
import * as store from './views/store.js';

header.show();
try {
  await peer.start();
  for (const view of [header, store, mine, browse, get]) view.start?.();
  openLink();
  addEventListener('hashchange', openLink);
  document.body.dataset.ready = 'true';
} catch (error) {
  problem(error, 'The peer could not be started.');
}
