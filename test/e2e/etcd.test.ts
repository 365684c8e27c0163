/** The other side of the benchmarks: real etcd members, both clients, a dead leader, and nothing left behind. */
import { existsSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { EtcdError } from "../../bench/etcd/etcd-client.js";
import { findEtcd, startEtcd } from "../../bench/etcd/etcd-cluster.js";
import { GrpcEtcdClient } from "../../bench/etcd/grpc-client.js";
import { LeanEtcdClient } from "../../bench/etcd/lean-client.js";

const bytes = (text: string): Uint8Array => Buffer.from(text);

describe.skipIf(findEtcd() === null)("five members of etcd", () => {
  test("both clients write through any member; a dead leader is replaced; stopping leaves nothing", async () => {
    const etcd = (await startEtcd({ portsFrom: 27_500 }))!;
    const clients = [new GrpcEtcdClient(etcd.addresses), new LeanEtcdClient(etcd.addresses)];
    const pids = etcd.addresses.map((_, member) => etcd.pid(member)!);
    try {
      let last = 0;
      for (const client of clients) {
        for (const [member] of etcd.addresses.entries()) {
          const revision = await client.put(member, bytes(`key-${member}`), bytes("value"));
          expect(revision).toBe(last === 0 ? revision : last + 1); // one write, one revision: nothing is made up
          last = revision;
        }
      }
      const leader = await etcd.leader();
      await etcd.kill(leader);
      for (const client of clients)
        await expect(client.put(leader, bytes("key"), bytes("value"), 500)).rejects.toBeInstanceOf(EtcdError);
      const next = await etcd.leaderOtherThan(leader);
      for (const client of clients) expect(await client.put(next, bytes("key"), bytes("value"))).toBe(++last);
      etcd.restart(leader);
      await etcd.ready();
      for (const client of clients) expect(await client.put(leader, bytes("key"), bytes("value"))).toBe(++last);
    } finally {
      for (const client of clients) client.close();
      await etcd.stop();
    }
    for (const pid of pids) expect(existsSync(`/proc/${pid}`)).toBe(false);
  });
});
