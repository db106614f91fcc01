// What was measured, by name, how it is printed, and what it is held against.

export class Figures {
  #unit;
  #values = new Map();
  #targets = { of: 0, met: 0 };

  constructor(unit) {
    this.#unit = unit;
  }

  /** Said at once, so that a long bench shows that it goes on. */
  record(name, value) {
    if (!Number.isFinite(value)) throw new Error(`${name}: ${value} is no figure`);
    if (!this.#values.has(name)) this.#values.set(name, []);
    this.#values.get(name).push(value);
    console.log(line(value.toFixed(1), name));
  }

  /** NaN if it was not measured. */
  median(name) {
    const sorted = [...(this.#values.get(name) ?? [])].sort((a, b) => a - b);
    if (sorted.length === 0) return Number.NaN;
    const middle = Math.floor(sorted.length / 2);
    return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  }

  print() {
    console.log(`\nmedians (${this.#unit}; lowest, highest and the number of runs in brackets)`);
    for (const [name, values] of this.#values) {
      const range = `[${Math.min(...values).toFixed(1)} … ${Math.max(...values).toFixed(1)}, ${values.length}]`;
      console.log(line(this.median(name).toFixed(1), `${name} ${range}`));
    }
  }

  /** Whether `value` is at least `limit`, or `at: 'most'`. What was not measured is not met. */
  target(name, value, limit, { at = 'least' } = {}) {
    const met = at === 'least' ? value >= limit : value <= limit;
    this.#targets.of += 1;
    if (met) this.#targets.met += 1;
    const digits = limit >= 100 ? 0 : 2;
    const said = Number.isNaN(value) ? '–' : value.toFixed(digits);
    const outcome = met ? 'met' : Number.isNaN(value) ? 'NOT MEASURED' : 'NOT MET';
    console.log(line(said, `${name}: target ${at === 'least' ? '≥' : '≤'} ${limit}: ${outcome}`));
  }

  /** The last word on the targets. Speed depends on the machine, so one that is missed does not fail the command. */
  verdict() {
    const { of, met } = this.#targets;
    console.log(line(`${met} of ${of}`, 'targets met'));
  }
}

/** One row of a table. */
export function line(figure, text) {
  return `${figure.padStart(9)}  ${text}`;
}

/** A whole number that the environment may lower for a quick run. */
export function setting(name, usual) {
  const value = Number(process.env[name] ?? usual);
  if (!Number.isSafeInteger(value) || value < 1) throw new Error(`${name}=${process.env[name]}: not a number of 1 or more`);
  return value;
}
