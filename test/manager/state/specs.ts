/** Specs with the defaults of the schema, so that a test says only what it is about. */
import type {
  BackendPoolSpec,
  HealthProbe,
  PoolMember,
  VipOutbound,
  VipRule,
  VipSpec,
} from "../../../manager/state/objects.js";

type Given<Spec, Required extends keyof Spec> = Pick<Spec, Required> & Partial<Spec>;

export const memberSpec = (given: Given<PoolMember, "dip" | "port" | "weight">): PoolMember => ({
  role: "primary",
  adminState: "none",
  ...given,
});

export const poolSpec = (given: Given<BackendPoolSpec, "members" | "maxMembers">): BackendPoolSpec => ({
  failoverPercent: 0,
  allDown: "drop",
  tcpOnDown: "persist",
  drainTimeoutSeconds: 0,
  probe: null,
  securityGroups: [],
  ...given,
});

export const ruleSpec = (given: Given<VipRule, "name" | "protocol" | "port" | "pool" | "backendPort">): VipRule => ({
  distribution: "fiveTuple",
  floatingIp: false,
  idleSeconds: 0,
  idleReset: true,
  fastpath: true,
  ...given,
});

export const outboundSpec = (given: Given<VipOutbound, "pools" | "maxPorts">): VipOutbound => ({
  minPorts: 0,
  selection: "spread",
  udpMapping: "addressPortDependent",
  tcpIdleSeconds: 0,
  udpIdleSeconds: 0,
  idleReset: true,
  onExhaustion: "reset",
  queueSeconds: 3,
  ...given,
});

export const vipSpec = (given: Given<VipSpec, "address" | "rules" | "outbound">): VipSpec => ({
  scope: "public",
  adminState: "up",
  hairpin: "snat",
  securityGroups: [],
  overload: { action: "blackhole", restoreAfterSeconds: 300 },
  inboundNat: [],
  ...given,
});

export const probeSpec = (given: Given<HealthProbe, "protocol" | "port">): HealthProbe => ({
  intervalSeconds: 5,
  timeoutSeconds: 3,
  healthyThreshold: 2,
  unhealthyThreshold: 2,
  path: "/",
  host: "",
  expectedStatus: ["200-299"],
  send: "",
  expect: "",
  ...given,
});
