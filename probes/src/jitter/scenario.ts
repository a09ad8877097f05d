/**
 * The ways a thread can wait for its next instant on this machine, and how one round of each is measured.
 *
 * A wake is the same everywhere: the thread sleeps until an absolute time, works a little, and says how late it started.
 * What changes is where it may run (anywhere, one core, an isolated core), under which policy, beside which neighbours,
 * and whether it is a C program or the thread that runs JavaScript in Node. Neighbours are ours: they burn a core while
 * the row is measured, and end with it.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { findOnPath } from '@tickscope/contract'
import { type NativeHistogram, runNative } from '../native.ts'

/** One round of a row, as `jitter wake` and `node-wake.ts` print it. */
export interface WakeLine {
  readonly kind: 'wake'
  readonly count: number
  readonly intervalUs: number
  readonly taskUs: number
  readonly durationNs: number
  readonly voluntarySwitches: number
  readonly involuntarySwitches: number
  /** -1 where it is not counted. */
  readonly migrations: number
  /** Core of the last wake. */
  readonly ranOn: number
  readonly slackNs: number
  /** Time the thread was ready and another ran, by the kernel's own account; -1 where there is none. */
  readonly runQueueWaitNs: number
  /** From the intended to the actual start. */
  readonly wake: NativeHistogram
  /** From the intended start to the end of the work. */
  readonly response: NativeHistogram
  /** From the actual start to the end of the work. */
  readonly service: NativeHistogram
}

/** A neighbour that burns a core: `cpu` -1 runs where the scheduler puts it. */
interface Hog {
  readonly cpu: number
  readonly policy: 'other' | 'idle'
}

export interface Scenario {
  readonly name: string
  /** What it asks for, in words. */
  readonly requestedMode: string
  readonly runtime: 'C' | 'Node'
  /** Core the waiting thread is pinned to, -1: not pinned. */
  readonly cpu: number
  readonly policy: 'other' | 'fifo'
  readonly spin: boolean
  /** Timer slack asked for, ns; 0: as inherited. */
  readonly slackNs: number
  readonly hogs: readonly Hog[]
  /** Node only: how it sleeps, and which of its threads are pinned. */
  readonly sleep?: 'atomics' | 'timer'
  readonly pinned?: 'js' | 'all'
  /** Why it cannot be measured here. */
  readonly skipped?: string
}

export interface Cores {
  /** Where the waiting thread is pinned. */
  readonly quiet: number
  /** Where the pinned neighbour burns. */
  readonly noisy: number
  /** Cores kept from the scheduler by the kernel (isolcpus). */
  readonly isolated: readonly number[]
  readonly count: number
}

/** Node's timers count in ms, so its rows have a longer period, µs. */
const NODE_INTERVAL_US = 1_000
const NODE_TIMER_INTERVAL_US = 2_000

