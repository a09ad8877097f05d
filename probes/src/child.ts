/** A probe of ours as a process of its own, run to its end for its result: the last line of its stdout. */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

/** What `node` runs to be a probe. */
export const PROBE_MAIN = fileURLToPath(new URL('main.ts', import.meta.url))

/** Characters of output kept: a result has some 100,000. */
export const OUTPUT_CHARS_MAX = 16 * 1024 * 1024
/** From a kill signal to SIGKILL: a probe whose event loop is held up hears no other. */
const KILL_AFTER_MS = 10_000

export interface ChildOptions {
  readonly timeoutMs: number
  readonly signal: AbortSignal
  /** Sent when the time is up or `signal` says so: SIGTERM lets it end what it started, SIGKILL ends it now. */
  readonly killSignal: 'SIGTERM' | 'SIGKILL'
}

export interface ChildEnd {
  /** Last line of its stdout, its result if there is one. */
  readonly lastLine: string
  /** Last line of its stderr, without the name of the process, or why it did not start. */
  readonly said: string
}

/** Runs a process to its end; never rejects for what it does. */
export async function runChild(
  program: string,
  args: readonly string[],
  { timeoutMs, signal, killSignal }: ChildOptions,
): Promise<ChildEnd> {
  // Its stdin is a pipe: it stops by itself when this process is gone.
  const child = spawn(program, args, { stdio: 'pipe', env: { ...process.env, TICKSCOPE_CHILD: '1' } })
  let killTimer: NodeJS.Timeout | undefined
  const kill = () => {
    child.kill(killSignal)
    killTimer ??= setTimeout(() => child.kill('SIGKILL'), KILL_AFTER_MS)
  }
  const timer = setTimeout(kill, timeoutMs)
  signal.addEventListener('abort', kill)
  if (signal.aborted) kill()
  let output = ''
  let said = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text
    if (output.length > OUTPUT_CHARS_MAX) output = output.slice(-OUTPUT_CHARS_MAX)
  })
  createInterface({ input: child.stderr }).on('line', (line) => (said = line))
  await new Promise<void>((resolve) => {
    child.once('close', () => resolve())
    child.once('error', ({ message }) => {
      said = message
      resolve()
    })
  })
  clearTimeout(timer)
  clearTimeout(killTimer)
  signal.removeEventListener('abort', kill)
  return { lastLine: output.trimEnd().split('\n').at(-1) ?? '', said: said.replace(/^probe: /, '') }
}
