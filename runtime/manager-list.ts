/** Where the Managers are, as they say themselves once their membership has changed; the newest word counts. */

export interface ToldManagers {
  readonly addresses?: readonly string[] | null;
  readonly clusterEpoch?: number | null;
  readonly index?: number | null;
}

export class ManagerList {
  readonly #changed: (addresses: readonly string[]) => void;
  #clusterEpoch = 0;
  #index = 0;

  constructor(changed: (addresses: readonly string[]) => void) {
    this.#changed = changed;
  }

  learn(told: ToldManagers | null | undefined): void {
    const clusterEpoch = told?.clusterEpoch ?? 0;
    const index = told?.index ?? 0;
    const addresses = told?.addresses ?? [];
    if (addresses.length === 0 || clusterEpoch < this.#clusterEpoch) return;
    if (clusterEpoch === this.#clusterEpoch && index <= this.#index) return;
    this.#clusterEpoch = clusterEpoch;
    this.#index = index;
    this.#changed(addresses);
  }
}
