/** A probe item: TCP to port 8080 of DIP 1, every 5 s, unless told otherwise. */
import type { DipId, PoolId } from "../../../core/brands.js";
import type { HostProbeItem } from "../../../dataplane/host-items.js";

export const probeItem = (fields: Partial<HostProbeItem> = {}): HostProbeItem => ({
  kind: "probe",
  poolId: 1 as PoolId,
  dipId: 1 as DipId,
  protocol: "tcp",
  port: 8_080,
  intervalSeconds: 5,
  timeoutSeconds: 2,
  healthyThreshold: 2,
  unhealthyThreshold: 3,
  ...fields,
});
