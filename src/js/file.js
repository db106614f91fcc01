// Files that were got, in the shapes that web code wants their bytes in.
import { now, settle } from './errors.js';

/** A file whose bytes are all here. */
export class FileContent {
  #base64;

  constructor({ cid, mimeType, bytes }) {
    this.type = 'file';
    this.cid = cid;
    this.mimeType = mimeType;
    // A copy of the properties, or their JSON, is what p2p-webapp gives: the content as base64, made when first asked for.
    Object.defineProperty(this, 'bytes', { value: bytes });
    Object.defineProperty(this, 'content', { get: () => (this.#base64 ??= base64(bytes)), enumerable: true });
  }

  get size() {
    return this.bytes.length;
  }

  async text() {
    return new TextDecoder().decode(this.bytes);
  }

  blob() {
    return new Blob([this.bytes], { type: this.mimeType });
  }

  stream() {
    return this.blob().stream();
  }
}

/** A file whose bytes may still be on their way. */
export class FileStream {
  #raw;
  #signal;

  constructor(raw, signal) {
    this.#raw = raw;
    this.#signal = signal;
    this.type = 'file';
    this.cid = raw.cid;
    this.mimeType = raw.mimeType;
    this.size = raw.size;
  }

  stream(range) {
    const pieces = now(() => this.#raw.read(range));
    const signal = this.#signal;
    let abort;
    const end = () => signal?.removeEventListener('abort', abort);
    return new ReadableStream(
      {
        // For readers that bring their own array.
        type: globalThis.ReadableByteStreamController ? 'bytes' : undefined,
        start(controller) {
          abort = () => {
            pieces.cancel();
            controller.error(signal.reason);
          };
          if (signal?.aborted) abort();
          else signal?.addEventListener('abort', abort, { once: true });
        },
        // Asked only when the reader wants more: nothing piles up here.
        async pull(controller) {
          const own = controller.byobRequest;
          try {
            const piece = await settle(own ? pieces.fill(own.view) : pieces.next());
            if (signal?.aborted) return;
            if (!piece) {
              end();
              controller.close();
              controller.byobRequest?.respond(0);
            } else if (own) {
              own.respond(piece);
            } else {
              controller.enqueue(piece);
            }
          } catch (error) {
            end();
            throw error;
          }
        },
        cancel() {
          end();
          pieces.cancel();
        },
      },
      { highWaterMark: 0 },
    );
  }

  async bytes(range) {
    return new Uint8Array(await (await gathered(this.stream(range))).arrayBuffer());
  }

  async text() {
    return (await gathered(this.stream())).text();
  }

  blob() {
    return gathered(this.stream(), this.mimeType);
  }
}

/** All of a stream. A Response would do it too, but says nothing of why a stream failed. */
async function gathered(stream, type) {
  const reader = stream.getReader();
  const pieces = [];
  for (let next = await reader.read(); !next.done; next = await reader.read()) pieces.push(next.value);
  return new Blob(pieces, { type });
}

function base64(bytes) {
  if (bytes.toBase64) return bytes.toBase64();
  const parts = [];
  const step = 0x6000; // a multiple of 3, and few enough arguments for every engine
  for (let at = 0; at < bytes.length; at += step) {
    parts.push(btoa(String.fromCharCode(...bytes.subarray(at, at + step))));
  }
  return parts.join('');
}
