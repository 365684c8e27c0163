/** VIPs on the command line: by address, or by name. */
import { parseIpAddress } from "../core/address.js";
import { AnantaError } from "../core/errors.js";
import { DEFAULT_TENANT } from "../manager/api/objects/schema.js";
import type { ApiClient } from "./api-client.js";
import { GET, LIST } from "./methods.js";

interface NamedVip {
  /** Address or name. */
  readonly vip: string;
  /** Of the name; an address belongs to one VIP, whoever's. */
  readonly tenant?: string;
  readonly stale?: boolean;
}

/** The address of a VIP that is named by either; "" for "". Throws NOT_FOUND. */
export async function vipAddressOf(client: ApiClient, { vip, tenant = "", stale = false }: NamedVip): Promise<string> {
  if (vip === "" || parseIpAddress(vip) !== null) return vip;
  const { response } = await client.read(GET, { ref: { kind: "Vip", tenant, name: vip }, stale });
  return response.object?.vip?.address ?? "";
}

/** Tenant and name of a VIP that is named by either. Throws NOT_FOUND for an address that no VIP has. */
export async function vipRefOf(
  client: ApiClient,
  { vip, tenant = DEFAULT_TENANT, stale = false }: NamedVip,
): Promise<{ readonly tenant: string; readonly name: string }> {
  const address = parseIpAddress(vip);
  if (address === null) return { tenant, name: vip };
  const { pages } = await client.readPages(LIST, { kind: "Vip", tenant: "", stale });
  const found = pages.flatMap(({ objects }) => objects).find((object) => object.vip?.address === address);
  if (found === undefined) throw new AnantaError("NOT_FOUND", `no Vip has the address ${address}`);
  return { tenant: found.metadata?.tenant ?? "", name: found.metadata?.name ?? "" };
}
