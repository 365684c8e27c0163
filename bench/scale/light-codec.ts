/**
 * What a light agent reads of a Manager's messages: of a projection its index and which part of it this is, not its items, of
 * which one process would have to decode those of 2,000 hosts. Everything else is read as any agent reads it.
 */
import protobuf from "protobufjs/minimal.js";
import { AGENT_FOLLOW } from "../../manager/api/methods.js";
import type { ananta } from "../../proto/gen/wire.js";

type Message = ananta.v1.ManagerToAgent.$Properties;
type Update = ananta.v1.ProjectionUpdate.$Properties;

/** Field of `ManagerToAgent`, length-delimited. */
const PROJECTION_TAG = (2 << 3) | 2;
/** Fields of `ProjectionUpdate`, varints. */
const CLUSTER_EPOCH_TAG = 1 << 3;
const INDEX_TAG = 2 << 3;
const SNAPSHOT_TAG = 3 << 3;
const LAST_TAG = 4 << 3;

export const LIGHT_FOLLOW: typeof AGENT_FOLLOW = {
  ...AGENT_FOLLOW,
  response: { encode: (message) => AGENT_FOLLOW.response.encode(message), decode: decodeLight },
};

export function decodeLight(bytes: Uint8Array): Message {
  const reader = protobuf.Reader.create(bytes);
  if (bytes.length === 0 || reader.uint32() !== PROJECTION_TAG) return AGENT_FOLLOW.response.decode(bytes);
  const end = reader.uint32() + reader.pos;
  const update: Update = {};
  while (reader.pos < end) {
    const tag = reader.uint32();
    if (tag === CLUSTER_EPOCH_TAG) update.clusterEpoch = Number(reader.uint64());
    else if (tag === INDEX_TAG) update.index = Number(reader.uint64());
    else if (tag === SNAPSHOT_TAG) update.snapshot = reader.bool();
    else if (tag === LAST_TAG) update.last = reader.bool();
    else reader.skipType(tag & 7);
  }
  return { projection: update };
}
