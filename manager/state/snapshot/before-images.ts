/**
 * Copy on write for long readings. A snapshot of a large state is written in slices while later entries are applied, and
 * yet holds the state of one log index: whatever is mutable says so before it changes, and a reading that is under way
 * keeps the part as it was.
 *
 *     begin() -> Reading ... of(part): as it was at `begin` ... end()
 *
 * (B1) A part is copied at most once per reading, and only if it changes while the reading is under way.
 * (B2) Without a reading, keeping costs one comparison.
 * Immutable parts need none of this: a reading holds on to the ones that it found.
 */
export class BeforeImages {
  private readonly readings = new Set<Reading>();

  begin(): Reading {
    const reading = new Reading((ended) => this.readings.delete(ended));
    this.readings.add(reading);
    return reading;
  }

  /** Call before `part` changes. `copy` gives a part of the same kind that nobody changes. */
  keep<Part extends object>(part: Part, copy: (part: Part) => Part): void {
    if (this.readings.size === 0) return; // (B2)
    for (const reading of this.readings) reading.keep(part, copy);
  }
}

export class Reading {
  private readonly images = new Map<object, object>();
  private readonly ended: (reading: Reading) => void;

  constructor(ended: (reading: Reading) => void) {
    this.ended = ended;
  }

  keep<Part extends object>(part: Part, copy: (part: Part) => Part): void {
    if (!this.images.has(part)) this.images.set(part, copy(part)); // (B1)
  }

  /** The part as it was when the reading began. For reading at once: it may be the part itself, which goes on changing. */
  of<Part extends object>(part: Part): Part {
    // An image is stored under the part that it is a copy of.
    return (this.images.get(part) as Part | undefined) ?? part;
  }

  /** Forgets all images; nothing is kept any more. Safe to call twice. */
  end(): void {
    this.ended(this);
    this.images.clear();
  }
}
