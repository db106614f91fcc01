// `client.fetch()`: an ipfs:// address answered as a Response, by the rules of HTTP (RFC 9110: ranges,
// conditional requests) and of the path gateway.

/** Failures that say that it is not there; anything else that a fetch may meet is 502 or 504. */
const STATUS = {
  NOT_FOUND: 404,
  NOT_A_DIRECTORY: 404,
  TIMEOUT: 504,
  PEER_UNREACHABLE: 504,
  BAD_CONTENT: 502,
  WRONG_CONTENT: 502,
  CORRUPT_BLOCK: 502,
};

/** @param peer `resolve(cid, path, options)` and `get(cid, fallback, options)` of the client */
export async function respond(peer, resource, { method = 'GET', headers, signal } = {}) {
  signal?.throwIfAborted();
  const verb = String(method).toUpperCase();
  if (verb !== 'GET' && verb !== 'HEAD') {
    throw new TypeError(`fetch: ${verb} is not possible, only GET and HEAD are`);
  }
  const { cid, path } = address(resource);
  const asked = new Headers(headers);
  try {
    const found = await find(peer, cid, path, signal);
    if (found.listing) return json(found, asked, verb);
    return await file(peer, found, asked, verb, signal, `/ipfs/${cid}${path && `/${path}`}`);
  } catch (error) {
    const status = STATUS[error?.code];
    if (!status) throw error;
    return text(status, error.message, verb);
  }
}

/** `ipfs://CID/path`, `/ipfs/CID/path` or an http(s) address of that path. */
function address(resource) {
  const url = new URL(String(resource), 'http://localhost');
  const whole = url.protocol === 'ipfs:' ? `${url.host}${url.pathname}` : url.pathname.replace(/^\/ipfs\//, '');
  const [cid, ...parts] = whole.replace(/^\/+/, '').split('/');
  if (!cid || (url.protocol !== 'ipfs:' && !url.pathname.startsWith('/ipfs/'))) {
    throw new TypeError(`fetch: '${resource}' is not ipfs://CID/path`);
  }
  return { cid, path: decodeURIComponent(parts.filter(Boolean).join('/')) };
}

async function find(peer, cid, path, signal) {
  let at = path ? await peer.resolve(cid, path, { signal }) : { cid, type: undefined };
  if (at.type === 'file') return { cid: at.cid, name: path };
  const content = await peer.get(at.cid, undefined, { signal, stream: true });
  if (content.type === 'file') return { cid: at.cid, name: path, content };
  const index = content.entries['index.html'];
  return index ? { cid: index, name: 'index.html' } : { cid: at.cid, listing: content.entries };
}

async function file(peer, { cid, name, content }, asked, verb, signal, path) {
  const etag = `"${cid}"`;
  const headers = new Headers({
    'accept-ranges': 'bytes',
    'cache-control': 'public, max-age=29030400, immutable',
    etag,
    'x-ipfs-path': path,
  });
  if (matches(asked.get('if-none-match'), etag)) return new Response(null, { status: 304, headers });
  const opened = content ?? (await peer.get(cid, undefined, { signal, stream: true }));
  headers.set('content-type', typeOf(name, opened.mimeType));
  const { size } = opened;
  const range = rangeOf(asked, etag, size);
  if (range === null) {
    headers.set('content-range', `bytes */${size}`);
    return new Response(null, { status: 416, headers });
  }
  const { start, end } = range ?? { start: 0, end: size };
  headers.set('content-length', String(end - start));
  if (range) headers.set('content-range', `bytes ${start}-${end - 1}/${size}`);
  const body = verb === 'HEAD' ? null : opened.stream(range);
  return new Response(body, { status: range ? 206 : 200, headers });
}

/** The one range that is asked for, `undefined` for the whole file, `null` for one beyond its end. */
function rangeOf(asked, etag, size) {
  const ifRange = asked.get('if-range');
  if (ifRange && ifRange !== etag) return undefined;
  // Several ranges at once may be answered with the whole.
  const parts = /^bytes=(\d*)-(\d*)$/.exec(asked.get('range')?.trim() ?? '');
  if (!parts || (!parts[1] && !parts[2])) return undefined;
  const [first, last] = [parts[1], parts[2]].map((digits) => (digits ? Number(digits) : undefined));
  if (first === undefined) {
    return last === 0 || size === 0 ? null : { start: Math.max(0, size - last), end: size };
  }
  if (last !== undefined && last < first) return undefined;
  if (first >= size) return null;
  return { start: first, end: Math.min(size, (last ?? size) + 1) };
}

function matches(header, etag) {
  return header?.split(',').some((tag) => ['*', etag].includes(tag.trim().replace(/^W\//, ''))) ?? false;
}

/** What a browser must know by the name, because the bytes do not tell. */
const BY_NAME = {
  css: 'text/css; charset=utf-8',
  html: 'text/html; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  json: 'application/json',
  mjs: 'text/javascript; charset=utf-8',
  svg: 'image/svg+xml',
  wasm: 'application/wasm',
};

function typeOf(name, sniffed) {
  return BY_NAME[/\.([a-z0-9]+)$/i.exec(name ?? '')?.[1].toLowerCase()] ?? sniffed;
}

function json({ cid, listing }, asked, verb) {
  const headers = new Headers({ 'content-type': 'application/json', etag: `"${cid}.json"` });
  if (matches(asked.get('if-none-match'), headers.get('etag'))) return new Response(null, { status: 304, headers });
  return new Response(verb === 'HEAD' ? null : JSON.stringify({ cid, entries: listing }), { headers });
}

function text(status, message, verb) {
  const headers = { 'content-type': 'text/plain; charset=utf-8' };
  return new Response(verb === 'HEAD' ? null : message, { status, headers });
}