export function scenariosOf({ quiet, noisy, isolated, count }: Cores): Scenario[] {
  const c = { runtime: 'C', policy: 'other', spin: false, slackNs: 0, hogs: [] } as const
  const node = { ...c, runtime: 'Node', sleep: 'atomics', pinned: 'js' } as const
  const beside: readonly Hog[] = [{ cpu: noisy, policy: 'other' }]
  const everywhere: readonly Hog[] = Array.from({ length: count }, () => ({ cpu: -1, policy: 'other' }))
  const elsewhere: readonly Hog[] = everywhere.map((hog) => ({ ...hog, cpu: noisy }))
  const oneCore = noisy === quiet && 'this machine has one core for this process: there is no other to move to'
  const onlyIf = (reason: string | false) => (reason === false ? {} : { skipped: reason })
  const taskset = !tasksetPresent() && 'taskset is not on PATH: apt-get install util-linux'
  const isolatedCpu = isolated[0] ?? -1
  return [
    { ...c, name: 'quiet_unpinned', requestedMode: 'not pinned', cpu: -1 },
    { ...c, name: 'quiet_pinned', requestedMode: `pinned to core ${quiet}`, cpu: quiet },
    {
      ...c,
      name: 'quiet_pinned_slack',
      requestedMode: `pinned to core ${quiet}, timer slack 1 ns`,
      cpu: quiet,
      slackNs: 1,
    },
    {
      ...c,
      name: 'quiet_pinned_awake',
      requestedMode: `pinned to core ${quiet}, timer slack 1 ns, kept from idling by a SCHED_IDLE loop`,
      cpu: quiet,
      slackNs: 1,
      hogs: [{ cpu: quiet, policy: 'idle' }],
    },
    { ...c, name: 'quiet_fifo', requestedMode: `pinned to core ${quiet}, SCHED_FIFO`, cpu: quiet, policy: 'fifo' },
    { ...c, name: 'quiet_spinning', requestedMode: `pinned to core ${quiet}, spinning`, cpu: quiet, spin: true },
    {
      ...c,
      name: 'isolated_pinned',
      requestedMode: 'pinned to an isolated core, as many free neighbours as cores',
      cpu: isolatedCpu,
      hogs: everywhere,
      ...onlyIf(
        isolatedCpu < 0 && 'the kernel isolates no core (/sys/devices/system/cpu/isolated is empty; isolcpus= sets it)',
      ),
    },
    {
      ...c,
      name: 'noisy_unpinned',
      requestedMode: `not pinned, a neighbour burns core ${noisy}`,
      cpu: -1,
      hogs: beside,
    },
    {
      ...c,
      name: 'noisy_pinned_away',
      requestedMode: `pinned to core ${quiet}, a neighbour burns core ${noisy}`,
      cpu: quiet,
      hogs: beside,
      ...onlyIf(oneCore),
    },
    {
      ...c,
      name: 'noisy_pinned_beside',
      requestedMode: `pinned to core ${noisy}, which a neighbour burns`,
      cpu: noisy,
      hogs: beside,
    },
    {
      ...c,
      name: 'noisy_fifo_beside',
      requestedMode: `pinned to core ${noisy}, which a neighbour burns, SCHED_FIFO`,
      cpu: noisy,
      policy: 'fifo',
      hogs: beside,
    },
    {
      ...c,
      name: 'crowded_unpinned',
      requestedMode: 'not pinned, as many free neighbours as cores',
      cpu: -1,
      hogs: everywhere,
    },
    {
      ...c,
      name: 'crowded_pinned',
      requestedMode: `pinned to core ${quiet}, as many free neighbours as cores`,
      cpu: quiet,
      hogs: everywhere,
    },
    {
      ...c,
      name: 'crowded_pinned_alone',
      requestedMode: `pinned to core ${quiet}, as many neighbours as cores, kept off it (pinned to core ${noisy})`,
      cpu: quiet,
      hogs: elsewhere,
      ...onlyIf(oneCore),
    },
    { ...node, name: 'node_unpinned', requestedMode: 'Node, Atomics.wait, not pinned', cpu: -1 },
    {
      ...node,
      name: 'node_pinned',
      requestedMode: `Node, Atomics.wait, JavaScript thread pinned to core ${quiet}`,
      cpu: quiet,
      ...onlyIf(taskset),
    },
    {
      ...node,
      name: 'node_pinned_all',
      requestedMode: `Node, Atomics.wait, all threads on core ${quiet} (taskset node …)`,
      cpu: quiet,
      pinned: 'all',
      ...onlyIf(taskset),
    },
    { ...node, name: 'node_timer', requestedMode: 'Node, setTimeout, not pinned', cpu: -1, sleep: 'timer' },
    {
      ...node,
      name: 'node_noisy_unpinned',
      requestedMode: `Node, Atomics.wait, not pinned, a neighbour burns core ${noisy}`,
      cpu: -1,
      hogs: beside,
    },
    {
      ...node,
      name: 'node_noisy_pinned_away',
      requestedMode: `Node, Atomics.wait, JavaScript thread pinned to core ${quiet}, a neighbour burns core ${noisy}`,
      cpu: quiet,
      hogs: beside,
      ...onlyIf(oneCore || taskset),
    },
  ]
}

export interface WakeSettings {
  readonly program: string
  readonly count: number
  readonly intervalUs: number
  readonly taskUs: number
  readonly signal: AbortSignal
}

