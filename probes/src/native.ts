/**
 * The C programs of `native/`: built on first use (an image has them built), started, and their lines read.
 *
 * They are processes, not addons: no garbage collector or event loop sits on their path, and each can be pinned,
 * preloaded and tested alone. A program prints one JSON object a line; durations come as HDR cells that merge exactly.
 */
import { execFile, spawn } from 'node:child_process'
import { accessSync, constants, existsSync, lstatSync, mkdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { EXIT, LatencyHistogram, lowestOf, UserError } from '@tickscope/contract'

const SOURCE = fileURLToPath(new URL('../native', import.meta.url))
const BUILD_TIMEOUT_MS = 60_000

/** Histogram as a C program prints it: cells as [cell, count, cell, count, …]. */
export interface NativeHistogram {
  readonly count: number
  readonly sumNs: number
  readonly cells: readonly number[]
}

/** Adds a printed histogram to `into`; exact, the cells are the same. */
export function mergeNative(into: LatencyHistogram, { cells, sumNs }: NativeHistogram): LatencyHistogram {
  for (let i = 0; i + 1 < cells.length; i += 2) into.restore(cells[i] as number, cells[i + 1] as number, 0)
  into.sumNs += sumNs
  return into
}

export function fromNative(printed: NativeHistogram): LatencyHistogram {
  return mergeNative(new LatencyHistogram(), printed)
}

/** Where programs are built: beside their source, or, when that cannot be written, in a folder of this user's. */
function buildFolder(): string {
  try {
    accessSync(SOURCE, constants.W_OK)
    return join(SOURCE, 'build')
  } catch {
    const uid = process.getuid?.() ?? 0
    const folder = join(tmpdir(), `tickscope-native-${uid}`)
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    // The name can be guessed: nobody else may have put programs there for us to run.
    const found = lstatSync(folder)
    if (!found.isDirectory() || found.uid !== uid || (found.mode & 0o022) !== 0)
      throw new UserError('NATIVE_FOLDER', `${folder} is not a folder of this user alone: remove it`, EXIT.environment)
    return folder
  }
}

/**
 * The path of a program, built if its sources are newer; without sources, as in an image, it was built before. A stop
 * ends the building: nothing is run after it.
 *
 * @throws UserError `NATIVE_BUILD` with the compiler's first line and what to install; `NATIVE_MISSING`
 */
export async function nativeProgram(
  name: 'bypass' | 'jitter' | 'dpdk' | 'order',
  signal?: AbortSignal,
): Promise<string> {
  if (!existsSync(join(SOURCE, 'Makefile'))) return builtProgram(name)
  const out = buildFolder()
  const program = join(out, name)
  try {
    const args = ['-C', SOURCE, '--silent', `OUT=${out}`, program]
    await promisify(execFile)('make', args, { timeout: BUILD_TIMEOUT_MS, ...(signal && { signal }) })
  } catch (error) {
    if (signal?.aborted) return program
    const { code, stderr = '', message } = error as NodeJS.ErrnoException & { stderr?: string }
    const said =
      stderr.split('\n').find((line) => /error|not found|No such/i.test(line)) ?? stderr.split('\n')[0] ?? message
    throw new UserError(
      'NATIVE_BUILD',
      code === 'ENOENT'
        ? 'this probe is a C program and make is not on PATH: apt-get install gcc make linux-libc-dev libc6-dev'
        : `the C program ${name} cannot be built (it needs gcc, make and the kernel headers): ${said}`,
      EXIT.environment,
    )
  }
  return program
}

function builtProgram(name: string): string {
  const program = join(SOURCE, 'build', name)
  if (existsSync(program)) return program
  throw new UserError(
    'NATIVE_MISSING',
    `the C program ${name} is not in this image, and neither is its source: run this probe from a checkout`,
    EXIT.environment,
  )
}

export interface NativeRun {
  readonly program: string
  readonly args: readonly string[]
  readonly env?: NodeJS.ProcessEnv
  readonly timeoutMs: number
  readonly signal?: AbortSignal
  /** Takes each object the program prints. */
  // biome-ignore lint/suspicious/noExplicitAny: the line of a program of ours, described where it is printed
  readonly onLine: (line: any) => void
}

/** How a program ended: its exit code and the last line of its stderr. */
export interface NativeEnd {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly said: string
}

/** Runs a program to its end; never rejects for what the program does. After a stop nothing is started any more. */
export async function runNative({ program, args, env, timeoutMs, signal, onLine }: NativeRun): Promise<NativeEnd> {
  // A listener of a signal that was given before never hears it.
  if (signal?.aborted) return { code: null, signal: 'SIGKILL', said: 'stopped before it was started' }
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } })
  const kill = () => child.kill('SIGKILL')
  let timedOut = false
  const timer = setTimeout(() => {
    timedOut = true
    kill()
  }, timeoutMs)
  signal?.addEventListener('abort', kill)
  let said = ''
  createInterface({ input: child.stderr }).on('line', (line) => (said = line))
  createInterface({ input: child.stdout }).on('line', (line) => {
    if (!line.startsWith('{')) return
    try {
      onLine(JSON.parse(line))
    } catch {
      said = `printed a line that is not JSON: ${line.slice(0, 80)}`
    }
  })
  const end = await new Promise<NativeEnd>((resolve) => {
    child.once('error', (error) => resolve({ code: null, signal: null, said: error.message }))
    child.once('close', (code, by) =>
      resolve({
        code,
        signal: by,
        said: timedOut
          ? `ended after ${Math.round(timeoutMs / 1000)} s without a result`
          : said || (by ? `ended by ${by}` : ''),
      }),
    )
  })
  clearTimeout(timer)
  signal?.removeEventListener('abort', kill)
  return end
}

/** Samples handed over at once, and the pause after them, ms: an eighth of the agent's ring, drained each 5 ms. */
const REPLAY_SAMPLES = 2_048
const REPLAY_PAUSE_MS = 10

/** Hands each sample of a printed histogram to `record`, at a pace the agent's ring keeps up with. */
export async function replayNative({ cells }: NativeHistogram, record: (ns: number) => void): Promise<void> {
  let left = REPLAY_SAMPLES
  for (let i = 0; i + 1 < cells.length; i += 2) {
    const ns = lowestOf(cells[i] as number)
    for (let n = cells[i + 1] as number; n > 0; n--) {
      record(ns)
      if (--left > 0) continue
      left = REPLAY_SAMPLES
      await delay(REPLAY_PAUSE_MS)
    }
  }
}

/** Smallest value of the cell in the middle of a printed histogram, for a figure a round, ns. */
export function nativeQuantileNs(printed: NativeHistogram, q: number): number {
  const rank = Math.max(1, Math.ceil(q * printed.count))
  let seen = 0
  for (let i = 0; i + 1 < printed.cells.length; i += 2) {
    seen += printed.cells[i + 1] as number
    if (seen >= rank) return lowestOf(printed.cells[i] as number)
  }
  return 0
}
