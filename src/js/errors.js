// How calls fail: PeerError, and the wasm module's failures as such.

export class PeerError extends Error {
  constructor(code, message, options) {
    super(message, options);
    this.name = 'PeerError';
    this.code = code;
  }
}

/** Waits for a result of the wasm module; its failures become PeerErrors of this package. */
export async function settle(promise) {
  try {
    return await promise;
  } catch (error) {
    throw ours(error);
  }
}

/** The wasm module's failures as PeerErrors of this package; the cause has the stack of where it was found. */
function ours(error) {
  const foreign = error?.name === 'PeerError' && !(error instanceof PeerError);
  return foreign ? new PeerError(error.code, error.message, { cause: error }) : error;
}

/** Runs what fails at once. */
export function now(call) {
  try {
    return call();
  } catch (error) {
    throw ours(error);
  }
}
