// Memory of a browser's renderers, as the kernel counts it. Linux only.

import { readFile, readdir } from 'node:fs/promises';

const EVERY_MS = 20;

/** Resident bytes of each renderer process of the browser with this profile folder, by process id. */
async function rendererBytes(profile) {
  const bytes = new Map();
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    try {
      const command = await readFile(`/proc/${pid}/cmdline`, 'utf8');
      if (!command.includes('--type=renderer') || !command.includes(profile)) continue;
      const status = await readFile(`/proc/${pid}/status`, 'utf8');
      bytes.set(pid, Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024);
    } catch {
      // It ended between the listing and the reading.
    }
  }
  return bytes;
}

/**
 * Runs `work` and says by how much at most the renderer that grew most has grown meanwhile: the page's. Others are of
 * a blank page and of none yet, which the browser makes ready at a time of its own choosing.
 */
export async function growth(profile, work) {
  const idle = await rendererBytes(profile);
  if (idle.size === 0) throw new Error('no renderer process found');
  let peak = 0;
  let running = true;
  const watching = (async () => {
    while (running) {
      const now = await rendererBytes(profile);
      for (const [pid, before] of idle) peak = Math.max(peak, (now.get(pid) ?? 0) - before);
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    }
  })();
  try {
    await work();
  } finally {
    running = false;
    await watching;
  }
  return peak;
}
