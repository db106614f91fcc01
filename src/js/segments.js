// The worker of src/platform/web/segments.rs: only here does a browser write to a file without copying it first.
// Each message is [id, what, ...]; its answer is [id, error?, result?]. They are served one after another.

/** Both sides must be of one version of the package. */
const PROTOCOL = 1;
const SEGMENT_BYTES = 64 * 1024 * 1024;
/** More at once takes larger pieces of memory, which may be slow to get: see segments.rs. */
const WRITE_BYTES = 256 * 1024;
const MAX_OPEN = 8;

let name;
let release;
let maxValue;
/** The database's folder, as long as it is ours. */
let folder;
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
  handle.flush();
  handle.close();
}

/** Appends all or nothing, and says where. */
async function append(bytes) {
  if (active && active.end + bytes.length > SEGMENT_BYTES) active = undefined;
  if (!active) {
    const handle = await handleOf(next, true);
    active = { segment: next, handle, end: handle.getSize() };
    next += 1;
  }
  const { segment, handle, end: offset } = active;
  try {
    for (let from = 0; from < bytes.length; from += WRITE_BYTES) {
      const piece = bytes.subarray(from, from + WRITE_BYTES);
      const written = handle.write(piece, { at: offset + from });
      // Without room, a page of a private window in Chromium is told a number that no write has.
      if (written !== piece.length) throw new DOMException('no room', 'QuotaExceededError');
    }
  } catch (error) {
    // What was written of it must not take the last room.
    handle.truncate(offset);
    throw error;
  }
  active.end += bytes.length;
  return [segment, offset];
}

/** The bytes at a place, in what `into` makes for them; undefined if they are not there. */
async function read([segment, offset, length], into) {
  if (length > maxValue) return undefined;
  try {
    const handle = await handleOf(segment);
    const bytes = into(length);
    return handle.read(bytes, { at: offset }) === length ? bytes : undefined;
  } catch (error) {
    if (['NotFoundError', 'NotReadableError'].includes(error.name)) return undefined;
    throw error;
  }
}

/** Of segment, offset, length, and so on. */
function* each(places) {
  for (let at = 0; at < places.length; at += 3) yield places.subarray(at, at + 3);
}

const serve = {
  /** Waits until no other worker has the folder. */
  async lock(protocol, folderName, largest) {
    if (protocol !== PROTOCOL) throw new Error(`this is segments.js of another version: ${PROTOCOL}, not ${protocol}`);
    name = folderName;
    maxValue = largest;
    await new Promise((granted, refused) => {
      const held = new Promise((resolve) => (release = resolve));
      navigator.locks.request(`tabpeer segments ${name}`, () => (granted(), held)).catch(refused);
    });
  },
  /** New segments get numbers above `above` and those there are; answers the latter. */
  async open(above) {
    const root = await navigator.storage.getDirectory();
    folder = await (await root.getDirectoryHandle('tabpeer', { create: true })).getDirectoryHandle(name, { create: true });
    const segments = [];
    for await (const key of folder.keys()) if (/^[1-9]\d{0,8}$/.test(key)) segments.push(Number(key));
    const newest = Math.max(0, ...segments);
    next = Math.max(above, newest) + 1;
    if (newest > 0 && newest >= above) {
      // Goes on where the last visit ended, or a new file would be left behind by each visit.
      const handle = await handleOf(newest).catch(() => undefined);
      if (handle?.getSize() < SEGMENT_BYTES) active = { segment: newest, handle, end: handle.getSize() };
    }
    return segments;
  },
  async append(buffer, length) {
    return { result: [...(await append(new Uint8Array(buffer, 0, length))), buffer], transfer: [buffer] };
  },
  async read(places) {
    const result = [];
    for (const place of each(places)) result.push((await read(place, (length) => new Uint8Array(length)))?.buffer);
    return { result, transfer: result.filter(Boolean) };
  },
  /** Copies what is at the places to the end; answers where each is then, segment 0 for what is not there. */
  async copy(places) {
    const copied = [];
    const before = active && { ...active };
    try {
      for (const place of each(places)) {
        const bytes = await read(place, (length) => {
          if (scratch.length < length) scratch = new Uint8Array(length);
          return scratch.subarray(0, length);
        });
        copied.push(...(bytes ? await append(bytes) : [0, 0]), place[2]);
      }
    } catch (error) {
      // No room: nothing refers to what was copied so far.
      if (before && active?.segment === before.segment) active.end = before.end;
      throw error;
    }
    // It may be old, and must not get lost with what was written last. (A closed handle was flushed.)
    for (const handle of handles.values()) handle.flush();
    return copied;
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
    handles.get(segment)?.close();
    handles.delete(segment);
    await folder.removeEntry(`${segment}`).catch((error) => {
      if (error.name !== 'NotFoundError') throw error;
    });
  },
  close() {
    for (const [segment, handle] of handles) close(segment, handle);
    active = undefined;
    folder = undefined;
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
