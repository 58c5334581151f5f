/**
 * `migctl completion`: scripts that let a shell complete commands and flags. Each asks `migctl`
 * itself (`--get-yargs-completions`), so that they never go stale.
 */
import type { Argv } from 'yargs';
import type { Common } from '../options.ts';

const SCRIPTS = {
  bash: `_migctl() {
  mapfile -t COMPREPLY < <(compgen -W "$(SHELL=bash migctl --get-yargs-completions "\${COMP_WORDS[@]:0:COMP_CWORD+1}")" -- "\${COMP_WORDS[COMP_CWORD]}")
}
complete -o default -F _migctl migctl`,
  zsh: `#compdef migctl
_migctl() {
  compadd -- \${(f)"$(SHELL=bash migctl --get-yargs-completions "\${words[@]:0:$CURRENT}")"}
}
compdef _migctl migctl`,
  fish: `complete -c migctl -f -a '(SHELL=bash migctl --get-yargs-completions (commandline -opc) (commandline -ct))'`,
} as const;

const SHELLS = ['bash', 'zsh', 'fish'] as const;

export const completionCommand = (cli: Argv<Common>): Argv<Common> =>
  cli.command(
    'completion <shell>',
    'prints a completion script: source it in the shell’s start-up file',
    (completion) => completion.positional('shell', { choices: SHELLS, demandOption: true }),
    ({ shell }) => console.log(SCRIPTS[shell]),
  );
