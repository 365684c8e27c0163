/**
 * Cluster time: milliseconds since bootstrap, carried by the log. The leader adds its monotonic clock to the last applied
 * value; the state takes the maximum, so that time never goes back, whatever a new leader's clock says. Nobody reads a
 * clock here.
 */
import { assert } from "../../core/assert.js";

export class ClusterTime {
  private ms = 0;

  get nowMs(): number {
    return this.ms;
  }

  advanceTo(ms: number): void {
    assert(ms >= 0 && ms <= Number.MAX_SAFE_INTEGER, "cluster time is a number of milliseconds since bootstrap");
    this.ms = Math.max(this.ms, Math.floor(ms));
  }
}
