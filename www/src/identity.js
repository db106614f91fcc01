// A second person in one browser: an identity that lives as long as its tab. Without one, the package keeps the browser's
// own, which only one tab at a time can be.

const KEY = 'tabpeer-demo:key';
/** libp2p's protobuf form of an Ed25519 key: its kind, then 64 bytes. */
const ED25519 = [8, 1, 18, 64];

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
  const { privateKey } = await crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify']);
  const { d, x } = await crypto.subtle.exportKey('jwk', privateKey);
  const bytes = [...ED25519, ...decoded(d), ...decoded(x)];
  sessionStorage.setItem(KEY, btoa(String.fromCharCode(...bytes)));
  location.reload();
}

function decoded(base64url) {
  const text = atob(base64url.replaceAll('-', '+').replaceAll('_', '/'));
  return Array.from(text, (letter) => letter.charCodeAt(0));
}
