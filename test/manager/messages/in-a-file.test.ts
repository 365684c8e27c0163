/** Section "In a file" of docs/configuration.md: mistakes that are found without asking anybody. */
import { parse } from "yaml";
import { formatProblem } from "../../../manager/api/objects/schema-messages.js";
import { validateDocument } from "../../../manager/api/objects/schema.js";
import { provokeAll } from "./document.js";

const head = (kind: string): string => `{apiVersion: ananta/v1, kind: ${kind}, metadata: {name: web}, spec:`;
const vip = (spec: string): string => `${head("Vip")} {address: 203.0.113.10, ${spec}}}`;
const ruled = (...rules: readonly string[]): string => vip(`rules: [${rules.map((rule) => `{${rule}}`).join(", ")}]`);
const rule = "name: r, protocol: tcp, port: 80, pool: web";
const pool = (spec: string): string => `${head("BackendPool")} {${spec}}}`;
const member = (more = ""): string => `{dip: 10.1.0.4${more}}`;
const probe = (spec: string): string => pool(`probe: {protocol: http, ${spec}}`);
const group = (...rules: readonly string[]): string =>
  `${head("SecurityGroup")} {rules: [${rules.map((one) => `{direction: in, action: allow, ${one}}`).join(", ")}]}}`;
const list = (count: number, item: (at: number) => string): string =>
  `[${Array.from({ length: count }, (_, at) => item(at)).join(", ")}]`;

