// Type-checked lint, plus two rules of the architecture that a linter can hold:
//   determinism   outside the shell no code reads a clock, sets a timer or rolls dice: it asks its `env`
//   purity        the pure folders are synchronous functions of their arguments and import nothing of Node or the wire
import tseslint from "typescript-eslint";

const pureFolders = [
  "core",
  "packet",
  "dataplane",
  "manager/raft/core",
  "manager/state",
  "mux/dataplane",
  "mux/fairness",
  "mux/peers",
  "agent/dataplane",
  "test/linearizability",
];
const pure = [...pureFolders.map((folder) => `${folder}/**/*.ts`), "agent/health/monitor.ts"];
// Where real time and real chance are allowed.
const shell = [
  "runtime/**",
  "cli/**",
  "bench/**",
  "scripts/**",
  "test/e2e/**",
  "test/chaos/**",
  "**/main.ts",
  "fabric/launcher*",
  "fabric/launcher*/**",
  "vitest.config.ts",
  "*.js",
];

const timeAndChance = "Ask `env` (runtime/env) for time, timers and randomness: the simulator replaces them.";
const forbiddenGlobals = [
  "setTimeout",
  "setInterval",
  "setImmediate",
  "clearTimeout",
  "clearInterval",
  "clearImmediate",
  "Date",
  "performance",
  "crypto",
].map((name) => ({ name, message: timeAndChance }));

const determinismSyntax = [
  {
    selector: "MemberExpression[object.name='process'][property.name=/^(nextTick|hrtime|uptime)$/]",
    message: timeAndChance,
  },
  { selector: "MemberExpression[object.name='Math'][property.name='random']", message: timeAndChance },
  {
    selector:
      "MemberExpression[object.name='globalThis'][property.name=/^(setTimeout|setInterval|setImmediate|Date|performance|crypto)$/]",
    message: timeAndChance,
  },
  {
    selector: "MemberExpression[object.name='crypto'][property.name=/^(random|getRandomValues|generateKey)/]",
    message: timeAndChance,
  },
  {
    selector:
      "NewExpression[callee.name='PQueue'] Property[key.name=/^(timeout|interval|intervalCap|carryoverIntervalCount)$/]",
    message: "p-queue would use its own timers: keep deadlines in the stage, on env's clock.",
  },
];
const determinismImports = [
  { name: "node:timers", message: timeAndChance },
  { name: "node:timers/promises", message: timeAndChance },
  { name: "node:perf_hooks", message: timeAndChance },
  {
    name: "node:crypto",
    importNames: [
      "randomBytes",
      "randomInt",
      "randomUUID",
      "randomFill",
      "randomFillSync",
      "webcrypto",
      "getRandomValues",
    ],
    message: timeAndChance,
  },
];

const namedExports = { selector: "ExportDefaultDeclaration", message: "Named exports only." };
const noEnum = { selector: "TSEnumDeclaration", message: "Use a union of string literals." };
const inPure = "Pure folder: no asynchrony; the shell drives it.";
const puritySyntax = [
  { selector: ":function[async=true]", message: inPure },
  { selector: "AwaitExpression", message: inPure },
  { selector: "ForOfStatement[await=true]", message: inPure },
  { selector: "TSTypeReference > Identifier[name='Promise']", message: inPure },
  { selector: "ImportExpression", message: inPure },
];

