/**
 * Epochs of a cluster: 1 at first, raised by every restore from a snapshot file. One bound for settings, folders, files and
 * replicated commands: what one of them takes and another cannot read would be committed and end every replica.
 */
export const CLUSTER_EPOCH_MAX = 0xffff_ffff;

export const isClusterEpoch = (value: number): boolean =>
  Number.isInteger(value) && value >= 1 && value <= CLUSTER_EPOCH_MAX;
