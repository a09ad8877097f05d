/**
 * The fingerprint of the machine and process a measurement was made in: what somebody needs to tell whether two results
 * may be compared, and why they differ.
 *
 * Absent is not empty: `null` means the kernel has no such file or setting, `''` or `[]` that it has and nothing is set
 * (`isolatedCpus: ''` on a kernel that could isolate, `nohzFullCpus: null` on one that cannot). Nothing secret is kept:
 * of the kernel's command line only the options that change latency, of the environment only preloaded libraries.
 *
 * Cost: some 30 small reads of /proc and /sys, about 2 ms; taken before a run, never during one.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { cpus, hostname, loadavg, release, totalmem, version } from 'node:os'
import { join } from 'node:path'

export interface Environment {
  readonly host: string
  readonly cpu: {
    readonly model: string | null
    readonly cores: number
    /** Groups of CPUs that share a core, such as `0,4`. */
    readonly threadSiblings: readonly string[] | null
    readonly governors: readonly string[] | null
    readonly idleDriver: string | null
    readonly numaNodes: number | null
  }
  readonly kernel: {
    readonly release: string
    readonly version: string
    readonly clocksource: string | null
    readonly isolatedCpus: string | null
    readonly nohzFullCpus: string | null
    readonly realtimeRuntimeUs: number | null
    readonly transparentHugepages: string | null
    /** Options of its command line that change latency, as given. */
    readonly options: readonly string[] | null
  }
  readonly virtualization: {
    /** Whether the CPU says that a hypervisor is under it. */
    readonly hypervisor: boolean | null
    /** What the firmware calls the machine, such as `Amazon EC2 c7i.large`. */
    readonly machine: string | null
    readonly container: boolean
  }
  readonly limits: {
    /** CPUs the process may run on. */
    readonly allowedCpus: string | null
    /** CPU quota of the control group, as a number of CPUs; null without a limit. */
    readonly cgroupCpus: number | null
    /** Memory limit of the control group, bytes; null without a limit. */
    readonly cgroupMemoryBytes: number | null
  }
  readonly memoryBytes: number
  readonly loadAverage: readonly number[]
  /** Share of CPU time since boot that the hypervisor gave to others. */
  readonly stealRatioSinceBoot: number | null
  readonly process: {
    readonly node: string
    readonly v8: string
    readonly openssl: string
    readonly flags: readonly string[]
    readonly timerSlackNs: number | null
    /** Preloaded libraries and the settings of kernel-bypass ones. */
    readonly preload: { readonly [variable: string]: string }
  }
}

const LATENCY_OPTIONS =
  /^(isolcpus|nohz|nohz_full|rcu_nocbs|rcu_nocb_poll|irqaffinity|mitigations|preempt|threadirqs|idle|intel_idle\.max_cstate|processor\.max_cstate|intel_pstate|amd_pstate|cpuidle\S*|haltpoll\S*|clocksource|tsc|skew_tick|nosmt|numa_balancing|transparent_hugepage|default_hugepagesz|hugepagesz|hugepages)(=|$)/
const PRELOAD_VARIABLES = /^(LD_PRELOAD|ONLOAD_\w+|EF_\w+|VMA_\w+|XLIO_\w+)$/
/** cgroup v1 writes "no limit" as the largest page-aligned int64. */
const MEMORY_UNLIMITED_BYTES = 2 ** 60

/** @param root of the file systems read, another one in tests */
export function collectEnvironment(root = '/'): Environment {
  const read = (path: string) => readText(join(root, path))
  const readNumber = (path: string) => toNumber(read(path))
  const list = (path: string, pattern: RegExp) => listNames(join(root, path))?.filter((name) => pattern.test(name))
  const cpuNames = list('sys/devices/system/cpu', /^cpu\d+$/)
  const perCpu = (path: string) => distinct(cpuNames?.map((cpu) => read(`sys/devices/system/cpu/${cpu}/${path}`)))
  const cpuInfo = read('proc/cpuinfo')
  return {
    host: hostname(),
    cpu: {
      model: field(cpuInfo, 'model name') ?? cpus()[0]?.model ?? null,
      cores: cpus().length,
      threadSiblings: perCpu('topology/thread_siblings_list'),
      governors: perCpu('cpufreq/scaling_governor'),
      idleDriver: read('sys/devices/system/cpu/cpuidle/current_driver'),
      numaNodes: list('sys/devices/system/node', /^node\d+$/)?.length ?? null,
    },
    kernel: {
      release: release(),
      version: version(),
      clocksource: read('sys/devices/system/clocksource/clocksource0/current_clocksource'),
      isolatedCpus: read('sys/devices/system/cpu/isolated'),
      nohzFullCpus: read('sys/devices/system/cpu/nohz_full'),
      realtimeRuntimeUs: readNumber('proc/sys/kernel/sched_rt_runtime_us'),
      transparentHugepages: chosen(read('sys/kernel/mm/transparent_hugepage/enabled')),
      options:
        read('proc/cmdline')
          ?.split(/\s+/)
          .filter((option) => LATENCY_OPTIONS.test(option)) ?? null,
    },
    virtualization: {
      hypervisor: cpuInfo === null ? null : / hypervisor( |$)/.test(field(cpuInfo, 'flags') ?? ''),
      machine:
        distinct([read('sys/class/dmi/id/sys_vendor'), read('sys/class/dmi/id/product_name')])?.join(' ') ?? null,
      container: read('.dockerenv') !== null || read('run/.containerenv') !== null,
    },
    limits: {
      allowedCpus: field(read('proc/self/status'), 'Cpus_allowed_list'),
      ...cgroupLimits(read),
    },
    memoryBytes: totalmem(),
    loadAverage: loadavg().map((load) => Math.round(load * 100) / 100),
    stealRatioSinceBoot: stealRatio(parseCpuTicks(read('proc/stat'))),
    process: {
      node: process.version,
      v8: process.versions.v8 ?? '',
      openssl: process.versions.openssl ?? '',
      flags: process.execArgv,
      timerSlackNs: readNumber('proc/self/timerslack_ns'),
      preload: Object.fromEntries(
        Object.entries(process.env)
          .filter(([name]) => PRELOAD_VARIABLES.test(name))
          .map(([name, value]) => [name, value ?? '']),
      ),
    },
  }
}

