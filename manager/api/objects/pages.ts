/**
 * Listings of objects in pages, so that no answer outgrows a message. A page ends with the object that makes it
 * `PAGE_BYTES` long; the next begins behind that object's (tenant, name), wherever it stands or stood.
 */
import { AnantaError } from "../../../core/errors.js";
import { ananta } from "../../../proto/gen/wire.js";
import { byText } from "../../state/order.js";
import type { AnyStoredObject, ObjectRef } from "../../state/objects.js";

/** Of VIPs some hundreds, whose status takes about ten milliseconds to find out. */
const PAGE_BYTES = 1 << 16;

type WireObject = ananta.v1.Object.$Properties;
type Position = Pick<ObjectRef, "tenant" | "name">;

export interface ObjectPage {
  readonly objects: readonly WireObject[];
  /** Empty: nothing follows. */
  readonly nextPage: string;
}

/** `objects` in order of (tenant, name); `page` as a caller gave it. Throws INVALID_ARGUMENT for what is no page. */
export function objectPage(
  objects: readonly AnyStoredObject[],
  page: string,
  wire: (object: AnyStoredObject) => WireObject,
): ObjectPage {
  const after = positionOf(page);
  const following = after === null ? objects : objects.filter(({ ref }) => byPosition(ref, after) > 0);
  const taken: WireObject[] = [];
  let bytes = 0;
  for (const object of following) {
    const shown = wire(object);
    taken.push(shown);
    bytes += ananta.v1.Object.encode(shown).pos;
    if (bytes >= PAGE_BYTES && taken.length < following.length)
      return { objects: taken, nextPage: `${object.ref.tenant}/${object.ref.name}` };
  }
  return { objects: taken, nextPage: "" };
}

const byPosition = (a: Position, b: Position): number => byText(a.tenant, b.tenant) || byText(a.name, b.name);

export const noPage = (page: string): AnantaError =>
  new AnantaError("INVALID_ARGUMENT", `page: "${page.slice(0, 64)}" is none; use next_page of the answer before`);

function positionOf(page: string): Position | null {
  if (page === "") return null;
  const slash = page.indexOf("/");
  if (slash < 0 || page.length > 512) throw noPage(page);
  return { tenant: page.slice(0, slash), name: page.slice(slash + 1) };
}
