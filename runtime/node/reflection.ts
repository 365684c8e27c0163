/**
 * gRPC server reflection (grpc/grpc: doc/server-reflection.md), so that grpcurl needs no .proto files. What it tells was worked
 * out when the code was generated (proto/gen/descriptors.js) and is loaded by the first question: nothing is parsed in a process
 * that serves. There are no extensions in these files.
 */
import { status } from "@grpc/grpc-js";
import protobuf from "protobufjs/minimal.js";
import { AnantaError } from "../../core/errors.js";
import type { DescriptorFile } from "../../proto/gen/descriptors.js";
import { bidi, type Codec, type Handler, type MessageStream } from "../env.js";

/** The same messages under both names; older tools know the second only. */
const PATHS = ["v1", "v1alpha"].map((version) => `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`);
/** Questions of one stream that wait for their answers to be read. */
const WAITING_MAX = 64;

/** Fields of `ServerReflectionRequest`. */
const ASKED = {
  host: 1,
  fileByName: 3,
  fileOfSymbol: 4,
  fileOfExtension: 5,
  extensionsOfType: 6,
  services: 7,
} as const;
/** Fields of `ServerReflectionResponse`. */
const TOLD = { host: 1, request: 2, files: 4, services: 6, error: 7 } as const;

interface Question {
  readonly bytes: Uint8Array;
  readonly host: string;
  readonly asked: number;
  readonly name: string;
}

export function reflectionHandlers(services: readonly string[]): readonly Handler[] {
  return PATHS.map((path) =>
    bidi({ path, kind: "bidi", request: QUESTION, response: ANSWER }, (stream) => new Conversation(stream, services)),
  );
}

class Conversation {
  readonly #stream: MessageStream<Uint8Array, Question>;
  readonly #services: readonly string[];
  readonly #waiting: Question[] = [];
  #index: DescriptorIndex | null = null;
  #isBlocked = false;
  #isEnding = false;

  constructor(stream: MessageStream<Uint8Array, Question>, services: readonly string[]) {
    this.#stream = stream;
    this.#services = services;
    stream.listen({
      message: (question) => this.#ask(question),
      closed: () => {
        this.#isEnding = true;
        this.#answer();
      },
      drained: () => {
        this.#isBlocked = false;
        this.#answer();
      },
    });
    void descriptorIndex().then((index) => {
      this.#index = index;
      this.#answer();
    });
  }

  #ask(question: Question): void {
    if (this.#waiting.push(question) > WAITING_MAX)
      this.#stream.end(new AnantaError("STAGE_OVERLOADED", "the answers to earlier questions have not been read"));
    else this.#answer();
  }

  #answer(): void {
    if (this.#index === null) return;
    while (this.#waiting.length > 0 && !this.#isBlocked)
      this.#isBlocked = !this.#stream.send(answerOf(this.#waiting.shift()!, this.#services, this.#index)); // there is one
    if (this.#isEnding && this.#waiting.length === 0) this.#stream.end();
  }
}

interface DescriptorIndex {
  readonly byName: ReadonlyMap<string, DescriptorFile>;
  readonly bySymbol: ReadonlyMap<string, DescriptorFile>;
}

async function descriptorIndex(): Promise<DescriptorIndex> {
  const { FILES } = await import("../../proto/gen/descriptors.js");
  return {
    byName: new Map(FILES.map((file) => [file.name, file])),
    bySymbol: new Map(FILES.flatMap((file) => file.symbols.map((symbol) => [symbol, file]))),
  };
}

function answerOf({ bytes, host, asked, name }: Question, services: readonly string[], index: DescriptorIndex) {
  const writer = protobuf.Writer.create();
  if (host !== "") writer.uint32(tag(TOLD.host)).string(host);
  writer.uint32(tag(TOLD.request)).bytes(bytes);
  const refuse = (code: status, message: string): void => {
    writer.uint32(tag(TOLD.error)).fork().uint32(8).int32(code).uint32(tag(2)).string(message).ldelim();
  };
  const files = (file: DescriptorFile | undefined, what: string): void => {
    if (file === undefined) {
      refuse(status.NOT_FOUND, `${what} not found: ${name}`);
      return;
    }
    writer.uint32(tag(TOLD.files)).fork();
    const needed = file.needs.flatMap((one) => index.byName.get(one) ?? []);
    for (const one of [file, ...needed]) writer.uint32(tag(1)).bytes(Buffer.from(one.bytes, "base64"));
    writer.ldelim();
  };
  switch (asked) {
    case ASKED.services:
      writer.uint32(tag(TOLD.services)).fork();
      for (const service of services) writer.uint32(tag(1)).fork().uint32(tag(1)).string(service).ldelim();
      writer.ldelim();
      break;
    case ASKED.fileByName:
      files(index.byName.get(name), "file");
      break;
    case ASKED.fileOfSymbol:
      files(index.bySymbol.get(name), "symbol");
      break;
    case ASKED.fileOfExtension:
    case ASKED.extensionsOfType:
      refuse(status.NOT_FOUND, "there are no extensions");
      break;
    default:
      refuse(status.UNIMPLEMENTED, "a question that this server does not know");
  }
  return writer.finish();
}

/** Of a length-delimited field. */
const tag = (field: number): number => (field << 3) | 2;

const ANSWER: Codec<Uint8Array> = { encode: (bytes) => bytes, decode: (bytes) => bytes };

const QUESTION: Codec<Question> = {
  encode: ({ bytes }) => bytes,
  decode: (bytes) => {
    const reader = protobuf.Reader.create(bytes);
    let [host, asked, name] = ["", 0, ""];
    while (reader.pos < reader.len) {
      const key = reader.uint32();
      const field = key >>> 3;
      if (field === ASKED.host && key === tag(field)) host = reader.string();
      else if (field >= ASKED.fileByName && field <= ASKED.services) {
        asked = field;
        if (field === ASKED.fileOfExtension) reader.skipType(key & 7);
        else name = reader.string();
      } else reader.skipType(key & 7);
    }
    return { bytes: bytes.slice(), host, asked, name };
  },
};
