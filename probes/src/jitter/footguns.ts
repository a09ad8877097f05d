/**
 * Mistakes that make a host slow and that this probe can see, each with what says so. Those that other probes see are
 * named with them, so that the list is whole.
 */

import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { formatNs } from '@tickscope/contract'
import { type Environment, readText } from '../environment.ts'
import { parseCpuList } from './planner.ts'
import type { WakeComparison, WakeRow } from './rows.ts'

export interface Footgun {
  readonly id: string
  readonly status: 'found' | 'clear' | 'unknown'
  readonly evidence: string
  readonly advice: string
}

/** Where the others are seen. */
export const SEEN_ELSEWHERE: readonly { readonly id: string; readonly seenBy: string }[] = [
  { id: 'busy_poll_inactive', seenBy: 'bypass: SO_INCOMING_NAPI_ID of the row udp_busy_poll' },
  { id: 'tx_checksum_on_veth', seenBy: 'bypass: switches the offload of its own pair off' },
  { id: 'gro_flush_timeout', seenBy: 'bypass: a ladder before and after the setting' },
  { id: 'pem_per_signature', seenBy: 'codec: RSA per call from PEM beside a cached key' },
  { id: 'no_keep_alive', seenBy: 'http: new beside warm connections' },
  { id: 'new_tls_per_order', seenBy: 'http: phase tls of new connections' },
  { id: 'nagle', seenBy: 'runtime: TCP_NODELAY set in every client' },
  { id: 'open_but_frozen_feed', seenBy: 'feed: silent gaps' },
  { id: 'tick_quantised_strategy', seenBy: 'agent: tick-to-decision of the bot itself' },
]

export interface Throttle {
  /** Longest wake of a FIFO thread that spins, ns; null when it could not be measured. */
  readonly longestWakeNs: number | null
  readonly runtimeUs: number | null
  readonly periodUs: number | null
}

/** A stall that is this share of the pause the settings impose is that pause. */
const THROTTLE_SHARE = 0.8

export function throttleFootgun({ longestWakeNs, runtimeUs, periodUs }: Throttle): Footgun {
  const id = 'rt_throttle'
  const advice = 'a FIFO thread must sleep now and then, or run on a core of its own with sched_rt_runtime_us = -1'
  if (runtimeUs === null || periodUs === null)
    return { id, status: 'unknown', evidence: 'the kernel does not say its limits', advice }
  if (runtimeUs < 0 || runtimeUs >= periodUs)
    return {
      id,
      status: 'clear',
      evidence: `no limit (sched_rt_runtime_us is ${runtimeUs}): a FIFO thread that spins keeps its core for good`,
      advice: 'make sure nothing else needs that core',
    }
  const pauseNs = (periodUs - runtimeUs) * 1000
  if (longestWakeNs === null)
    return {
      id,
      status: 'unknown',
      evidence: `a FIFO thread that spins may be paused ${formatNs(pauseNs)} of each ${formatNs(periodUs * 1000)}; not measured`,
      advice,
    }
  const found = longestWakeNs >= THROTTLE_SHARE * pauseNs
  return {
    id,
    status: found ? 'found' : 'clear',
    evidence: `a FIFO thread that spun was held up ${formatNs(longestWakeNs)}; the limit pauses it for ${formatNs(pauseNs)} of each ${formatNs(periodUs * 1000)}`,
    advice,
  }
}

/** Whether all threads of a process are tied to one core, as `taskset node` does: its helpers then wait for each other. */
export function threadsOnOneCore(pid: number, root = '/'): Footgun {
  const id = 'taskset_all_threads'
  const advice = 'pin the JavaScript thread alone: taskset -p -c CORE THREAD, not taskset node'
  let threads: string[]
  try {
    threads = readdirSync(join(root, `proc/${pid}/task`))
  } catch {
    return { id, status: 'unknown', evidence: `there is no process ${pid}`, advice }
  }
  const masks = threads.flatMap((thread) => {
    const list = /^Cpus_allowed_list:\s*(\S+)/m.exec(
      readText(join(root, `proc/${pid}/task/${thread}/status`)) ?? '',
    )?.[1]
    return list === undefined ? [] : [list]
  })
  const one = new Set(masks).size === 1 && parseCpuList(masks[0] ?? null).length === 1
  const online = parseCpuList(readText(join(root, 'sys/devices/system/cpu/online'))).length
  const found = one && masks.length > 1 && online > 1
  return {
    id,
    status: masks.length === 0 ? 'unknown' : found ? 'found' : 'clear',
    evidence: found
      ? `all ${masks.length} threads of process ${pid} may run on core ${masks[0]} only`
      : `the ${masks.length} threads of process ${pid} are not tied to one core`,
    advice,
  }
}

