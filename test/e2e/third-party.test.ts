/** A client that has nothing but the .proto files: no code of this project, plain gRPC. */
import { randomBytes } from "node:crypto";
import { join, resolve } from "node:path";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Site } from "./embedded-site.js";

const PROTO = resolve(import.meta.dirname, "../../proto");

type Call = (
  request: object,
  options: object,
  done: (error: grpc.ServiceError | null, response: Record<string, unknown>) => void,
) => void;
type Client = grpc.Client & Record<string, Call>;

function call(client: Client, method: string, request: object): Promise<Record<string, unknown>> {
  return new Promise((done, fail) => {
    client[method]?.(request, { deadline: Date.now() + 10_000 }, (error, response) =>
      error === null ? done(response) : fail(error),
    );
  });
}

describe("a third-party client", () => {
  const site = new Site(18_200, { args: ["--no-restart"] });
  let snat: Client;

  beforeAll(async () => {
    await site.untilHealthy();
    const loaded = grpc.loadPackageDefinition(
      loadSync("ananta/v1/snat.proto", { includeDirs: [PROTO], keepCase: true, longs: Number, enums: String }),
    );
    const types = (loaded["ananta"] as grpc.GrpcObject)["v1"] as grpc.GrpcObject;
    const Service = types["SnatService"] as unknown as new (
      address: string,
      credentials: grpc.ChannelCredentials,
    ) => Client;
    snat = new Service(site.endpoint(3), grpc.credentials.createInsecure());
  });
  afterAll(async () => {
    snat.close();
    await site.stop();
    site.removeData();
  });

  test("registers as a host, allocates, sees its range listed, releases it, and gets the same answer to a retry", async () => {
    const pool = join(site.dataFolder, "third-party.yaml");
    const { writeFileSync } = await import("node:fs");
    writeFileSync(
      pool,
      `apiVersion: ananta/v1
kind: BackendPool
metadata: {name: outsiders}
spec: {members: [{dip: 10.9.9.9}]}
---
apiVersion: ananta/v1
kind: Vip
metadata: {name: outsiders}
spec: {address: 203.0.113.99, outbound: {pools: [outsiders]}}
`,
    );
    const applied = site.ananta("apply", "-f", pool);
    expect(applied.code, applied.stderr).toBe(0);

    const session = randomBytes(16).toString("hex");
    const registered = await call(snat, "Register", {
      origin: { session, sequence: 1 },
      host: "outsider",
      boot_id: randomBytes(16).toString("hex"),
      dips: [{ address: "10.9.9.9" }],
    });
    const owner = { host: "outsider", incarnation: registered["incarnation"], dip: "10.9.9.9" };
    const ask = { origin: { session, sequence: 2 }, ...owner, protocol: "PROTOCOL_TCP", ports: 8 };
    const granted = (await call(snat, "Allocate", ask)) as {
      blocks: { vip: string; range: number; count: number; protocol: string }[];
      index: number;
    };
    expect(granted.blocks).toHaveLength(1);
    expect(granted.blocks[0]?.vip).toBe("203.0.113.99");
    expect(await call(snat, "Allocate", ask)).toEqual(granted);

    const listed = (await call(snat, "List", { vip: "203.0.113.99" })) as {
      blocks: { dip: string; state: string; host: string }[];
    };
    expect(listed.blocks.map(({ dip, state, host }) => `${dip} ${state} ${host}`)).toEqual(["10.9.9.9 owned outsider"]);

    await call(snat, "Release", { origin: { session, sequence: 3 }, ...owner, blocks: granted.blocks });
    const after = (await call(snat, "List", { vip: "203.0.113.99" })) as { blocks: { state: string }[] };
    expect(after.blocks.map(({ state }) => state)).toEqual(["quarantined"]);
  });

  test("bad input is INVALID_ARGUMENT with a sentence and a stable code; a foreign DIP is PERMISSION_DENIED", async () => {
    const session = randomBytes(16).toString("hex");
    const refused = (await call(snat, "Allocate", {
      origin: { session, sequence: 1 },
      host: "outsider",
      dip: "10.9.9.9",
      protocol: "PROTOCOL_TCP",
      ports: 70_000,
    }).catch((error: unknown) => error)) as grpc.ServiceError;
    expect(refused.code).toBe(grpc.status.INVALID_ARGUMENT);
    expect(refused.details).toContain("70000");
    expect(refused.metadata.get("ananta-code")).toEqual(["INVALID_ARGUMENT"]);
    const foreign = (await call(snat, "Allocate", {
      origin: { session, sequence: 2 },
      host: "outsider",
      dip: "10.1.1.1",
      protocol: "PROTOCOL_TCP",
      ports: 8,
    }).catch((error: unknown) => error)) as grpc.ServiceError;
    expect(foreign.code).toBe(grpc.status.PERMISSION_DENIED);
  });

  test("reflection lists the public services", async () => {
    const reflection = grpc.loadPackageDefinition(
      loadSync(
        join(
          resolve(import.meta.dirname, "../../node_modules"),
          "@grpc/reflection/build/proto/grpc/reflection/v1/reflection.proto",
        ),
        { keepCase: true },
      ),
    );
    const v1 = ((reflection["grpc"] as grpc.GrpcObject)["reflection"] as grpc.GrpcObject)["v1"] as grpc.GrpcObject;
    const Service = v1["ServerReflection"] as unknown as new (
      address: string,
      credentials: grpc.ChannelCredentials,
    ) => grpc.Client & {
      ServerReflectionInfo(): grpc.ClientDuplexStream<
        object,
        { list_services_response?: { service: { name: string }[] } }
      >;
    };
    const client = new Service(site.endpoint(1), grpc.credentials.createInsecure());
    const names = await new Promise<string[]>((done, fail) => {
      const stream = client.ServerReflectionInfo();
      stream.on("data", (answer: { list_services_response?: { service: { name: string }[] } }) => {
        done((answer.list_services_response?.service ?? []).map(({ name }) => name));
        stream.cancel();
      });
      stream.on("error", fail);
      stream.write({ list_services: "" });
    });
    client.close();
    expect(names).toContain("ananta.v1.OperatorService");
    expect(names).toContain("ananta.v1.SnatService");
  });
});
