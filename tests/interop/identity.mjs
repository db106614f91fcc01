// A throw-away Ed25519 identity in the form of Kubo's configuration. The library that Kubo comes in would make
// an RSA one, which no node of today has and which a browser peer does not verify.

import { generateKeyPairSync } from 'node:crypto';
import { base58btc } from 'multiformats/bases/base58';

/** Protobuf of libp2p's keys: the type Ed25519, then the key's bytes with their length. */
const PUBLIC_HEADER = Buffer.from('08011220', 'hex');
const PRIVATE_HEADER = Buffer.from('08011240', 'hex');
/** Multihash `identity` of the 36 bytes of a public key. */
const IDENTITY_36 = Buffer.from('0024', 'hex');

export function newIdentity() {
  const { privateKey } = generateKeyPairSync('ed25519');
  const { x, d } = privateKey.export({ format: 'jwk' });
  const [open, secret] = [x, d].map((part) => Buffer.from(part, 'base64url'));
  const peerId = base58btc.baseEncode(Buffer.concat([IDENTITY_36, PUBLIC_HEADER, open]));
  return { peerId, privateKey: Buffer.concat([PRIVATE_HEADER, secret, open]).toString('base64') };
}
