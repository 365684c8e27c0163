/** `Network` over grpc-js. Plain text: transport security is the next thing to come, until then loopback only. */
import { logVerbosity, setLogVerbosity } from "@grpc/grpc-js";
import type { Channel, Clock, ConnectOptions, Handler, Log, Network, Reach, ServeOptions, Server } from "../env.js";
import { checkListenAddress } from "./address.js";
import { GrpcChannel } from "./grpc-channel.js";
import { GrpcServer } from "./grpc-server.js";
import { probeTcp } from "./tcp-probe.js";

export interface GrpcNetworkOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** Allows to listen on addresses that other machines can reach. */
  readonly insecure: boolean;
}

export class GrpcNetwork implements Network {
  readonly #options: GrpcNetworkOptions;

  constructor(options: GrpcNetworkOptions) {
    this.#options = options;
    // It reports to stderr what it also tells its callers.
    if (process.env["GRPC_VERBOSITY"] === undefined) setLogVerbosity(logVerbosity.NONE);
  }

  async serve(address: string, handlers: readonly Handler[], options: ServeOptions = {}): Promise<Server> {
    const { clock, log, insecure } = this.#options;
    const wanted = checkListenAddress(address, insecure);
    const names = options.publicServices ?? [];
    // Loaded on demand: Host Agents and MUXes serve nothing, and start faster without it.
    const publicServices = names.length === 0 ? null : (await import("./public-services.js")).publicServices(names);
    const all = publicServices === null ? handlers : [...handlers, ...publicServices.handlers];
    const server = new GrpcServer({ clock, log, handlers: all, publicServices });
    await server.bind(wanted);
    return server;
  }

  connect(address: string, options: ConnectOptions = {}): Channel {
    return new GrpcChannel(this.#options.clock, address, options);
  }

  probe(address: string, timeoutMs: number): Promise<Reach> {
    return probeTcp(address, timeoutMs);
  }
}
