// A second person in one browser: an identity that lives as long as its tab. Without one, the package keeps the browser's
// own, which only one tab at a time can be.

import { generatePeerKey } from 'tabpeer';

const KEY = 'tabpeer-demo:key';

/** The key of this tab, if it has one of its own. */
export function ownKey() {
  try {
    return sessionStorage.getItem(KEY) ?? undefined;
  } catch {
    return undefined;
  }
}

/** Where this tab remembers things. */
export function memory() {
  return ownKey() ? sessionStorage : localStorage;
}

/** Starts the page again, as somebody new. */
export async function becomeSomebody() {
  sessionStorage.setItem(KEY, await generatePeerKey());
  location.reload();
}
