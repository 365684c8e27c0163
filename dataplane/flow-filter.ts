/** [pure] What a message says of flows, as `Flows.reset` takes it: 0 and absent mean "any". */
import type { DipId, VipId } from "../core/brands.js";
import type { FlowFilter } from "./contract.js";

interface AskedFilter {
  readonly vipId?: number | null;
  readonly dipId?: number | null;
  readonly protocol?: number | null;
}

export function flowFilter({ vipId, dipId, protocol }: AskedFilter): FlowFilter {
  return {
    ...(vipId ? { vipId: vipId as VipId } : {}),
    ...(dipId ? { dipId: dipId as DipId } : {}),
    ...(protocol ? { protocol } : {}),
  };
}
