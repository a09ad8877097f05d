/** Real programs that tests of any folder run to their end, when this machine has them. */
import { spawnSync } from 'node:child_process'

/** @returns its exit code, and what it wrote on stdout and stderr */
export function runProgram(
  file: string,
  args: readonly string[],
  { cwd, input }: { readonly cwd?: string; readonly input?: string } = {},
): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(file, args, { cwd, input, encoding: 'utf8', timeout: 60_000 })
  return { status, output: `${stdout}${stderr}` }
}

/** The `skip` of a test that needs these programs: false, or why. */
export function skipWithout(programs: { readonly [name: string]: string | undefined }): string | false {
  const missing = Object.entries(programs).filter(([, path]) => path === undefined)
  return missing.length > 0 && `${missing.map(([name]) => name).join(' and ')} not on PATH`
}
