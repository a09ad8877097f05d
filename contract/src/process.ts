/**
 * What every tickscope process does at its edges: exit codes, one-sentence errors, the ready line its parent waits
 * for, and stopping when asked or orphaned.
 */
import { writeSync } from 'node:fs'

/** Exit codes of every command. */
export const EXIT = {
  ok: 0,
  /** a budget was broken, or a check did not hold */
  budget: 1,
  /** a flag, a file or an input is wrong */
  usage: 2,
  /** the world is: a port is taken, a venue cannot be reached, a key is refused */
  environment: 3,
  /** our mistake */
  internal: 70,
} as const

/** An error of the user's world: printed as one sentence, never with a stack. */
export class UserError extends Error {
  readonly code: string
  readonly exitCode: number

  /** @param message one sentence naming what, where and the limit, without a full stop at its end */
  constructor(code: string, message: string, exitCode: number = EXIT.usage) {
    super(message)
    this.name = 'UserError'
    this.code = code
    this.exitCode = exitCode
  }
}

/** `listen EADDRINUSE …` and friends as a sentence; other errors come back as they are. */
export function listenError(error: unknown, host: string, port: number): unknown {
  const code = (error as NodeJS.ErrnoException).code
  if (code === 'EADDRINUSE')
    return new UserError('PORT_BUSY', `port ${port} on ${host} is already in use`, EXIT.environment)
  if (code === 'EACCES')
    return new UserError(
      'PORT_DENIED',
      `port ${port} on ${host} needs more rights than this user has`,
      EXIT.environment,
    )
  if (code === 'EADDRNOTAVAIL')
    return new UserError('HOST_UNKNOWN', `address ${host} is not one of this machine's`, EXIT.environment)
  return error
}

/**
 * Runs a process: `UserError` becomes one sentence on stderr and its exit code; anything else is our mistake and
 * exits 70 with its message (its stack with `TICKSCOPE_DEBUG=1`).
 *
 * Nobody reading its lines any more (`| head`, a closed terminal) does not end it: there may be orders to cancel.
 */
export async function runMain(name: string, main: () => Promise<number | undefined>): Promise<void> {
  const fail = (error: unknown) => {
    const user = error instanceof UserError
    const message = error instanceof Error ? error.message : String(error)
    say(`${name}: ${user ? message : `internal error: ${message}`}\n`)
    if (process.env.TICKSCOPE_DEBUG === '1' && error instanceof Error) say(`${error.stack}\n`)
    process.exit(user ? error.exitCode : EXIT.internal)
  }
  process.on('uncaughtException', fail)
  process.on('unhandledRejection', fail)
  process.stderr.on('error', () => {})
  process.stdout.on('error', (error) => {
    if (!isUnread(error)) fail(new UserError('STDOUT', `stdout cannot be written: ${error.message}`, EXIT.environment))
  })
  try {
    process.exitCode = (await main()) ?? EXIT.ok
    // The pipe of a parent that asked by signal is still open; it must not keep the process alive.
    if (process.env.TICKSCOPE_CHILD === '1') process.stdin.unref?.()
  } catch (error) {
    fail(error)
  }
}

function say(text: string): void {
  try {
    writeSync(2, text)
  } catch {
    // Nobody listens.
  }
}

/**
 * Writes one machine-readable line to stdout; a parent process reads these. Synchronous: a line is never cut off. One that
 * nobody reads any more is dropped.
 */
export function announce(line: { readonly event: 'ready' | 'summary'; readonly [field: string]: unknown }): void {
  try {
    writeSync(1, `${JSON.stringify(line)}\n`)
  } catch (error) {
    if (!isUnread(error as NodeJS.ErrnoException)) throw error
  }
}

function isUnread({ code }: NodeJS.ErrnoException): boolean {
  return code === 'EPIPE' || code === 'EIO'
}

/**
 * Resolves when the process should stop: SIGINT, SIGTERM, SIGHUP (its terminal was closed), or, under a parent that set
 * `TICKSCOPE_CHILD=1`, the end of stdin, so that a killed parent leaves nothing behind.
 */
export function stopRequested(): Promise<string> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => resolve(signal))
    if (process.env.TICKSCOPE_CHILD === '1') {
      process.stdin.resume()
      process.stdin.once('end', () => resolve('parent gone'))
      process.stdin.once('error', () => resolve('parent gone'))
    }
  })
}

/** `stopRequested` as a signal. */
export function stopSignal(): AbortSignal {
  const stopping = new AbortController()
  stopRequested().then(() => stopping.abort())
  return stopping.signal
}
