// A round badge with somebody's initials, in the colour of their id.

import { element, setText } from '../../dom.js';
import { colour, initials } from '../names.js';

/** As many as style/talk.css has. */
const COLOURS = 8;

/** `{node, update(name, online)}`; `online` is left out where it does not matter. */
export function badge(id) {
  const letters = element('span', {});
  const node = element('span', { class: `badge colour-${colour(id, COLOURS)}`, 'aria-hidden': 'true' }, letters);
  return {
    node,
    update(name, online) {
      setText(letters, initials(name));
      if (online !== undefined) node.dataset.online = online;
    },
  };
}
