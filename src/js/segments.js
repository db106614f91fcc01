// The worker of src/platform/web/segments.rs: only here does a browser write to a file without copying it first.
// Each message is [id, what, ...]; its answer is [id, error?, result?]. They are served one after another.

const SEGMENT_BYTES = 64 * 1024 * 1024;
const MAX_OPEN = 8;
const VALUE_BYTES = 4 * 1024 * 1024;

/** The database's folder. */
let folder;
let release;
/** Segment → its access handle; the one used last is last. */
const handles = new Map();
/** Where values are appended: { segment, handle, end }. */
let active;
/** The number of the next segment. */
let next = 1;
let scratch = new Uint8Array(0);

async function handleOf(segment, create = false) {
  let handle = handles.get(segment);
  if (handle) {
    handles.delete(segment);
  } else {
    const file = await folder.getFileHandle(`${segment}`, { create });
    handle = await file.createSyncAccessHandle();
    for (const [idle, open] of handles) {
      if (handles.size < MAX_OPEN) break;
      if (idle !== active?.segment) close(idle, open);
    }
  }
  handles.set(segment, handle);
  return handle;
}

function close(segment, handle) {
  handles.delete(segment);
  handle.close();
}

/** Appends and says where; what is left of a write that failed is overwritten by the next. */
async function append(bytes) {
  if (active && active.end + bytes.length > SEGMENT_BYTES) active = undefined;
  if (!active) {
    const handle = await handleOf(next, true);
    active = { segment: next, handle, end: handle.getSize() };
    next += 1;
  }
  const { segment, handle, end: offset } = active;
  // Without room, a page of a private window in Chromium is told a number that no write has.
  if (handle.write(bytes, { at: offset }) !== bytes.length) throw new DOMException('no room', 'QuotaExceededError');
  active.end += bytes.length;
  return [segment, offset];
}

/** The bytes at a place; undefined if they are not there. */
async function read(segment, offset, length, into) {
  if (length > VALUE_BYTES) return undefined;
  try {
    const handle = await handleOf(segment);
    return handle.read(into(length), { at: offset }) === length;
  } catch (error) {
    if (['NotFoundError', 'NotReadableError'].includes(error.name)) return undefined;
    throw error;
  }
}

const serve = {
  /** Waits until no other worker has the folder. Answers which segments there are. */
  async open(name, above) {
    await new Promise((granted, refused) => {
      const held = new Promise((resolve) => (release = resolve));
      navigator.locks.request(`tabpeer segments ${name}`, () => (granted(), held)).catch(refused);
    });
    const root = await navigator.storage.getDirectory();
    folder = await (await root.getDirectoryHandle('tabpeer', { create: true })).getDirectoryHandle(name, { create: true });
    const segments = [];
    for await (const key of folder.keys()) segments.push(Number(key));
    const newest = Math.max(0, ...segments);
    next = Math.max(above, newest) + 1;
    if (newest > 0) {
      // Goes on where the last visit ended, or a new file would be left behind by each visit.
      const handle = await handleOf(newest).catch(() => undefined);
      if (handle?.getSize() < SEGMENT_BYTES) active = { segment: newest, handle, end: handle.getSize() };
    }
    return segments;
  },
  async append(buffer, length) {
    return { result: [...(await append(new Uint8Array(buffer, 0, length))), buffer], transfer: [buffer] };
  },
  /** places: segment, offset, length, and so on. */
  async read(places) {
    const result = [];
    for (let at = 0; at < places.length; at += 3) {
      let buffer;
      const there = await read(...places.subarray(at, at + 3), (length) => new Uint8Array((buffer = new ArrayBuffer(length))));
      result.push(there ? buffer : undefined);
    }
    return { result, transfer: result.filter(Boolean) };
  },
  /** Copies what is at the places to the end; answers where each is now, segment 0 for what is lost. */
  async move(places) {
    const moved = [];
    for (let at = 0; at < places.length; at += 3) {
      const [segment, offset, length] = places.subarray(at, at + 3);
      if (scratch.length < length) scratch = new Uint8Array(Math.min(length, VALUE_BYTES));
      const there = await read(segment, offset, length, () => scratch.subarray(0, length));
      moved.push(...(there ? await append(scratch.subarray(0, length)) : [0, 0]), length);
    }
    return moved;
  },
  async size(segment) {
    return (await handleOf(segment)).getSize();
  },
  /** What is appended from now on goes elsewhere. */
  seal(segment) {
    if (active?.segment === segment) active = undefined;
  },
  async remove(segment) {
    serve.seal(segment);
    if (handles.has(segment)) close(segment, handles.get(segment));
    await folder.removeEntry(`${segment}`);
  },
  close() {
    for (const [segment, handle] of handles) close(segment, handle);
    active = undefined;
    release?.();
  },
};

let turn = Promise.resolve();
onmessage = ({ data: [id, what, ...rest] }) => {
  turn = turn.then(async () => {
    try {
      const answer = await serve[what](...rest);
      const { result, transfer } = answer?.transfer ? answer : { result: answer, transfer: [] };
      postMessage([id, undefined, result], transfer);
    } catch (error) {
      postMessage([id, { name: error.name, message: error.message }]);
    }
  });
};
