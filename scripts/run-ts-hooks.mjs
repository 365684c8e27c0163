// The loader hooks of run-ts.mjs: "./x.js" leads to "./x.ts", and what is loaded loses its types.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const cache = join(root, ".ananta", "types-off");
mkdirSync(cache, { recursive: true });
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
  return { format: "module", source: await withoutTypes(path, readFileSync(path, "utf8")), shortCircuit: true };
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
