/**
 * A wake inside Node: the absolute-time schedule of `jitter wake`, on the thread that runs JavaScript, as a process of
 * its own so that nothing else is on its event loop. Prints the same line.
 *
 * `atomics` sleeps in `Atomics.wait` (a futex, the event loop stands still), `timer` in `setTimeout`, as a bot would.
 * Pinned is the main thread alone (its thread id is the process id), by util-linux's `taskset -p`; Node's other threads
 * stay where they were. `--pinned all` says that the parent started the whole process under taskset.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { LatencyHistogram } from '@tickscope/contract'
import { nowNs } from '../clock.ts'
import type { NativeHistogram } from '../native.ts'

const { values } = parseArgs({
  options: {
    cpu: { type: 'string', default: '-1' },
    count: { type: 'string', default: '1000' },
    'interval-us': { type: 'string', default: '1000' },
    'task-us': { type: 'string', default: '12' },
    sleep: { type: 'string', default: 'atomics' },
    pinned: { type: 'string', default: 'js' },
  },
})
const count = Number(values.count)
const intervalUs = Number(values['interval-us'])
const intervalNs = intervalUs * 1000
const taskNs = Number(values['task-us']) * 1000
/** Wakes thrown away first, while V8 compiles the loop. */
const WARM_UP = 100
/** A gap between two clock reads longer than this is time taken away: it does no work, ns. */
const GAP_NS = 1_000

const wake = new LatencyHistogram()
const response = new LatencyHistogram()
const service = new LatencyHistogram()
const word = new Int32Array(new SharedArrayBuffer(4))
const parent = process.ppid

async function sleepUntil(atNs: number): Promise<void> {
  for (let leftNs = atNs - nowNs(); leftNs > 0; leftNs = atNs - nowNs()) {
    if (values.sleep === 'timer') await delay(Math.max(1, leftNs / 1e6))
    else Atomics.wait(word, 0, 0, leftNs / 1e6)
  }
}

async function run(wakes: number): Promise<void> {
  const startNs = nowNs() + intervalNs
  for (let i = 0; i < wakes; i++) {
    const intendedNs = startNs + i * intervalNs
    await sleepUntil(intendedNs)
    const begunNs = nowNs()
    for (let spent = 0, last = begunNs; spent < taskNs; ) {
      const now = nowNs()
      spent += Math.min(now - last, GAP_NS)
      last = now
    }
    const endedNs = nowNs()
    wake.record(begunNs - intendedNs)
    response.record(endedNs - intendedNs)
    service.record(endedNs - begunNs)
    // Whoever started this may have been killed.
    if (i % 256 === 0 && process.ppid !== parent) process.exit(0)
  }
}

/** Context switches and run-queue wait of the main thread since its start. */
function counters() {
  const status = readFileSync(`/proc/self/task/${process.pid}/status`, 'utf8')
  const field = (name: string) => Number(new RegExp(`^${name}:\\s*(\\d+)`, 'm').exec(status)?.[1] ?? 0)
  let runQueueWaitNs = -1
  try {
    runQueueWaitNs = Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'utf8').split(' ')[1])
  } catch {
    // A kernel without schedstat: the row says -1.
  }
  return {
    voluntary: field('voluntary_ctxt_switches'),
    involuntary: field('nonvoluntary_ctxt_switches'),
    allowed: /^Cpus_allowed_list:\s*(\S+)/m.exec(status)?.[1],
    runQueueWaitNs,
  }
}

function printed(histogram: LatencyHistogram): NativeHistogram {
  const cells: number[] = []
  for (const [cell, n] of histogram.counts.entries()) if (n > 0) cells.push(cell, n)
  return { count: histogram.count, sumNs: histogram.sumNs, cells }
}

const cpu = Number(values.cpu)
if (cpu >= 0 && values.pinned === 'js') {
  execFileSync('taskset', ['-p', '-c', `${cpu}`, `${process.pid}`], { stdio: ['ignore', 'ignore', 'pipe'] })
  const { allowed } = counters()
  if (allowed !== `${cpu}`) throw new Error(`pinned to core ${cpu}, but the kernel allows ${allowed}`)
}
await run(WARM_UP)
for (const histogram of [wake, response, service]) histogram.reset()
const before = counters()
const startedAtNs = nowNs()
await run(count)
const after = counters()
/** Field 39 of stat, `processor`: 37 after the command in parentheses. */
const ranOn = Number(readFileSync(`/proc/self/task/${process.pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[36] ?? -1)
const line = {
  kind: 'wake',
  count,
  intervalUs,
  taskUs: taskNs / 1000,
  durationNs: nowNs() - startedAtNs,
  voluntarySwitches: after.voluntary - before.voluntary,
  involuntarySwitches: after.involuntary - before.involuntary,
  migrations: -1,
  ranOn,
  slackNs: Number(readFileSync('/proc/self/timerslack_ns', 'utf8')),
  runQueueWaitNs: after.runQueueWaitNs < 0 ? -1 : after.runQueueWaitNs - before.runQueueWaitNs,
  wake: printed(wake),
  response: printed(response),
  service: printed(service),
}
process.stdout.write(`${JSON.stringify(line)}\n`)
