/**
 * A process of ours as a child: started, awaited until it says it is ready, stopped so that it can say what it saw.
 *
 * Children read machine lines of ours from nobody and write them to stdout (`announce` of contract); their stderr is
 * for people. A child ends by itself when its stdin does, so a killed parent leaves nothing behind.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { EXIT, UserError } from '@tickscope/contract'

/** Longest a child may take until it is ready, ms. */
const READY_TIMEOUT_MS = 20_000

export interface ExitStatus {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

// biome-ignore lint/suspicious/noExplicitAny: a line of a child of ours, whose fields its own folder documents
export type Line = { readonly event: string; readonly [field: string]: any }

export interface Child {
  readonly name: string
  readonly pid: number
  readonly ready: Line
  /** Resolves when the process has ended and its output was read. */
  readonly exited: Promise<ExitStatus>
  /** The error of a process that ended without being asked to: its own last sentence, and its exit code. */
  failure(status: ExitStatus): UserError
  /** Asks it to stop (SIGTERM), waits, kills after the timeout. @returns its summary line, if it wrote one */
  stop(timeoutMs: number): Promise<Line | undefined>
}

export interface ChildOptions {
  readonly name: string
  /** Path of its `main.ts`. */
  readonly script: string
  readonly args: readonly string[]
  /** Takes each line of the child's stderr. */
  readonly note: (line: string) => void
}

/** @throws UserError with the child's own sentence and exit code when it ends before it is ready */
export async function startChild({ name, script, args, note }: ChildOptions): Promise<Child> {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', script, ...args], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, TICKSCOPE_CHILD: '1' },
    // A terminal's Ctrl-C goes to the whole group; children are stopped by us, in order.
    detached: true,
  })
  let lastNote = ''
  let summary: Line | undefined
  createInterface({ input: child.stderr }).on('line', (line) => {
    lastNote = line
    note(line)
  })
  const failure = ({ code, signal }: ExitStatus) => {
    const said = signal === null ? lastNote.replace(/^[\w-]+: /, '') : ''
    return new UserError(
      'CHILD_ENDED',
      `${name}: ${said || `ended with ${signal ?? `code ${code}`}`}`,
      code || EXIT.environment,
    )
  }
  const exited = new Promise<ExitStatus>((resolve) => child.once('close', (code, signal) => resolve({ code, signal })))
  const ready = new Promise<Line>((resolve, reject) => {
    const timer = setTimeout(
      () =>
        reject(
          new UserError('CHILD_SLOW', `${name} was not ready within ${READY_TIMEOUT_MS / 1000} s`, EXIT.environment),
        ),
      READY_TIMEOUT_MS,
    )
    createInterface({ input: child.stdout }).on('line', (text) => {
      const line = parseLine(text)
      if (line?.event === 'ready') {
        clearTimeout(timer)
        resolve(line)
      } else if (line?.event === 'summary') summary = line
    })
    child.once('error', reject)
    exited.then((status) => {
      clearTimeout(timer)
      reject(failure(status))
    })
  })
  try {
    const line = await ready
    return {
      name,
      pid: child.pid as number,
      ready: line,
      exited,
      failure,
      stop: (timeoutMs) => stop(child, exited, timeoutMs).then(() => summary),
    }
  } catch (error) {
    await stop(child, exited, 2_000)
    throw error
  }
}

function parseLine(text: string): Line | undefined {
  if (!text.startsWith('{')) return undefined
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** SIGTERM, then SIGKILL after the timeout; resolves when the process is gone. */
export async function stop(child: ChildProcess, exited: Promise<unknown>, timeoutMs: number): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs)
  await exited
  clearTimeout(timer)
}
