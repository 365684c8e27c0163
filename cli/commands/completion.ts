/**
 * `ananta completion bash|zsh|fish`: a script for the shell, made from the commands themselves. Names of objects are asked
 * of the cluster while completing (`get TYPE -o name`, one second at most).
 */
import { Argument, Command, type Option } from "commander";
import type { Context } from "../context.js";
import { EXIT } from "../terminal/exit-codes.js";
import { RESOURCE_TYPES } from "../objects/resource-types.js";

type ShellName = "bash" | "zsh" | "fish";

export function completionCommand(context: Context): Command {
  return new Command("completion")
    .description("print a completion script; for bash: source <(ananta completion bash)")
    .addArgument(new Argument("<shell>", "shell to complete in").choices(["bash", "zsh", "fish"]))
    .action(context.action((shell: ShellName, _options: unknown, command: Command) => print(context, shell, command)));
}

// eslint-disable-next-line @typescript-eslint/require-await -- actions are asynchronous, also those that ask nobody
async function print(context: Context, shell: ShellName, command: Command) {
  const root = command.parent ?? command;
  const scripts = { bash: bashScript, zsh: zshScript, fish: fishScript };
  context.print(scripts[shell](commandsOf(root, ""), optionsOf(root)));
  return EXIT.ok;
}

interface Completed {
  /** "get", "snat list"; "" is the program itself. */
  readonly path: string;
  readonly description: string;
  readonly subcommands: readonly { readonly name: string; readonly description: string }[];
  readonly options: readonly Completable[];
  /** Its first argument is a type, the ones after it are names. */
  readonly takesTargets: boolean;
  /** Type whose names its first argument takes, or "". */
  readonly namesOf: string;
  /** Values of its first argument. */
  readonly choices: readonly string[];
}

interface Completable {
  readonly flags: readonly string[];
  readonly description: string;
  readonly choices: readonly string[];
  readonly takesValue: boolean;
  readonly takesFile: boolean;
}

function commandsOf(command: Command, path: string): readonly Completed[] {
  const [first] = command.registeredArguments;
  const own: Completed = {
    path,
    description: command.description(),
    subcommands: command.commands.map((sub) => ({ name: sub.name(), description: sub.description() })),
    options: optionsOf(command),
    takesTargets: first?.name() === "target",
    namesOf: RESOURCE_TYPES.find(({ name }) => name === first?.name())?.name ?? "",
    choices: first?.argChoices ?? [],
  };
  return [
    own,
    ...command.commands.flatMap((sub) => commandsOf(sub, path === "" ? sub.name() : `${path} ${sub.name()}`)),
  ];
}

const optionsOf = (command: Command): readonly Completable[] =>
  command.options.filter(({ hidden }) => !hidden).map(completable);

function completable(option: Option): Completable {
  const flags = [option.short, option.long].filter((flag) => flag !== undefined && flag !== null);
  const takesValue = option.required || option.optional;
  return {
    flags,
    description: option.description,
    choices: option.argChoices ?? [],
    takesValue,
    takesFile: option.long === "--filename",
  };
}

const TYPES = RESOURCE_TYPES.flatMap(({ name, aliases }) => [name, ...aliases]).join(" ");
/** Names of type $1, for all three shells. */
const NAMES = `ananta get "$1" -o name --stale --timeout 1s 2>/dev/null | cut -d/ -f2-`;
const flagsOf = (options: readonly Completable[]): string => options.flatMap(({ flags }) => flags).join(" ");