const START_MS = 10_000
/** A starved row may take this many times its schedule before it is killed. */
const STARVED_FACTOR = 20
const NODE_WAKE = fileURLToPath(new URL('node-wake.ts', import.meta.url))

/** The schedule of one round, ms. */
export function roundMs(scenario: Scenario, { count, intervalUs }: Pick<WakeSettings, 'count' | 'intervalUs'>): number {
  const { countOf, intervalOf } = scheduleOf(scenario, count, intervalUs)
  return (countOf * intervalOf) / 1000
}

/** Node's rows take as long as those in C, with fewer wakes. */
function scheduleOf({ runtime, sleep }: Scenario, count: number, intervalUs: number) {
  if (runtime === 'C') return { countOf: count, intervalOf: intervalUs }
  const intervalOf = Math.max(intervalUs, sleep === 'timer' ? NODE_TIMER_INTERVAL_US : NODE_INTERVAL_US)
  return { countOf: Math.max(50, Math.round((count * intervalUs) / intervalOf)), intervalOf }
}

/** Measures one round of a row. @returns its line, or why there is none */
export async function measureWake(
  scenario: Scenario,
  settings: WakeSettings,
): Promise<WakeLine | { readonly reason: string }> {
  const { program, taskUs, signal } = settings
  const { countOf, intervalOf } = scheduleOf(scenario, settings.count, settings.intervalUs)
  const timeoutMs = START_MS + (STARVED_FACTOR * (countOf * intervalOf)) / 1000
  const hogs = new AbortController()
  try {
    await Promise.all(scenario.hogs.map((hog) => startHog(program, hog, timeoutMs, hogs.signal)))
    let line: WakeLine | undefined
    const schedule = ['--count', `${countOf}`, '--interval-us', `${intervalOf}`, '--task-us', `${taskUs}`]
    const native = [
      ...[
        '--cpu',
        `${scenario.cpu}`,
        '--policy',
        scenario.policy,
        '--spin',
        scenario.spin ? '1' : '0',
        '--slack-ns',
        `${scenario.slackNs}`,
      ],
    ]
    const inNode = [
      ...process.execArgv.filter((flag) => !/^--(test|inspect|watch)/.test(flag)),
      ...[
        NODE_WAKE,
        ...schedule,
        `--cpu=${scenario.cpu}`,
        '--sleep',
        scenario.sleep ?? 'atomics',
        '--pinned',
        scenario.pinned ?? 'js',
      ],
    ]
    const wholeNode = scenario.runtime === 'Node' && scenario.pinned === 'all'
    const end = await runNative({
      program: scenario.runtime === 'C' ? program : wholeNode ? 'taskset' : process.execPath,
      args:
        scenario.runtime === 'C'
          ? ['wake', ...schedule, ...native]
          : wholeNode
            ? ['-c', `${scenario.cpu}`, process.execPath, ...inNode]
            : inNode,
      timeoutMs,
      signal,
      onLine: (printed: WakeLine) => {
        line = printed
      },
    })
    return line ?? { reason: end.said.replace(/^jitter: /, '') || `it ended with code ${end.code}` }
  } finally {
    hogs.abort()
  }
}

/** Resolves when the neighbour runs. */
async function startHog(program: string, { cpu, policy }: Hog, forMs: number, signal: AbortSignal): Promise<void> {
  const args = ['hog', '--cpu', `${cpu}`, '--policy', policy, '--for-ms', `${Math.ceil(forMs)}`]
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'ignore'] })
  signal.addEventListener('abort', () => child.kill('SIGKILL'))
  child.once('error', () => {})
  const lines = createInterface({ input: child.stdout })
  await Promise.race([once(lines, 'line'), once(lines, 'close')].map((p) => p.catch(() => {})))
  if (child.exitCode !== null || child.pid === undefined) throw new Error('a neighbour did not start')
}

/** @returns whether `taskset` (util-linux) is there, which pins a thread of a running Node */
export function tasksetPresent(): boolean {
  return findOnPath('taskset') !== undefined
}
