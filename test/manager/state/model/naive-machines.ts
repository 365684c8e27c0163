/** DIPs and hosts as the model keeps them. */
import type { IpAddress } from "../../../../core/brands.js";

export interface NaiveDip {
  readonly id: number;
  readonly tenant: string;
  readonly address: IpAddress;
  host: string | null;
  locator: IpAddress | null;
}

export interface NaiveHost {
  readonly id: number;
  readonly name: string;
  incarnation: number;
  bootId: string;
  formerBoots: readonly string[];
  isExpired: boolean;
  isFenced: boolean;
}
