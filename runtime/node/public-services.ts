/** gRPC health and reflection for the services that operators' tools see (grpcurl, grpc_health_probe). */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Server as GrpcJsServer } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { ReflectionService } from "@grpc/reflection";
import { HealthImplementation, protoPath as healthProto } from "grpc-health-check";
import { assert } from "../../core/assert.js";

export interface PublicServices {
  addTo(server: GrpcJsServer): void;
  setServing(serving: boolean): void;
}

/** `names` in full: "ananta.v1.Operator". All are NOT_SERVING until told otherwise; "" stands for the whole server. */
export function loadPublicServices(names: readonly string[]): PublicServices {
  const root = protoFolder();
  const files = readdirSync(root, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".proto"));
  const definition = loadSync([...files.sort(), healthProto], { includeDirs: [root] });
  for (const name of names) assert(name in definition, `the .proto files define the public service ${name}`);
  const shown = [...names, "grpc.health.v1.Health"];
  const all = ["", ...names];
  const health = new HealthImplementation(Object.fromEntries(all.map((name) => [name, "NOT_SERVING" as const])));
  return {
    addTo: (server) => {
      health.addToServer(server);
      new ReflectionService(definition, { services: shown }).addToServer(server);
    },
    setServing: (serving) => {
      for (const name of all) health.setStatus(name, serving ? "SERVING" : "NOT_SERVING");
    },
  };
}

/** This file runs as runtime/node/*.ts and as dist/runtime/node/*.js. */
function protoFolder(): string {
  const candidates = ["../../proto", "../../../proto"].map((path) => fileURLToPath(new URL(path, import.meta.url)));
  const found = candidates.find((folder) => existsSync(join(folder, "ananta", "v1", "operator.proto")));
  assert(found !== undefined, `the .proto files are in ${candidates.join(" or ")}`);
  return found;
}
