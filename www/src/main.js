// Starts the peer and puts the views together. Each view owns one part of the page.

import { becomeSomebody } from './identity.js';
import { openLink, openPart } from './link.js';
import { peer } from './peer.js';
import * as talk from './talk/views/talk.js';
import * as browse from './views/browse.js';
import * as get from './views/get.js';
import * as header from './views/header.js';
import * as mine from './views/mine.js';
import { problem } from './views/notices.js';
import * as store from './views/store.js';

header.show();
openPart();
try {
  await peer.start();
  for (const view of [header, store, mine, browse, get, talk]) view.start();
  openLink();
  addEventListener('hashchange', openLink);
  document.body.dataset.ready = 'true';
} catch (error) {
  const another = { label: 'Be somebody else in this tab', run: becomeSomebody };
  problem(error, 'The peer could not be started.', error?.code === 'ALREADY_OPEN' ? another : undefined);
}