/** One line for people. */
export function environmentText({
  cpu,
  kernel,
  virtualization,
  limits,
  process: runtime,
  ...rest
}: Environment): string {
  const virtual = virtualization.hypervisor
    ? (virtualization.machine ?? 'virtual machine')
    : virtualization.container
      ? 'container'
      : 'bare metal'
  return [
    `${cpu.model ?? 'unknown CPU'}, ${cpu.cores} CPUs${limits.cgroupCpus === null ? '' : ` (quota ${limits.cgroupCpus})`}`,
    virtual,
    `Linux ${kernel.release}`,
    `clocksource ${kernel.clocksource ?? 'unknown'}`,
    `isolated CPUs ${kernel.isolatedCpus === '' ? 'none' : (kernel.isolatedCpus ?? 'unknown')}`,
    `Node ${runtime.node}`,
    ...rest.loadAverage.slice(0, 1).map((load) => `load ${load.toFixed(1)}`),
  ].join(', ')
}

/** CPU time of the whole machine since boot, in ticks of the kernel. */
export interface CpuTicks {
  readonly total: number
  readonly steal: number
}

/** Reads the first line of /proc/stat: `cpu user nice system idle iowait irq softirq steal guest guest_nice`. */
export function parseCpuTicks(stat: string | null): CpuTicks | null {
  const match = /^cpu +([\d ]+)$/m.exec(stat ?? '')
  const ticks = match?.[1]?.trim().split(/ +/).map(Number)
  if (ticks === undefined || ticks.length < 8) return null
  // Guest time is part of user time already.
  return { total: ticks.slice(0, 8).reduce((sum, n) => sum + n, 0), steal: ticks[7] as number }
}

/** @param since ticks of an earlier reading; boot when left out */
export function stealRatio(now: CpuTicks | null, since: CpuTicks | null = { total: 0, steal: 0 }): number | null {
  if (now === null || since === null || now.total <= since.total) return null
  return Math.round(((now.steal - since.steal) / (now.total - since.total)) * 1e4) / 1e4
}

/** @returns the file's text without its last newline; null when there is none or it may not be read */
export function readText(path: string): string | null {
  try {
    return readFileSync(path, 'utf8').trimEnd()
  } catch {
    return null
  }
}

function listNames(path: string): string[] | undefined {
  try {
    return readdirSync(path)
  } catch {
    return undefined
  }
}

function toNumber(text: string | null): number | null {
  const value = text === null || text === '' ? Number.NaN : Number(text)
  return Number.isFinite(value) ? value : null
}

/** The value of `name: value` or `name<tabs>: value` in a file of such lines. */
function field(text: string | null, name: string): string | null {
  const line = text?.split('\n').find((candidate) => candidate.split(':', 1)[0]?.trimEnd() === name)
  return line === undefined ? null : line.slice(line.indexOf(':') + 1).trim()
}

/** `always [madvise] never` → `madvise` */
function chosen(text: string | null): string | null {
  return /\[(\S+)\]/.exec(text ?? '')?.[1] ?? null
}

/** The different values there are; null when there is none. */
function distinct(values: readonly (string | null)[] | undefined): string[] | null {
  const present = new Set((values ?? []).filter((value) => value !== null && value !== ''))
  return present.size === 0 ? null : ([...present] as string[])
}

/** Limits of the process's control group, version 2 or 1; the group itself first, then the root of what is mounted. */
function cgroupLimits(
  read: (path: string) => string | null,
): Pick<Environment['limits'], 'cgroupCpus' | 'cgroupMemoryBytes'> {
  const groups = (read('proc/self/cgroup') ?? '').split('\n').map((line) => line.split(':'))
  const pathOf = (controller: string) =>
    groups.find(([, controllers]) => controllers?.split(',').includes(controller))?.[2] ?? '/'
  const first = (...paths: string[]) => paths.map(read).find((text) => text !== null) ?? null
  const own = (controller: string, file: string) => {
    const mount = controller === '' ? '' : `/${controller}`
    return first(`sys/fs/cgroup${mount}${pathOf(controller)}/${file}`, `sys/fs/cgroup${mount}/${file}`)
  }
  const [quota, period] = (own('', 'cpu.max') ?? `${own('cpu', 'cpu.cfs_quota_us')} ${own('cpu', 'cpu.cfs_period_us')}`)
    .split(' ')
    .map(Number) as [number, number]
  const memory = toNumber(own('', 'memory.max') ?? own('memory', 'memory.limit_in_bytes'))
  return {
    cgroupCpus: quota > 0 && period > 0 ? Math.round((quota / period) * 100) / 100 : null,
    cgroupMemoryBytes: memory !== null && memory < MEMORY_UNLIMITED_BYTES ? memory : null,
  }
}
