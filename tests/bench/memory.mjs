// Memory of a browser's renderers, as the kernel counts it. Linux only.

import { readFile, readdir } from 'node:fs/promises';

const EVERY_MS = 20;

/** Resident bytes of all renderer processes of the browser with this profile folder. */
export async function rendererBytes(profile) {
  let total = 0;
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    try {
      const command = await readFile(`/proc/${pid}/cmdline`, 'utf8');
      if (!command.includes('--type=renderer') || !command.includes(profile)) continue;
      const status = await readFile(`/proc/${pid}/status`, 'utf8');
      total += Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024;
    } catch {
      // It ended between the listing and the reading.
    }
  }
  return total;
}

/** Runs `work` and says by how much the renderers grew at most meanwhile. */
export async function growth(profile, work) {
  const idle = await rendererBytes(profile);
  if (idle === 0) throw new Error('no renderer process found');
  let peak = idle;
  let running = true;
  const watching = (async () => {
    while (running) {
      peak = Math.max(peak, await rendererBytes(profile));
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    }
  })();
  try {
    await work();
  } finally {
    running = false;
    await watching;
  }
  return peak - idle;
}
