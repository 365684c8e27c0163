// The loader hooks of run-ts.mjs: "./x.js" leads to "./x.ts", and what is loaded loses its types.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const cache = join(root, ".ananta", "types-off");
mkdirSync(cache, { recursive: true });
const planted = process.env.ANANTA_MUTANT ? JSON.parse(readFileSync(process.env.ANANTA_MUTANT, "utf8")) : [];
let typescript;

export async function resolve(specifier, context, next) {
  if (/^\.\.?\//.test(specifier) && specifier.endsWith(".js")) {
    const source = new URL(specifier.replace(/\.js$/, ".ts"), context.parentURL);
    if (existsSync(source)) return { url: source.href, format: "module", shortCircuit: true };
  }
  return next(specifier, context);
}

export async function load(url, context, next) {
  if (!url.startsWith("file:") || !url.endsWith(".ts")) return next(url, context);
  const path = fileURLToPath(url);
  const source = withPlanted(relative(root, path), readFileSync(path, "utf8"));
  return { format: "module", source: await withoutTypes(path, source), shortCircuit: true };
}

/** Fails when a mistake no longer finds its place: a mutant that changes nothing would count as one that nobody found. */
export function withPlanted(file, source) {
  let text = source;
  for (const { file: wanted, find, replace } of planted) {
    if (wanted !== file) continue;
    const first = text.indexOf(find);
    if (first < 0 || text.indexOf(find, first + 1) >= 0)
      throw new Error(
        `${file}: "${find}" is there ${first < 0 ? "no more" : "more than once"}; the planted mistake has to be rewritten`,
      );
    text = text.slice(0, first) + replace + text.slice(first + find.length);
  }
  return text;
}

async function withoutTypes(path, source) {
  const key = createHash("sha256").update(path).update("\0").update(source).digest("hex");
  const kept = join(cache, `${key}.js`);
  if (existsSync(kept)) return readFileSync(kept, "utf8");
  typescript ??= (await import("typescript")).default;
  const { outputText } = typescript.transpileModule(source, {
    fileName: path,
    compilerOptions: {
      module: typescript.ModuleKind.ESNext,
      target: typescript.ScriptTarget.ES2022,
      verbatimModuleSyntax: true,
      inlineSourceMap: true,
      inlineSources: false,
    },
  });
  const temporary = `${kept}.${String(process.pid)}`;
  writeFileSync(temporary, outputText);
  renameSync(temporary, kept);
  return outputText;
}
