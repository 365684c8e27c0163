/** A value on one line, as YAML's flow style writes it: {dip: 10.1.0.4, weight: 100}. */
import { stringify } from "yaml";

export function flowText(value: unknown): string {
  return stringify(value, { collectionStyle: "flow", lineWidth: 0, flowCollectionPadding: false }).trimEnd();
}