function bashScript(commands: readonly Completed[], shared: readonly Completable[]): string {
  const all = commands.flatMap(({ options }) => options);
  const valued = [...new Set(all.filter(({ takesValue }) => takesValue).flatMap(({ flags }) => flags))];
  const files = [...new Set(all.filter(({ takesFile }) => takesFile).flatMap(({ flags }) => flags))];
  const groups = commands
    .filter(({ subcommands, path }) => path !== "" && subcommands.length > 0)
    .map(({ path }) => path);
  const choiceCases = commands.flatMap(({ path, options }) =>
    options
      .filter(({ choices }) => choices.length > 0)
      .map(
        ({ flags, choices }) =>
          `    ${flags.map((flag) => `"${path} ${flag}"`).join("|")}) words="${choices.join(" ")}" ;;`,
      ),
  );
  const cases = commands.map(({ path, subcommands, options, takesTargets, namesOf, choices }) => {
    const lines = [`flags="${flagsOf([...options, ...(path === "" ? [] : shared)])} --help"`];
    if (subcommands.length > 0) lines.push(`words="${subcommands.map(({ name }) => name).join(" ")}"`);
    if (choices.length > 0) lines.push(`words="${choices.join(" ")}"`);
    if (namesOf !== "") lines.push(`if [[ -z $type ]]; then words="$(_ananta_names ${namesOf})"; fi`);
    if (takesTargets) lines.push(`if [[ -z $type ]]; then words="${TYPES}"; else words="$(_ananta_names "$type")"; fi`);
    return `    "${path}") ${lines.join("; ")} ;;`;
  });
  return `# bash completion for ananta
_ananta_names() { ${NAMES}; }
_ananta() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" prev="\${COMP_WORDS[COMP_CWORD-1]}" path="" type="" words="" flags="" i word
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="\${COMP_WORDS[i]}"
    case "\${COMP_WORDS[i-1]}" in ${valued.join("|")}) continue ;; esac
    case "$word" in -*) continue ;; esac
    if [[ -z $path ]]; then path="$word"
    elif [[ $path == ${groups.length === 0 ? '""' : groups.map((group) => `"${group}"`).join(" || $path == ")} ]]; then path="$path $word"
    elif [[ -z $type ]]; then type="$word"; fi
  done
  COMPREPLY=()
  case "$prev" in ${files.join("|")}) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur")); return ;; esac
  case "$path $prev" in
${choiceCases.join("\n")}
  esac
  if [[ -n $words ]]; then COMPREPLY=($(compgen -W "$words" -- "$cur")); return; fi
  case "$prev" in ${valued.join("|")}) return ;; esac
  case "$path" in
${cases.join("\n")}
  esac
  if [[ $cur == -* ]]; then words="$flags"; fi
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -F _ananta ananta
`;
}

/** zsh runs the bash function through its own compatibility layer: one set of rules for both. */
function zshScript(commands: readonly Completed[], shared: readonly Completable[]): string {
  return `#compdef ananta\nautoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n${bashScript(commands, shared)}`;
}

function fishScript(commands: readonly Completed[], shared: readonly Completable[]): string {
  const quote = (text: string): string => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
  const lines = [
    "# fish completion for ananta",
    "complete -c ananta -f",
    `function __ananta_names; ${NAMES.replace('"$1"', "$argv[1]")}; end`,
  ];
  lines.push(
    "function __ananta_type; for word in (commandline -opc)[3..-1]; if not string match -q -- '-*' $word; echo $word; return; end; end; end",
  );
  const option = (condition: string, { flags, description, choices, takesValue, takesFile }: Completable): string => {
    const names = flags
      .map((flag) => (flag.startsWith("--") ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`))
      .join(" ");
    const value = takesFile
      ? " -r -F"
      : choices.length > 0
        ? ` -x -a ${quote(choices.join(" "))}`
        : takesValue
          ? " -x"
          : "";
    return `complete -c ananta ${condition}${names}${value} -d ${quote(description)}`;
  };
  lines.push(...shared.map((one) => option("", one)));
  for (const { path, subcommands, options, takesTargets, namesOf, choices } of commands) {
    const seen = path.split(" ").map((word) => `__fish_seen_subcommand_from ${word}`);
    const here = path === "" ? "__fish_use_subcommand" : seen.join("; and ");
    const names = subcommands.map(({ name }) => name).join(" ");
    const condition =
      path !== "" && subcommands.length > 0 ? `${here}; and not __fish_seen_subcommand_from ${names}` : here;
    for (const { name, description } of subcommands)
      lines.push(`complete -c ananta -n ${quote(condition)} -a ${name} -d ${quote(description)}`);
    if (path !== "") lines.push(...options.map((one) => option(`-n ${quote(here)} `, one)));
    if (choices.length > 0) lines.push(`complete -c ananta -n ${quote(here)} -a ${quote(choices.join(" "))}`);
    if (namesOf !== "") lines.push(`complete -c ananta -n ${quote(here)} -a ${quote(`(__ananta_names ${namesOf})`)}`);
    if (takesTargets) {
      lines.push(`complete -c ananta -n ${quote(`${here}; and test -z (__ananta_type)`)} -a ${quote(TYPES)}`);
      lines.push(
        `complete -c ananta -n ${quote(`${here}; and test -n (__ananta_type)`)} -a ${quote("(__ananta_names (__ananta_type))")}`,
      );
    }
  }
  return `${lines.join("\n")}\n`;
}
