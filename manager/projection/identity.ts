/** Every hello says who speaks, of which cluster, in which epoch; strangers and the past are refused. */
import { AnantaError } from "../../core/errors.js";
import { checkProtocolVersion, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN } from "../../core/protocol-version.js";
import type { ananta } from "../../proto/gen/wire.js";
import type { ReplicaView } from "../replica-view.js";

export interface PeerIdentity {
  readonly name: string;
  readonly bootId: string;
  readonly incarnation: number;
}

const NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const HEX_128 = /^[0-9a-f]{32}$/;

export const isName = (text: string): boolean => NAME.test(text);
export const isHex128 = (text: string): boolean => HEX_128.test(text);

/** What the peer says it is. Throws WRONG_CLUSTER, INVALID_ARGUMENT, or FAILED_PRECONDITION for another protocol. */
export function checkIdentity(
  identity: ananta.v1.Identity.$Properties | null | undefined,
  replica: ReplicaView,
): PeerIdentity {
  if (identity === null || identity === undefined)
    throw new AnantaError("INVALID_ARGUMENT", "identity: missing; a hello says who speaks");
  const { clusterId = "", node = "", bootId = "" } = withoutNulls(identity);
  checkProtocolVersion(node === "" ? "the peer" : node, identity);
  const epoch = identity.clusterEpoch ?? 0;
  if (clusterId !== replica.config.clusterId) {
    throw new AnantaError(
      "WRONG_CLUSTER",
      `identity.cluster_id: "${clusterId}" is not this cluster, "${replica.config.clusterId}"`,
    );
  }
  const ownEpoch = replica.state.site?.clusterEpoch ?? replica.config.clusterEpoch;
  if (epoch > ownEpoch) {
    throw new AnantaError(
      "WRONG_CLUSTER",
      `identity.cluster_epoch: ${epoch} is ahead of this replica's ${ownEpoch}: it was left out of a restore`,
    );
  }
  if (!isName(node))
    throw new AnantaError(
      "INVALID_ARGUMENT",
      `identity.node: "${node}" is not a name; use 1 to 63 of a-z, 0-9 and "-"`,
    );
  if (!isHex128(bootId))
    throw new AnantaError("INVALID_ARGUMENT", `identity.boot_id: "${bootId}" is not 32 hex digits`);
  return { name: node, bootId, incarnation: identity.incarnation ?? 0 };
}

/** What was said in the old epoch does not count in the new one: every receiver says hello again. */
export const newEpoch = (clusterEpoch: number): AnantaError =>
  new AnantaError("UNAVAILABLE", `cluster epoch ${clusterEpoch} has begun: say hello again`);

export function ownIdentity(replica: ReplicaView): ananta.v1.Identity.$Properties {
  return {
    clusterId: replica.config.clusterId,
    clusterEpoch: replica.state.site?.clusterEpoch ?? replica.config.clusterEpoch,
    node: String(replica.config.nodeId),
    incarnation: replica.incarnation(),
    bootId: replica.bootId,
    protocolVersion: PROTOCOL_VERSION,
    protocolVersionMin: PROTOCOL_VERSION_MIN,
  };
}

function withoutNulls(identity: ananta.v1.Identity.$Properties): {
  clusterId?: string;
  node?: string;
  bootId?: string;
} {
  return {
    ...(typeof identity.clusterId === "string" ? { clusterId: identity.clusterId } : {}),
    ...(typeof identity.node === "string" ? { node: identity.node } : {}),
    ...(typeof identity.bootId === "string" ? { bootId: identity.bootId } : {}),
  };
}
