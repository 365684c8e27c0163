/** The bytes that are made by hand are those that protobufjs makes from the .proto file. */
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import protobuf from "protobufjs";
import { expect, test } from "vitest";
import { putRequest, readPutResponse, readStatusResponse } from "../../bench/etcd/lean-wire.js";

const root = protobuf.loadSync(fileURLToPath(new URL("../../bench/etcd/etcd.proto", import.meta.url)));
const type = (name: string): protobuf.Type => root.lookupType(`etcdserverpb.${name}`);
const seed = Number(process.env["ANANTA_TEST_SEED"]);

function framed(message: Uint8Array): Uint8Array {
  const frame = Buffer.alloc(5 + message.length);
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, 5);
  return frame;
}

test("a put is framed and encoded as protobufjs does it, whatever the lengths", () => {
  const bytes = fc.oneof(fc.uint8Array({ minLength: 1, maxLength: 300 }), fc.constant(new Uint8Array(20_000).fill(3)));
  fc.assert(
    fc.property(bytes, bytes, (key, value) => {
      const expected = type("PutRequest").encode({ key, value }).finish();
      expect(Buffer.compare(putRequest(key, value), framed(expected))).toBe(0);
    }),
    { seed, numRuns: 200 },
  );
});

test("the revision of an answer is read among fields that are not named here", () => {
  fc.assert(
    fc.property(fc.nat(), fc.nat(), (revision, term) => {
      const header = { memberId: 7, revision, raftTerm: term };
      expect(readPutResponse(framed(type("PutResponse").encode({ header }).finish()))).toBe(revision);
    }),
    { seed, numRuns: 200 },
  );
});

test("member ids keep all of their 64 bits", () => {
  const header = { memberId: { low: -59, high: -1, unsigned: true } };
  const leader = { low: 1, high: -0x80000000, unsigned: true };
  const frame = framed(type("StatusResponse").encode({ header, version: "3.4.23", leader }).finish());
  expect(readStatusResponse(frame)).toEqual({
    member: 18446744073709551557n,
    leader: 9223372036854775809n,
    version: "3.4.23",
  });
});

test("a message that was cut off is an error, not a number", () => {
  const whole = framed(
    type("PutResponse")
      .encode({ header: { revision: 300 } })
      .finish(),
  );
  expect(() => readPutResponse(whole.subarray(0, whole.length - 1))).toThrow(RangeError);
});
