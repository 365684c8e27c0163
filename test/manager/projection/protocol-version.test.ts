/** Programs of versions that have nothing in common refuse each other in words, on whichever side the older one is. */
import { describe, expect, test } from "vitest";
import { AnantaError } from "../../../core/errors.js";
import { checkProtocolVersion, PROTOCOL_VERSION } from "../../../core/protocol-version.js";
import type { ananta } from "../../../proto/gen/wire.js";
import { edge, FakeStream } from "../edge.js";

function refusal(versions: Parameters<typeof checkProtocolVersion>[1]): string | null {
  try {
    checkProtocolVersion("mux-1", versions);
    return null;
  } catch (caught) {
    return AnantaError.from(caught).message;
  }
}

test("a peer that speaks a common version is taken: of now, of before hellos said so, and a newer one that still speaks ours", () => {
  expect(refusal({ protocolVersion: PROTOCOL_VERSION, protocolVersionMin: PROTOCOL_VERSION })).toBeNull();
  expect(refusal({})).toBeNull();
  expect(refusal({ protocolVersion: PROTOCOL_VERSION + 3, protocolVersionMin: PROTOCOL_VERSION })).toBeNull();
});

test("a peer that speaks only newer ones is refused, and it is said who is behind", () => {
  expect(refusal({ protocolVersion: 9, protocolVersionMin: 7 })).toBe(
    "mux-1 speaks versions 7 to 9 of the protocol, and this program version 1: upgrade this program first",
  );
  expect(refusal({ protocolVersion: 9 })).toContain("mux-1 speaks version 9");
});

describe("a replica", () => {
  const newer = { protocolVersion: 9, protocolVersionMin: 9 };

  test("refuses the hello of a MUX that it could not understand, before anything else of it is believed", () => {
    const { muxes, identity, submitted } = edge();
    const before = submitted.length;
    const stream = new FakeStream<ananta.v1.ManagerToMux.$Properties, ananta.v1.MuxToManager.$Properties>();
    muxes.open(stream);
    stream.deliver({ hello: { identity: { ...identity("mux-1", "a"), ...newer }, address: "192.0.2.1" } });
    expect(stream.ended).toMatchObject({ code: "FAILED_PRECONDITION" });
    expect(stream.ended?.message).toContain("mux-1 speaks version 9");
    expect([stream.sent.length, submitted.length - before]).toEqual([0, 0]);
  });

  test("and that of an agent; its own hello says what it speaks", () => {
    const { agents, identity } = edge();
    const refused = new FakeStream<ananta.v1.ManagerToAgent.$Properties, ananta.v1.AgentToManager.$Properties>();
    agents.open(refused);
    refused.deliver({ hello: { identity: { ...identity("host-1", "a"), ...newer }, dips: [] } });
    expect(refused.ended).toMatchObject({ code: "FAILED_PRECONDITION" });
  });
});