const provocations: Readonly<Record<string, string>> = {
  "empty; write an object with apiVersion, kind, metadata and spec": "",
  "7 is not an object; write apiVersion, kind, metadata and spec": "7",
  'metadata.name: 7 is a number; write "7" in quotes': vip("").replace("name: web", "name: 7"),
  'metadata.labels.rev: "a b" is not a label value; use at most 63 of A-Z, a-z, 0-9, "-", "_", "."': vip("").replace(
    "name: web",
    'name: web, labels: {rev: "a b"}',
  ),
  'metadata.labels["a b"]: "a b" is not a label key; use at most 63 of A-Z, a-z, 0-9, "-", "_", ".", as in app or example.com/app':
    vip("").replace("name: web", 'name: web, labels: {"a b": x}'),
  'spec.rules[0].protocol: "TCP" is not a protocol; write tcp in lower case': ruled(rule.replace("tcp", "TCP")),
  'spec.rules[0].protocol: "sctp" is not a protocol; use tcp, udp, tcp_udp or all': ruled(rule.replace("tcp", "sctp")),
  "spec.rules[0].port: missing; use 1 to 65535": ruled("name: r, protocol: tcp, pool: web"),
  "spec.rules[0].port: 0 is not a port; use 1 to 65535, or protocol all": ruled(
    "name: r, protocol: tcp, port: 0, pool: web",
  ),
  "spec.rules[0].backendPort: every port keeps its number; leave it out": ruled(
    "name: r, protocol: all, pool: web, backendPort: 80",
  ),
  'spec.probe.expectedStatus: empty; list at least one, as in "200-299"': probe("expectedStatus: []"),
  "spec.probe.expectedStatus: more than 8 statuses; use ranges": probe(
    `expectedStatus: ${list(9, (at) => String(200 + at))}`,
  ),
  'spec.addressSpaces[0]: "10.0.0" is not a prefix; write it as in 10.0.0.0/8': `${head("Tenant")} {addressSpaces: ["10.0.0"]}}`,
  "spec.addressSpaces: 65 prefixes; use at most 64": `${head("Tenant")} {addressSpaces: ${list(65, (at) => `10.${at}.0.0/16`)}}}`,
  "spec.rules[0].ports: more than 32 ports; use ranges": group(
    `protocol: tcp, peer: 10.0.0.0/8, priority: 1, ports: ${list(33, (at) => String(80 + at))}`,
  ),
  'apiVersion: "v1" is not known; use ananta/v1': vip("").replace("ananta/v1", "v1"),
  'kind: "Vipp" is not a kind; did you mean Vip?': vip("").replace("kind: Vip", "kind: Vipp"),
  "kind: missing; use Vip, BackendPool, Tenant or SecurityGroup": "{apiVersion: ananta/v1}",
  'metadata.name: "Web_1" is not a name; use 1 to 63 of a-z, 0-9 and "-", with a letter or digit at both ends': vip(
    "",
  ).replace("name: web", "name: Web_1"),
  'metadata.labels.rev: 7 is a number, and labels are text; write "7" in quotes': vip("").replace(
    "name: web",
    "name: web, labels: {rev: 7}",
  ),
  "metadata.labels: 65 labels; use at most 64": vip("").replace(
    "name: web",
    `name: web, labels: {${Array.from({ length: 65 }, (_, at) => `l${at}: x`).join(", ")}}`,
  ),
  "metadata.generation: 0 is not a generation; use the one that get shows, or leave it out": vip("").replace(
    "name: web",
    "name: web, generation: 0",
  ),
  'spec.adress: "adress" is not a field here; did you mean "address"?': vip("").replace("address:", "adress:"),
  'spec.address: "10.1" is not an IP address; write it as in 203.0.113.10 or 2001:db8::10': vip("").replace(
    "203.0.113.10",
    '"10.1"',
  ),
  "spec.address: 127.0.0.1 is a loopback address; use a unicast address, as in 203.0.113.10": vip("").replace(
    "203.0.113.10",
    "127.0.0.1",
  ),
  "spec.address: 169.254.1.1 is a link-local address; use a unicast address, as in 203.0.113.10": vip("").replace(
    "203.0.113.10",
    "169.254.1.1",
  ),
  'spec.address: "2001:DB8::1" is not in canonical form; write 2001:db8::1': vip("").replace(
    "203.0.113.10",
    '"2001:DB8::1"',
  ),
  'spec.scope: "privat" is not a scope; use public or internal': vip("scope: privat"),
  "spec.hairpin: true is not an action; use snat or drop": vip("hairpin: true"),
  "spec.rules: 1501 rules; use at most 1500": vip(
    `rules: ${list(1_501, (at) => `{name: r${at}, protocol: tcp, port: ${at + 1}, pool: web}`)}`,
  ),
  "spec.rules[0].port: 70000 is not a port; use 1 to 65535": ruled(rule.replace("80", "70000")),
  'spec.rules[0].port: "80" is text; write 80 without quotes': ruled(rule.replace("80", '"80"')),
  "spec.rules[0].port: 80 with protocol all; leave it out: all means every port": ruled(rule.replace("tcp", "all")),
  "spec.rules[0].backendPort: a floating Vip keeps the port; leave it out": ruled(
    `${rule}, floatingIp: true, backendPort: 81`,
  ),
  "spec.rules[0].idleSeconds: 5 seconds is too short; use 10 to 86400": ruled(`${rule}, idleSeconds: 5`),
  'spec.rules[0].fastpath: "no" is not true or false; false keeps flows on the MUXes': ruled(`${rule}, fastpath: "no"`),
  'spec.rules[1].name: "r" is the name of spec.rules[0] already; names are unique in a Vip': ruled(
    rule,
    rule.replace("80", "81"),
  ),
  "spec.rules[1].port: tcp port 80 is taken by spec.rules[0] already; a protocol and port belong to one rule": ruled(
    rule,
    rule.replace("name: r", "name: s"),
  ),
  'spec.inboundNat[0].ports: "9-1" is not a port or a range of ports; use 1 to 65535, or a range as in "50000-50099"':
    vip('inboundNat: [{name: ssh, protocol: tcp, ports: "9-1", pool: web, backendPort: 22}]'),
  "spec.outbound.pools: empty; name at least one BackendPool, or leave outbound out": vip("outbound: {pools: []}"),
  "spec.outbound.pools: 65 pools; use at most 64": vip(`outbound: {pools: ${list(65, (at) => `p${at}`)}}`),
  'spec.outbound.pools[1]: pool "web" is spec.outbound.pools[0] already; name each pool once': vip(
    "outbound: {pools: [web, web]}",
  ),
  "spec.outbound.maxPorts: 100 is not a number of SNAT ports; use a multiple of 8 from 8 to 64512": vip(
    "outbound: {pools: [web], maxPorts: 100}",
  ),
  "spec.outbound.minPorts: 4 is not a number of SNAT ports; use 0 or a multiple of 8 up to 64512": vip(
    "outbound: {pools: [web], minPorts: 4}",
  ),
  "spec.securityGroups: 6 groups; use at most 5": vip("securityGroups: [a, b, c, d, e, f]"),
  "spec.overload.restoreAfterSeconds: 10 is not a time in seconds; use 30 to 86400": vip(
    "overload: {restoreAfterSeconds: 10}",
  ),
  'spec.members: "10.1.0.4" is not a list of members; write each below the other, with "- " before it':
    pool("members: 10.1.0.4"),
  "spec.members[1].dip: 10.1.0.4 is spec.members[0] already; list each DIP once": pool(
    `members: [${member()}, ${member()}]`,
  ),
  "spec.members[0].weight: 2000 is not a weight; use 0 to 1000": pool(`members: [${member(", weight: 2000")}]`),
  "spec.members: 2 members exceed maxMembers 1; set spec.maxMembers to 2 or more": pool(
    `maxMembers: 1, members: [${member()}, {dip: 10.1.0.5}]`,
  ),
  "spec.drainTimeoutSeconds: 7200 is not a time in seconds; use 1 to 3600, or 0 to let flows end by themselves":
    pool("drainTimeoutSeconds: 7200"),
  "spec.maxMembers: 656 is not a number of members; use 1 to 655": pool("maxMembers: 656"),
  "spec.probe.timeoutSeconds: 6 is longer than intervalSeconds, 5; use at most that": probe("timeoutSeconds: 6"),
  'spec.probe.path: "health" is not a path; begin it with "/", at most 256 characters': probe("path: health"),
  'spec.probe.expectedStatus[0]: "ok" is not a status or a range of them; use 100 to 599, as in "200" or "200-299"':
    probe("expectedStatus: [ok]"),
  'spec.probe.send: "xyz" is not a payload; write bytes as pairs of hex digits, at most 256 bytes': probe("send: xyz"),
  'spec.addressSpaces[0]: "10.1.0.0/8" has bits below its length; write 10.0.0.0/8': `${head("Tenant")} {addressSpaces: [10.1.0.0/8]}}`,
  'spec.rules[0].peer: "web" is not a peer; use a prefix as in 203.0.113.0/24, "sg:NAME" or "probe"': group(
    "protocol: tcp, priority: 1, peer: web",
  ),
  "spec.rules[0].ports: icmp has no ports; leave them out, or use tcp or udp": group(
    "protocol: icmp, priority: 1, peer: probe, ports: [80]",
  ),
  "spec.rules[1].priority: in priority 100 is that of spec.rules[0] already; priorities are unique per direction":
    group("protocol: tcp, priority: 100, peer: probe", "protocol: udp, priority: 100, peer: probe"),
};

provokeAll("In a file", provocations, (document) => {
  const checked = validateDocument(parse(document));
  return "problems" in checked ? checked.problems.map(formatProblem) : [];
});
