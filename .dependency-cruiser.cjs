// Which folder may import which. Arrows point the way imports may go:
//
//   core <- packet <- dataplane <- mux | agent | fabric          manager/raft/core, manager/state <- stages <- api
//   runtime is open to every shell folder; mux, agent and manager never import each other; fabric, cli, bench and test may
//   import several roles.
//
// test/tidy/imports.test.ts holds the purity of the pure folders a second time, without this tool.
const pure =
  "^(core|packet|dataplane|manager/raft/core|manager/state|mux/dataplane|mux/fairness|mux/peers|agent/dataplane)/|^agent/health/monitor\\.ts$";

module.exports = {
  forbidden: [
    {
      name: "no-cycles",
      comment: "Two files that need each other are one file, or hide a third.",
      severity: "error",
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ["type-only"] } },
    },
    {
      name: "no-unresolved",
      severity: "error",
      from: {},
      to: { couldNotResolve: true },
    },
    {
      name: "no-undeclared-package",
      comment: "A package that is used is named in package.json.",
      severity: "error",
      from: { pathNot: "^test/" },
      to: { dependencyTypes: ["npm-no-pkg", "npm-unknown", "npm-dev"], pathNot: "^node_modules/@types/" },
    },
    {
      name: "core-imports-nothing",
      severity: "error",
      from: { path: "^core/" },
      to: { pathNot: "^core/" },
    },
    {
      name: "packet-imports-core",
      severity: "error",
      from: { path: "^packet/" },
      to: { pathNot: "^(core|packet)/" },
    },
    {
      name: "dataplane-imports-packet",
      severity: "error",
      from: { path: "^dataplane/" },
      to: { pathNot: "^(core|packet|dataplane)/" },
    },
    {
      name: "pure-imports-pure",
      comment: "A pure folder imports pure folders only: no Node, no package, no shell.",
      severity: "error",
      from: { path: pure },
      to: { pathNot: pure },
    },
    {
      name: "runtime-knows-no-role",
      severity: "error",
      from: { path: "^runtime/" },
      to: { path: "^(manager|mux|agent|fabric|cli|bench|test)/" },
    },
    {
      name: "roles-apart-manager",
      comment:
        "Manager, MUX and agent speak over the wire; what they share is in core, packet, dataplane, proto or runtime.",
      severity: "error",
      from: { path: "^manager/" },
      to: { path: "^(mux|agent|fabric|cli|bench|test)/" },
    },
    {
      name: "roles-apart-mux",
      severity: "error",
      from: { path: "^mux/" },
      to: { path: "^(manager|agent|fabric|cli|bench|test)/" },
    },
    {
      name: "roles-apart-agent",
      severity: "error",
      from: { path: "^agent/" },
      to: { path: "^(manager|mux|fabric|cli|bench|test)/" },
    },
    {
      name: "nothing-imports-test",
      severity: "error",
      from: { pathNot: "^(test|bench)/" },
      to: { path: "^(test|bench)/" },
    },
    {
      name: "raft-core-alone",
      comment: "The Raft core knows nothing of what is replicated.",
      severity: "error",
      from: { path: "^manager/raft/core/" },
      to: { pathNot: "^(core|manager/raft/core)/" },
    },
    {
      name: "raft-knows-no-state",
      severity: "error",
      from: { path: "^manager/raft/" },
      to: { path: "^manager/(state|stages|seda|api|projection|history)/" },
    },
    {
      name: "raft-through-its-index",
      severity: "error",
      from: { path: "^manager/", pathNot: "^manager/raft/" },
      to: { path: "^manager/raft/", pathNot: "^manager/raft/index\\.ts$" },
    },
    {
      name: "state-below-stages",
      severity: "error",
      from: { path: "^manager/state/" },
      to: { path: "^manager/(raft|stages|seda|api|projection|history)/" },
    },
    {
      name: "seda-knows-no-load-balancing",
      severity: "error",
      from: { path: "^manager/seda/" },
      to: { path: "^manager/(?!seda/)" },
    },
    {
      name: "stages-below-api",
      severity: "error",
      from: { path: "^manager/stages/" },
      to: { path: "^manager/api/" },
    },
    {
      name: "wire-types-at-the-edge",
      comment: "Wire types are converted once, where they arrive.",
      severity: "error",
      from: { pathNot: "^(runtime|cli|test|bench|proto)/|/(api|control|transport|projection)/" },
      to: { path: "^proto/gen/" },
    },
    {
      name: "sockets-and-databases-in-the-shell",
      comment:
        "Only runtime/ and main.ts open sockets, files and databases; a launcher starts processes; TLS of probes runs over two streams of bytes.",
      severity: "error",
      from: { pathNot: "^(runtime|cli|bench|test)/|(^|/)main\\.ts$|^fabric/launcher|^agent/health/tls-session\\.ts$" },
      to: {
        path: "^(node:)?(net|dgram|tls|http|https|http2|child_process|worker_threads|cluster|fs|fs/promises)$|^node_modules/(level|classic-level|memory-level|@grpc/reflection|grpc-health-check)/",
        dependencyTypesNot: ["type-only"],
      },
    },
  ],
  options: {
    doNotFollow: { path: "^(node_modules|proto/gen)/" },
    exclude: { path: "^dist/" },
    tsPreCompilationDeps: true, // a type-only import is an import
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["import", "require", "node", "default", "types"],
      extensions: [".ts", ".js", ".mjs", ".cjs", ".json", ".d.ts"],
    },
  },
};
