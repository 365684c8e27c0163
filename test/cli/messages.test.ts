/** Section "On the command line" of docs/configuration.md: what `ananta` says before it asks anybody, or when what is named is not there. */
import { provokeAll } from "../manager/messages/document.js";
import type { RunOptions } from "./fake-site.js";
import { siteWithWeb } from "./site-with-web.js";

const named = (spec = "address: 203.0.113.20"): string =>
  `{apiVersion: ananta/v1, kind: Vip, metadata: {name: web}, spec: {${spec}}}`;
const files = {
  "empty/readme": "",
  "none.yaml": "# nothing\n",
  "web.yaml": named(),
  "twice.yaml": `${named()}\n---\n${named()}`,
};
const many = Array.from({ length: 1_001 }, (_, at) => named().replace("name: web", `name: v${at}`)).join("\n---\n");

/** The command line, and files that there are. */
const provocations: Readonly<Record<string, readonly [words: string, options?: RunOptions]>> = {
  '--endpoints: "here" is not host:port; write for example 127.0.0.1:7401,127.0.0.1:7402': ["status --endpoints here"],
  '--timeout: "soon" is not a time span; write for example 500ms, 10s or 1m': ["status --timeout soon"],
  "-f FILE is missing": ["apply"],
  "name a type: one of vips, backendpools (pools), tenants, securitygroups (sg), muxes, hosts, replicas": ["delete"],
  "empty: no .yaml, .yml or .json files in this folder": ["apply -f empty", { files }],
  "no objects in none.yaml": ["apply -f none.yaml", { files }],
  "1001 objects; one apply takes at most 1000": ["apply -f many.yaml", { files: { "many.yaml": many } }],
  'metadata.tenant: "default" is not the tenant given with --tenant, "bank"': [
    "apply -f own.yaml --tenant bank",
    { files: { "own.yaml": named().replace("name: web", "name: web, tenant: default") } },
  ],
  'metadata.name: Vip "web" is written at twice.yaml:1:53 already; write each object once': [
    "apply -f twice.yaml",
    { files },
  ],
  "items: 7 is not a list of objects": [
    "apply -f list.yaml",
    { files: { "list.yaml": "{apiVersion: ananta/v1, kind: List, items: 7}" } },
  ],
  '"vipz" is not a type; did you mean "vip"?': ["get vipz"],
  "a mux cannot be deleted; only vips, backendpools, tenants and securitygroups can": ["delete mux mux-1"],
  "names belong to one type; write for example vip/web": ["get vips,pools web"],
  '"vip/" is not TYPE/NAME; write for example vip/web': ["get vip/"],
  "name what to delete: ananta delete vip NAME...": ["delete vip"],
  "give names or -f FILE, not both": ["delete vip web -f web.yaml", { files }],
  "metadata.name: missing; name the object": [
    "delete -f nameless.yaml",
    { files: { "nameless.yaml": "{apiVersion: ananta/v1, kind: Vip}" } },
  ],
  "name what to describe: ananta describe vip NAME": ["describe vip"],
  'mux "mux-9" does not exist': ["describe mux mux-9"],
  "a JSON Schema is that of a whole type: ananta explain vip --json-schema": ["explain vip.rules --json-schema"],
  "--from-index goes with --watch": ["get vips --from-index 7"],
  '--from-index: "now" is not a log index; use the one that "ananta get -o json" shows': [
    "get vips -w --from-index now",
  ],
  "--watch takes one type": ["get vips,pools -w"],
  "--selector chooses by labels: give no names with it": ["get vip web -l app=shop"],
  "--selector does not go with --watch": ["get vips -w -l app=shop"],
  "--selector: muxes have no labels": ["get muxes -l app=shop"],
  '--selector "app!": "app!" is no requirement; write app=web, app!=web, app, !app, "app in (web,api)" or "app notin (web,api)"':
    ["get vips --selector=app!"],
  "a name belongs to one tenant: give --tenant, not --all-tenants": ["get vip web -A"],
  "--reason: 0 characters; use 1 to 256": ["mux drain mux-1 --reason="],
  '--for: "5s" is out of bounds; use whole seconds from 30s to 24h': ["vip withdraw web --reason test --for 5s"],
  "no Vip has the address 203.0.113.99": ["vip withdraw 203.0.113.99 --reason test"],
  "name --dip or --vip: which flows shall end?": ["flow reset"],
  '"tcp" is not a flow; write for example tcp 198.51.100.10:40000 203.0.113.10:80': ["flow explain tcp"],
  '"icmp" is not a protocol; use tcp or udp': ["flow explain icmp 198.51.100.10:1 203.0.113.10:80"],
  'source "198.51.100.10" is not ADDRESS:PORT (port 1 to 65535, IPv6 as in [2001:db8::1]:80); write for example tcp 198.51.100.10:40000 203.0.113.10:80':
    ["flow explain tcp 198.51.100.10 203.0.113.10:80"],
  '--dip: "10.1" is not an IP address': ["snat list --dip 10.1"],
  '"web" is not VIP:PORT or VIP:PORT/PROTOCOL; write for example 203.0.113.10:40001/tcp': ["snat who web"],
  '--at: "noon" is not a time; write 2026-05-01T12:00:00Z, or how long ago, as 90s or 2h': [
    "snat who 203.0.113.10:40001 --at noon",
  ],
  "--at: 2099-01-01T00:00:00Z is yet to come": ["snat who 203.0.113.10:40001 --at 2099-01-01T00:00:00Z"],
  '--by: "host" is none of vip, tenant, dip': ["snat usage --by host"],
  '"x" is not a node id; it is a number from 1 to 65535': ["cluster remove x"],
};

provokeAll("On the command line", provocations, async ([words, options]) => {
  const site = await siteWithWeb("messages");
  const { err } = await site.run(words, options);
  return err.split("\n").map((line) =>
    line
      .replace(/^error: /, "")
      .replace(/^[a-z]+\.yaml:\d+:\d+: /, "")
      .replace(/ \([A-Z_]+\)$/, ""),
  );
});
