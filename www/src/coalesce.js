// Many changes in a row cost one more run of the work, not one each.

/** A function that runs `work`, and once more when it was called meanwhile. What `work` rejects with is its own affair. */
export function coalesced(work) {
  let running = false;
  let again = false;
  return async function run() {
    if (running) {
      again = true;
      return;
    }
    running = true;
    try {
      await work();
    } finally {
      running = false;
    }
    if (!again) return;
    again = false;
    await run();
  };
}

/** A function after which `draw` runs once, before the browser paints next; soon, in a tab that nobody sees. */
export function beforePaint(draw) {
  let due = false;
  return () => {
    if (due) return;
    due = true;
    const run = () => {
      if (!due) return;
      due = false;
      draw();
    };
    if (document.hidden) setTimeout(run, 100);
    else requestAnimationFrame(run);
  };
}
