/** VIPs on the command line: by address, or by name. */
import { parseIpAddress } from "../core/address.js";
import type { ApiClient } from "./api-client.js";
import { GET } from "./methods.js";

/** The address of a VIP that is named by either; "" for "". Throws NOT_FOUND. */
export async function vipAddressOf(
  client: ApiClient,
  { vip, tenant = "", stale = false }: { readonly vip: string; readonly tenant?: string; readonly stale?: boolean },
): Promise<string> {
  if (vip === "" || parseIpAddress(vip) !== null) return vip;
  const { response } = await client.read(GET, { ref: { kind: "Vip", tenant, name: vip }, stale });
  return response.object?.vip?.address ?? "";
}
