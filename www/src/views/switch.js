// The two parts of the page, of which one is shown.

import { byId } from '../dom.js';

export function showView(name) {
  for (const view of ['talk', 'files']) byId(view).hidden = view !== name;
  for (const link of byId('parts').querySelectorAll('a')) {
    if (link.dataset.part === name) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  document.body.dataset.view = name;
}
