/** A step of the demo: ten million random bytes through a VIP of each family arrive as they were sent. */
import { familyOf } from "../core/address.js";
import type { IpAddress } from "../core/brands.js";
import { BulkTransfer, type BulkResult } from "./bulk-transfer.js";
import type { EmbeddedSite } from "./embedded-site.js";
import { BULK_IPV6_VIP, BULK_PORT, BULK_VIP } from "./site.js";

const BULK_BYTES = 10_000_000;

export class BulkCheck {
  readonly vips: readonly IpAddress[] = [BULK_VIP, BULK_IPV6_VIP];
  private readonly results = new Map<IpAddress, BulkResult>();

  /** One VIP after the other. What went wrong; null: nothing. */
  async run(site: EmbeddedSite, say: (text: string) => void): Promise<string | null> {
    for (const vip of this.vips) {
      const failure = await this.send(site, vip, say);
      if (failure !== null) return `${vip}: ${failure}`;
    }
    return null;
  }

  /** For the table: name, value. */
  rows(): readonly (readonly [string, string])[] {
    return this.vips.map((vip) => {
      const result = this.results.get(vip);
      const value = result === undefined ? "not measured" : `${result.bytes}, ${result.isWhole ? "yes" : "NO"}`;
      return [`bytes through ${vip}, hashes equal`, value];
    });
  }

  measures(): Record<string, number | boolean | null> {
    const of = (vip: IpAddress, name: string): Record<string, number | boolean | null> => {
      const result = this.results.get(vip);
      return {
        [`${name}Bytes`]: result?.bytes ?? null,
        [`${name}HashesEqual`]: result?.isWhole ?? false,
        [`${name}Ms`]: result === undefined ? null : Math.round(result.elapsedMs),
      };
    };
    return { ...of(BULK_VIP, "bulk"), ...of(BULK_IPV6_VIP, "bulkIpv6") };
  }

  private async send(site: EmbeddedSite, vip: IpAddress, say: (text: string) => void): Promise<string | null> {
    const { fabric, env } = site;
    const [source] = familyOf(vip) === "ipv6" ? fabric.clientsIpv6 : fabric.clients;
    if (source === undefined) return "the site has no client of its family";
    const destination = { address: vip, port: BULK_PORT };
    const plan = { source, destination, bytes: BULK_BYTES };
    const transfer = new BulkTransfer(plan, env.random.fork(), () => env.clock.nowMs());
    await site.until("the bytes to arrive", 60_000, () =>
      transfer.result === null && transfer.failure === null ? "no answer yet" : null,
    );
    const { result } = transfer;
    if (result === null) return transfer.failure;
    this.results.set(vip, result);
    const { bytes, sentHash, receivedHash, elapsedMs, isWhole } = result;
    say(`${bytes} bytes arrived at a VM behind ${vip} in ${Math.round(elapsedMs)} ms`);
    say(`SHA-256 sent      ${sentHash}`);
    say(`SHA-256 arrived   ${receivedHash}`);
    return isWhole ? null : `${bytes} of ${BULK_BYTES} bytes arrived, or other ones`;
  }
}
