/** What `--help` of a process prints: its settings, from the schema that checks them. */
import { z } from "zod";
import { environmentName } from "./settings.js";

/** `program`: path below the package, "mux/main.js". `what`: "One MUX." */
export function settingsHelp(program: string, what: string, schema: z.ZodObject): string {
  const rows = Object.entries(schema.shape as Readonly<Record<string, z.core.$ZodType>>).map(([key, setting]) => {
    const { type, fallback } = describe(setting);
    return [`--${key}`, environmentName(key), type, fallback] as const;
  });
  const header = ["FLAG", "ENVIRONMENT", "TYPE", "DEFAULT"] as const;
  const widths = header.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]): string =>
    `  ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("   ")}`.trimEnd();
  return [
    `${what} Usage: node dist/${program} --config FILE [--SETTING VALUE]...`,
    "",
    "A setting is taken from its flag, else from the environment, else from the file (JSON; also ANANTA_CONFIG), else it has its",
    "default. Lists and objects are written as JSON. docs/operations.md says what they mean.",
    "",
    line(header),
    ...rows.map(line),
    "",
    "SIGTERM or SIGINT stops in order; a second one at once.",
    "",
  ].join("\n");
}

function describe(setting: z.core.$ZodType): { readonly type: string; readonly fallback: string } {
  const isOptional = z.safeParse(setting, undefined).success;
  const { def } = (setting as z.core.$ZodTypes)._zod;
  const fallback = def.type === "default" ? JSON.stringify(def.defaultValue) : isOptional ? "none" : "required";
  return { type: typeText(setting), fallback };
}

function typeText(setting: z.core.$ZodType): string {
  const { def } = (setting as z.core.$ZodTypes)._zod;
  switch (def.type) {
    case "default":
    case "prefault":
    case "optional":
    case "nullable":
      return typeText(def.innerType);
    case "pipe":
      return typeText(def.in);
    case "array":
      return `list of ${typeText(def.element)}`;
    case "enum":
      return Object.values(def.entries).join(" | ");
    default:
      return def.type;
  }
}