/** A closed loop that hides this factor of its p99 is worth a warning. */
const HIDDEN_FACTOR = 3

export function measuredFootguns(
  rows: readonly WakeRow[],
  comparisons: readonly WakeComparison[],
  { cpu, kernel }: Pick<Environment, 'cpu' | 'kernel'>,
): Footgun[] {
  const of = (from: string, to: string, quantity: WakeComparison['quantity']) =>
    comparisons.find((c) => c.from === from && c.to === to && c.quantity === quantity)
  const p50 = (name: string) => formatNs(rows.find((row) => row.name === name)?.wake?.p50Ns ?? Number.NaN)
  const p99 = (name: string) => formatNs(rows.find((row) => row.name === name)?.wake?.p99Ns ?? Number.NaN)
  const fromComparison = (
    id: string,
    comparison: WakeComparison | undefined,
    found: (c: WakeComparison) => boolean,
    evidence: () => string,
    advice: string,
  ): Footgun => ({
    id,
    status: comparison === undefined ? 'unknown' : found(comparison) ? 'found' : 'clear',
    evidence: comparison === undefined ? 'not measured' : evidence(),
    advice,
  })
  const faster = ({ claimed, ratio }: WakeComparison) => claimed && ratio < 0.9
  const slower = ({ claimed, ratio }: WakeComparison) => claimed && ratio > 1.1
  const hidden = rows
    .filter(({ response, service }) => response !== null && service !== null)
    .map((row) => ({ name: row.name, factor: (row.response?.p99Ns ?? 0) / Math.max(1, row.service?.p99Ns ?? 1), row }))
    .sort((a, b) => b.factor - a.factor)[0]
  const governors = cpu.governors ?? []
  return [
    fromComparison(
      'timer_slack',
      of('quiet_pinned', 'quiet_pinned_slack', 'wakeP50'),
      faster,
      () => `a sleeper woke ${p50('quiet_pinned')} late, with a timer slack of 1 ns ${p50('quiet_pinned_slack')}`,
      'prctl(PR_SET_TIMERSLACK, 1), or write 1 to /proc/PID/timerslack_ns',
    ),
    fromComparison(
      'idle_halt',
      of('quiet_pinned_slack', 'quiet_pinned_awake', 'wakeP50'),
      faster,
      () =>
        `waking from an idle core took ${p50('quiet_pinned_slack')}, from one kept awake ${p50('quiet_pinned_awake')}`,
      'an idle machine wakes later than a busy one: keep the core from halting (spin, idle=poll, a SCHED_IDLE loop on it)',
    ),
    fromComparison(
      'taskset_all_threads',
      of('node_pinned', 'node_pinned_all', 'wakeP99'),
      slower,
      () =>
        `p99 of Node with its JavaScript thread pinned ${p99('node_pinned')}, with all threads ${p99('node_pinned_all')}`,
      'pin the JavaScript thread alone: taskset -p -c CORE THREAD, not taskset node',
    ),
    fromComparison(
      'pinning_without_isolation',
      of('crowded_unpinned', 'crowded_pinned', 'wakeP99'),
      (c) => !faster(c),
      () => `p99 beside free neighbours ${p99('crowded_unpinned')}, pinned ${p99('crowded_pinned')}`,
      'keep the others off that core: isolcpus, a cpuset, or pin them elsewhere',
    ),
    {
      id: 'service_time_only',
      status: hidden === undefined ? 'unknown' : hidden.factor >= HIDDEN_FACTOR ? 'found' : 'clear',
      evidence:
        hidden === undefined
          ? 'not measured'
          : `in ${hidden.name} a closed loop would have reported a p99 of ${formatNs(hidden.row.service?.p99Ns ?? 0)} for ${formatNs(hidden.row.response?.p99Ns ?? 0)}`,
      advice: 'time from the instant the work was due, not from when it began',
    },
    {
      id: 'cpu_governor',
      status: governors.length === 0 ? 'unknown' : governors.some((name) => name !== 'performance') ? 'found' : 'clear',
      evidence: governors.length === 0 ? 'the kernel shows none (usual in a virtual machine)' : governors.join(', '),
      advice: 'cpupower frequency-set -g performance',
    },
    {
      id: 'slow_clocksource',
      status:
        kernel.clocksource === null ? 'unknown' : /hpet|acpi_pm|jiffies/.test(kernel.clocksource) ? 'found' : 'clear',
      evidence: `clocksource ${kernel.clocksource ?? 'unknown'}`,
      advice: 'a clock read outside the vDSO is a system call: use tsc, kvm-clock or arch_sys_counter',
    },
  ]
}
