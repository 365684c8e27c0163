/** What a Manager tells tools like grpcurl, beside what the official implementation makes of the same .proto files. */
import { createHash } from "node:crypto";
import { readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { ReflectionService } from "@grpc/reflection";
import { protoPath as healthProto } from "grpc-health-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type NodeEnv, createNodeEnv } from "../../runtime/node/env.js";
import type { Server } from "../../runtime/env.js";
import { FILES } from "../../proto/gen/descriptors.js";

type Answer = Readonly<Record<string, unknown>> & { readonly original_request?: unknown };
type Ask = (questions: readonly object[]) => Promise<readonly Answer[]>;

const PROTO = resolve(import.meta.dirname, "../../proto");
const SERVICES = ["ananta.v1.SnatService", "ananta.v1.OperatorService"];
const official = dirname(createRequire(import.meta.url).resolve("@grpc/reflection/package.json"));

/** With descriptors by their hashes. */
function brief(answer: Answer): object {
  const files = (answer["file_descriptor_response"] as { file_descriptor_proto: Buffer[] } | null)
    ?.file_descriptor_proto;
  const hashes = files?.map((bytes) => createHash("sha256").update(bytes).digest("hex"));
  return { ...answer, file_descriptor_response: hashes };
}

/** A client that knows the service's own .proto file and nothing of us. */
function clientOf(address: string, version: "v1" | "v1alpha"): { ask: Ask; close: () => void } {
  const file = join(official, `build/proto/grpc/reflection/${version}/reflection.proto`);
  const loaded = loadSync(file, { keepCase: true, longs: Number, oneofs: true });
  const Client = grpc.makeClientConstructor(
    loaded[`grpc.reflection.${version}.ServerReflection`] as grpc.ServiceDefinition,
    "ServerReflection",
  );
  const client = new Client(address, grpc.credentials.createInsecure());
  const open = client["ServerReflectionInfo"] as () => grpc.ClientDuplexStream<object, Answer>;
  return {
    close: () => client.close(),
    ask: (questions) =>
      new Promise((done, fail) => {
        const answers: Answer[] = [];
        const stream = open.call(client);
        stream.on("data", (answer: Answer) => answers.push(answer));
        stream.on("end", () => done(answers));
        stream.on("error", fail);
        for (const question of questions) stream.write(question);
        stream.end();
      }),
  };
}

describe("reflection", () => {
  let env: NodeEnv;
  let ours: Server;
  const theirs = new grpc.Server();
  let theirAddress = "";
  beforeAll(async () => {
    env = createNodeEnv({ name: "reflection", logTo: { write: () => undefined } });
    ours = await env.network.serve("127.0.0.1:0", [], { publicServices: SERVICES });
    const files = readdirSync(PROTO, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".proto"));
    const definition = loadSync([...files.sort(), healthProto], { includeDirs: [PROTO] });
    new ReflectionService(definition, { services: [...SERVICES, "grpc.health.v1.Health"] }).addToServer(theirs);
    const port = await new Promise<number>((done, fail) => {
      theirs.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
        error === null ? done(bound) : fail(error),
      );
    });
    theirAddress = `127.0.0.1:${port}`;
  });
  afterAll(async () => {
    theirs.forceShutdown();
    await ours.stop(0);
  });

  it.each(["v1", "v1alpha"] as const)(
    "%s tells the same of every symbol and file as the official one",
    async (version) => {
      const us = clientOf(ours.address, version);
      const them = clientOf(theirAddress, version);
      const symbols = FILES.flatMap((file) => file.symbols);
      expect(symbols).toContain("ananta.v1.SnatService.Allocate");
      const every = version === "v1" ? 1 : 50;
      const questions = [
        ...symbols.flatMap((symbol, at) => (at % every === 0 ? { file_containing_symbol: symbol } : [])),
        ...FILES.map(({ name }) => ({ host: "here", file_by_filename: name })),
      ];
      for (let first = 0; first < questions.length; first += 50) {
        const some = questions.slice(first, first + 50);
        expect((await us.ask(some)).map(brief)).toEqual((await them.ask(some)).map(brief));
      }
      us.close();
      them.close();
    },
  );

  it("lists the public services, and health", async () => {
    const us = clientOf(ours.address, "v1");
    const [answer] = await us.ask([{ list_services: "*" }]);
    const { service } = answer?.["list_services_response"] as { service: { name: string }[] };
    expect(service.map(({ name }) => name)).toEqual([...SERVICES, "grpc.health.v1.Health"]);
    us.close();
  });

  it("answers what is not there with NOT_FOUND, and goes on", async () => {
    const us = clientOf(ours.address, "v1");
    const answers = await us.ask([
      { file_containing_symbol: "ananta.v1.Nothing" },
      { file_by_filename: "nothing.proto" },
      { file_containing_extension: { containing_type: "ananta.v1.SnatAnswer", extension_number: 100 } },
      { all_extension_numbers_of_type: "ananta.v1.SnatAnswer" },
      {},
      { file_containing_symbol: "ananta.v1.SnatAnswer" },
    ]);
    const codes = answers.map((answer) => (answer["error_response"] as { error_code: number } | undefined)?.error_code);
    const { NOT_FOUND, UNIMPLEMENTED } = grpc.status;
    expect(codes).toEqual([NOT_FOUND, NOT_FOUND, NOT_FOUND, NOT_FOUND, UNIMPLEMENTED, undefined]);
    expect(answers[0]?.original_request).toMatchObject({ file_containing_symbol: "ananta.v1.Nothing" });
    us.close();
  });
});