export default tseslint.config(
  { ignores: ["node_modules/", "dist/", "coverage/", ".ananta/", "proto/gen/", "console/", "**/*.cjs"] },
  { linterOptions: { reportUnusedDisableDirectives: "error" } },
  {
    files: ["**/*.ts"],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { project: "./tsconfig.json", tsconfigRootDir: import.meta.dirname } },
    rules: {
      "@typescript-eslint/no-floating-promises": "error",
      "@typescript-eslint/switch-exhaustiveness-check": [
        "error",
        { considerDefaultExhaustiveForUnions: true, requireDefaultForNonUnion: false },
      ],
      "@typescript-eslint/consistent-type-imports": ["error", { fixStyle: "inline-type-imports" }],
      "@typescript-eslint/use-unknown-in-catch-callback-variable": "error",
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_" }],
      // Noise here: numbers in templates are fine; `!` on an index proven in range is house style on the packet path; a
      // condition "always true" by the types is often a check of what came from outside.
      "@typescript-eslint/restrict-template-expressions": [
        "error",
        { allowNumber: true, allowBoolean: true, allowNullish: false, allowNever: true },
      ],
      "@typescript-eslint/no-non-null-assertion": "off",
      "@typescript-eslint/no-unnecessary-condition": "off",
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      "@typescript-eslint/no-extraneous-class": "off",
      // Generated enums are IANA numbers; ours are unions of the same numbers, checked at the edge.
      "@typescript-eslint/no-unsafe-enum-assignment": "off",
      "@typescript-eslint/no-unsafe-enum-comparison": "off",
      "@typescript-eslint/unified-signatures": "off",
      "@typescript-eslint/no-unnecessary-type-parameters": "off",
      "@typescript-eslint/prefer-promise-reject-errors": "off",
      "@typescript-eslint/no-dynamic-delete": "off",
      "@typescript-eslint/return-await": ["error", "in-try-catch"],
    },
  },
  {
    files: ["**/*.ts", "**/*.js", "**/*.mjs"],
    plugins: { "@typescript-eslint": tseslint.plugin, house: { rules: { "node-prefix": nodePrefixRule() } } },
    languageOptions: { ecmaVersion: 2024, sourceType: "module" },
    rules: {
      "house/node-prefix": "error",
      eqeqeq: ["error", "always"],
      "no-var": "error",
      "prefer-const": "error",
      "no-restricted-syntax": ["error", namedExports, noEnum],
      "max-lines": ["warn", { max: 500, skipBlankLines: false, skipComments: false }],
    },
  },
  {
    files: ["**/*.ts"],
    ignores: shell,
    rules: {
      "no-restricted-globals": ["error", ...forbiddenGlobals],
      "no-restricted-syntax": ["error", namedExports, noEnum, ...determinismSyntax],
      "no-restricted-imports": ["error", { paths: determinismImports }],
    },
  },
  {
    files: pure,
    ignores: ["**/*.test.ts"],
    rules: {
      "no-restricted-globals": [
        "error",
        ...forbiddenGlobals,
        { name: "Promise", message: inPure },
        { name: "queueMicrotask", message: inPure },
        { name: "process", message: "Pure folder: configuration comes in as an argument." },
        { name: "Buffer", message: "Pure folder: use Uint8Array and DataView." },
        { name: "console", message: "Pure folder: return what should be said." },
      ],
      "no-restricted-syntax": ["error", namedExports, noEnum, ...determinismSyntax, ...puritySyntax],
      "no-restricted-imports": [
        "error",
        {
          patterns: [
            {
              regex:
                "^(node:|@grpc/|grpc-|protobufjs|level$|abstract-level|classic-level|memory-level|p-queue|pino|prom-client)|proto/gen/",
              message: "Pure folder: no Node, gRPC, database or wire types.",
            },
          ],
        },
      ],
    },
  },
  {
    files: ["test/**/*.ts"],
    rules: {
      "@typescript-eslint/no-empty-function": "off",
      "@typescript-eslint/unbound-method": "off",
      "@typescript-eslint/require-await": "off",
      "@typescript-eslint/restrict-template-expressions": "off",
    },
  },
  {
    // Tools and vitest take a default export.
    files: ["vitest.config.ts", "*.js", "scripts/**/*.mjs"],
    rules: { "no-restricted-syntax": "off" },
  },
);

// `import "fs"` -> `import "node:fs"`. Twelve lines of our own instead of one more plugin.
function nodePrefixRule() {
  const builtin =
    /^(assert|async_hooks|buffer|child_process|cluster|crypto|dgram|dns|events|fs|http|http2|https|module|net|os|path|perf_hooks|process|readline|stream|string_decoder|timers|tls|tty|url|util|v8|vm|worker_threads|zlib)(\/|$)/;
  const check = (context) => (node) => {
    if (typeof node.source?.value === "string" && builtin.test(node.source.value)) {
      context.report({
        node: node.source,
        message: `Write "node:${node.source.value}".`,
        fix: (fixer) => fixer.replaceText(node.source, JSON.stringify(`node:${node.source.value}`)),
      });
    }
  };
  return {
    meta: { type: "problem", fixable: "code", schema: [] },
    create: (context) => {
      const report = check(context);
      return {
        ImportDeclaration: report,
        ExportNamedDeclaration: report,
        ExportAllDeclaration: report,
        ImportExpression: report,
      };
    },
  };
}
