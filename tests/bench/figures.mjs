// What was measured, by name, and how it is printed.

export class Figures {
  #unit;
  #values = new Map();

  constructor(unit) {
    this.#unit = unit;
  }

  record(name, value) {
    if (!this.#values.has(name)) this.#values.set(name, []);
    this.#values.get(name).push(value);
  }

  /** NaN if it was not measured. */
  median(name) {
    const sorted = [...(this.#values.get(name) ?? [])].sort((a, b) => a - b);
    if (sorted.length === 0) return Number.NaN;
    const middle = Math.floor(sorted.length / 2);
    return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  }

  print() {
    console.log(`\nmedians (${this.#unit}; lowest and highest and the number of runs in brackets)`);
    for (const [name, values] of this.#values) {
      const range = `[${Math.min(...values).toFixed(1)} … ${Math.max(...values).toFixed(1)}, ${values.length}]`;
      console.log(`${this.median(name).toFixed(1).padStart(9)}  ${name} ${range}`);
    }
  }

  /** Says whether it is met; nothing if it was not measured. */
  target(name, value, limit, atLeast = true) {
    if (Number.isNaN(value)) return;
    const met = atLeast ? value >= limit : value <= limit;
    const digits = limit >= 100 ? 0 : 2;
    const sign = atLeast ? '≥' : '≤';
    console.log(`${value.toFixed(digits).padStart(9)}  ${name}: target ${sign} ${limit}: ${met ? 'met' : 'NOT MET'}`);
  }
}
