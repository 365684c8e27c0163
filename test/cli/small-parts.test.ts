import { execFileSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { formatDuration, parseDuration } from "../../cli/terminal/durations.js";
import { parseManifest, problemLine, type ManifestObject, type ProblemLine } from "../../cli/objects/manifests.js";
import { createTable } from "../../cli/terminal/table.js";
import { FakeSite } from "./fake-site.js";

const plain = (_style: unknown, text: string): string => text;

describe("the table writer", () => {
  it("pads columns to their widest cell and leaves no space at line ends", () => {
    const table = createTable(["NAME", "N"], plain);
    expect(
      table.render([
        ["a", 1],
        ["longer", ""],
      ]),
    ).toBe("NAME     N\na        1\nlonger   <none>\n");
  });

  it("measures text without its colour", () => {
    const table = createTable(["A", "B"], (_style, text) => `<${text}>`);
    expect(table.render([[{ text: "xy", style: "good" }, "z"]])).toBe("A    B\n<xy>   z\n");
  });

  it("keeps widths for rows that come later", () => {
    const table = createTable(["NAME", "N"], plain);
    table.render([["longer", 1]]);
    expect(table.render([["a", 2]], { header: false })).toBe("a        2\n");
  });
});

describe("durations", () => {
  it("are read with or without a unit", () => {
    expect(["500ms", "10s", "1.5m", "3"].map((text) => parseDuration(text, "--timeout"))).toEqual([
      500, 10_000, 90_000, 3_000,
    ]);
    for (const wrong of ["", "0", "-1s", "1d", "1e9h"])
      expect(() => parseDuration(wrong, "--timeout")).toThrow(`--timeout: "${wrong}" is not`);
  });

  it("are written short", () => {
    expect([12, 1_500, 120_000].map(formatDuration)).toEqual(["12 ms", "1.5 s", "2 m"]);
  });
});

function parse(text: string): {
  readonly objects: readonly ManifestObject[];
  readonly problems: readonly ProblemLine[];
} {
  const objects: ManifestObject[] = [];
  const problems: ProblemLine[] = [];
  parseManifest("a.yaml", text, objects, problems);
  return { objects, problems };
}

describe("a place in a manifest", () => {
  const { objects } = parse(`kind: Vip
spec:
  address: "10.1"
  rules:
    - name: http
      port: 70000
    - {name: dns, prt: 53}
  outbound: {pools: [web, web]}
metadata:
  labels: &shared {app: x}
---
kind: BackendPool
metadata: {labels: {}}
`);
  const rows: [title: string, at: number, path: string, position: string, isName?: true][] = [
    ["a value is at the value", 0, "spec.rules[0].port", "6:13"],
    ["a value in one line is too", 0, "spec.rules[1].name", "7:14"],
    ["a wrong field is at its name", 0, "spec.rules[1].prt", "7:19", true],
    ["a block is at its key", 0, "spec.rules", "4:3"],
    ["an element of a list is at its start", 0, "spec.outbound.pools[1]", "8:27"],
    ["what is missing is where it should be", 0, "spec.rules[0].protocol", "5:7"],
    ["a missing top field is at the document's start", 0, "apiVersion", "1:1"],
    ["a second document counts from the file's start", 1, "kind", "12:7"],
    ["a missing name is at its metadata", 1, "metadata.name", "13:11"],
    ["the whole document is at its start", 1, "", "12:1"],
  ];
  it.each(rows)("%s", (...[, at, path, position, isName]) => {
    const line = problemLine(objects[at]!.source, { path, message: "x", ...(isName ? { isName } : {}) });
    expect(line).toBe(`a.yaml:${position}: ${path === "" ? "" : `${path}: `}x`);
  });

  it("is found for mistakes in the form, too", () => {
    expect(parse("kind: Vip\nkind: Vip\n").problems).toEqual([
      "a.yaml:2:1: this field is written twice in one mapping; keep one",
    ]);
    expect(parse("spec:\n\tx: 1\n").problems).toEqual([
      "a.yaml:2:1: a tab at the start of a line; YAML is indented with spaces",
    ]);
    expect(parse("a: *nowhere\n").problems[0]).toMatch(/^a\.yaml:1:\d+: /);
  });

  it("is found inside the items of a list", () => {
    const list = parse("apiVersion: ananta/v1\nkind: List\nitems:\n  - kind: Vip\n    spec: {address: x}\n");
    expect(problemLine(list.objects[0]!.source, { path: "spec.address", message: "x" })).toBe(
      "a.yaml:5:21: spec.address: x",
    );
    expect(parse("apiVersion: ananta/v1\nkind: List\nitems: 3\n").problems).toEqual([
      "a.yaml:3:8: items: 3 is not a list of objects",
    ]);
  });

  it("survives documents that hold only comments, or nothing", () => {
    expect(parse("")).toEqual({ objects: [], problems: [] });
    expect(parse("# a\n---\n# b\n---\n")).toEqual({ objects: [], problems: [] });
  });
});

describe("completion", () => {
  /** What bash offers for a line, with a stand-in for the program itself. */
  async function offers(...words: readonly string[]): Promise<readonly string[]> {
    const { out } = await new FakeSite("completion").run("completion bash");
    const quoted = words.map((word) => `'${word}'`).join(" ");
    const script = `${out}\nananta() { printf 'vip/web\\nvip/api\\n'; }\nCOMP_WORDS=(ananta ${quoted}); COMP_CWORD=${words.length}; _ananta; printf '%s\\n' "\${COMPREPLY[@]}"`;
    return execFileSync("bash", ["-c", script], { encoding: "utf8" }).trim().split("\n").sort();
  }

  it("in bash offers commands, types, names, options and their values", async () => {
    expect(await offers("de")).toEqual(["delete", "describe"]);
    expect(await offers("get", "v")).toEqual(["vip", "vips"]);
    expect(await offers("get", "-o", "wide", "vip", "")).toEqual(["api", "web"]);
    expect(await offers("get", "vips", "-o", "j")).toEqual(["json"]);
    expect(await offers("get", "vips", "--st")).toEqual(["--stale"]);
    expect(await offers("snat", "")).toEqual(["forecast", "list", "usage", "who"]);
    expect(await offers("snat", "list", "--v")).toEqual(["--vip"]);
    expect(await offers("mux", "")).toEqual(["drain", "undrain"]);
    expect(await offers("mux", "drain", "")).toEqual(["api", "web"]); // whatever `get mux -o name` says
    expect(await offers("mux", "drain", "api", "--f")).toEqual(["--force"]);
    expect(await offers("completion", "")).toEqual(["bash", "fish", "zsh"]);
    expect(await offers("apply", "--endp")).toEqual(["--endpoints"]);
  });

  it("is written for zsh and fish from the same commands", async () => {
    const site = new FakeSite("completion others");
    expect((await site.run("completion zsh")).out).toMatch(/^#compdef ananta\n/);
    const fish = (await site.run("completion fish")).out;
    expect(fish).toContain("complete -c ananta -n '__fish_use_subcommand' -a apply -d");
    expect(fish).toContain(
      "'__fish_seen_subcommand_from mux; and __fish_seen_subcommand_from drain' -a '(__ananta_names mux)'",
    );
    expect(fish).toContain("-s o -l output -x -a 'table wide json yaml name'");
  });
});
