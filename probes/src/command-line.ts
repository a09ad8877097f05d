/** A process whose first argument names a command: flags read, mistakes said in one sentence, the exit code. */
import { EXIT, runMain } from '@tickscope/contract'
import { Command, CommanderError } from 'commander'

export interface CommandLineOptions {
  readonly description: string
  /** Shown after a mistake in the flags. */
  readonly hint: string
  /** Adds the commands; each gives `exit` the exit code of its run. */
  readonly add: (program: Command, exit: (code: number) => void) => void
}

/** Runs the command that the arguments of this process name. */
export function runCommandLine(name: string, { description, hint, add }: CommandLineOptions): Promise<void> {
  return runMain(name, async () => {
    let exitCode: number = EXIT.ok
    // Set before the commands are added: they inherit it.
    const program = new Command(name)
      .description(description)
      .showHelpAfterError(hint)
      .exitOverride()
      .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, `${name}: `)) })
    add(program, (code) => (exitCode = code))
    try {
      await program.parseAsync()
    } catch (error) {
      if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
      throw error
    }
    return exitCode
  })
}
