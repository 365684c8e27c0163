/** gRPC health and reflection for the services that operators' tools see (grpcurl, grpc_health_probe). */
import type { Server as GrpcJsServer } from "@grpc/grpc-js";
import { HealthImplementation } from "grpc-health-check";
import type { Handler } from "../env.js";
import { reflectionHandlers } from "./reflection.js";

export interface PublicServices {
  readonly handlers: readonly Handler[];
  addTo(server: GrpcJsServer): void;
  setServing(serving: boolean): void;
}

/** `names` in full: "ananta.v1.Operator". All are NOT_SERVING until told otherwise; "" stands for the whole server. */
export function publicServices(names: readonly string[]): PublicServices {
  const all = ["", ...names];
  const health = new HealthImplementation(Object.fromEntries(all.map((name) => [name, "NOT_SERVING" as const])));
  return {
    handlers: reflectionHandlers([...names, "grpc.health.v1.Health"]),
    addTo: (server) => health.addToServer(server),
    setServing: (serving) => {
      for (const name of all) health.setStatus(name, serving ? "SERVING" : "NOT_SERVING");
    },
  };
}
