/** A connection that asks one line, takes the answer and closes: what an operator's `nc` shows. */
import type { IpAddress, Port } from "../../core/brands.js";
import type { Endpoint, TcpApplication, TcpHandle } from "../../fabric/endpoints/endpoint.js";
import { line } from "../../fabric/endpoints/identity-server.js";

export class Call implements TcpApplication {
  /** What came back so far. */
  text = "";
  /** "closed" in order, "reset" or "no-progress"; null: not over. */
  end: string | null = null;

  constructor(
    site: { readonly nowMs: number },
    caller: Endpoint,
    to: { readonly address: IpAddress; readonly port: Port },
  ) {
    caller.connect(to.address, to.port, this, site.nowMs);
  }

  connected(connection: TcpHandle): void {
    connection.send(line("hello"));
  }

  received(connection: TcpHandle, payload: Uint8Array): void {
    this.text += new TextDecoder().decode(payload);
    connection.close();
  }

  ended(_connection: TcpHandle, how: string): void {
    this.end = how;
  }
}
