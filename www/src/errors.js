// What a person is told when something fails. The technical text stays one click away.

const SENTENCES = {
  ALREADY_OPEN: 'This peer is already open in another tab of this browser. Close that tab, then reload this one.',
  ALREADY_STARTED: 'That is running already.',
  BAD_ARGUMENT: 'That input cannot be used.',
  BAD_CONTENT: 'This is not a valid file or folder.',
  BUSY: 'Too much is going on at once. Try again in a moment.',
  CANCELLED: 'Cancelled.',
  CLOSED: 'The peer was closed. Reload the page to start it again.',
  CORRUPT_BLOCK: 'A part of this file was damaged in this browser’s storage. Get it again from a peer that has it.',
  INVALID_ADDRESS: 'That is not an address this browser can reach.',
  INVALID_CID: 'That is not a CID. A CID is a long word such as bafkrei… or Qm…',
  INVALID_KEY: 'That is not a peer key.',
  INVALID_PATH: 'That name cannot be used. Leave out empty parts and “..”, and keep it short.',
  INVALID_PEER_ID: 'That is not a peer id. A peer id looks like 12D3Koo…',
  IS_A_DIRECTORY: 'There is a folder of that name already.',
  LOAD_FAILED: 'A part of this page could not be loaded. Check the connection and reload.',
  NOT_A_DIRECTORY: 'A file is in the way: a folder is needed there.',
  NOT_FOUND: 'Nobody who was asked has it. Its peer may be offline.',
  PEER_UNREACHABLE: 'That peer cannot be reached. It may be offline, or at another relay.',
  PROTOCOL: 'The other peer answered in a way that makes no sense.',
  QUOTA_EXCEEDED: 'This browser’s storage is full; nothing was lost. Removing your own files may help; files got from others stay until the site’s data is cleared.',
  STORAGE: 'This browser’s storage failed.',
  TIMEOUT: 'That took too long. Try again.',
  TOO_LARGE: 'That is larger than is allowed.',
  UNACKNOWLEDGED: 'That peer was reached, but did not take the message. It may be busy.',
  UNSUPPORTED: 'The other peer does not offer that.',
  WRONG_CONTENT: 'A peer sent something else than what was asked for. It was thrown away.',
};

/** A sentence for the person and the text for whoever helps them. */
export function explain(error) {
  if (error?.name === 'AbortError') return { sentence: 'Cancelled.', technical: '' };
  const known = Object.hasOwn(SENTENCES, error?.code) ? SENTENCES[error.code] : undefined;
  const technical = [error?.code, error?.message ?? String(error)].filter(Boolean).join(': ');
  return { sentence: known ?? 'Something went wrong.', technical };
}
