/**
 * Which cores for the bot, which for interrupts, which for everything else: proposed from what the machine says of
 * itself in /proc and /sys. Nothing is changed; the plan comes with the commands that would.
 *
 * Rules: the bot gets a physical core of its own, its SMT sibling stays idle; on the NUMA node of the NIC; isolated
 * cores before others; never the core of CPU 0, which keeps the time; the quietest by interrupts. Interrupts of the NIC
 * go to another core of the same node, all else to the rest.
 */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { readText } from '../environment.ts'

export interface NumaPlan {
  readonly status: 'measured' | 'skipped'
  readonly reason: string
  readonly nodes: readonly {
    readonly node: number
    readonly cpus: readonly number[]
    readonly memoryBytes: number | null
    /** To each node in order, 10 is local; null where the kernel does not say. */
    readonly distances: readonly number[] | null
  }[]
}

export interface CorePlan {
  readonly status: 'measured' | 'unsupported'
  /** Why there is no plan. */
  readonly reason: string
  readonly numa: NumaPlan
  readonly nic: { readonly device: string; readonly node: number | null } | null
  readonly bot: { readonly cpus: readonly number[]; readonly idleSiblings: readonly number[]; readonly node: number }
  readonly interrupts: { readonly cpus: readonly number[] }
  readonly housekeeping: { readonly cpus: readonly number[] }
  /** What the kernel isolates now; `null` where it cannot. */
  readonly isolation: {
    readonly requested: readonly string[]
    readonly isolatedCpus: readonly number[]
    readonly nohzFullCpus: readonly number[] | null
  }
  /** Interrupts that may now be delivered to the bot's cores. */
  readonly interruptsOnBotCores: readonly { readonly irq: string; readonly name: string; readonly cpus: string }[]
  /** For the kernel's command line. */
  readonly kernelOptions: readonly string[]
  readonly commands: readonly string[]
  readonly warnings: readonly string[]
}

export interface PlanOptions {
  /** Cores of their own for the bot. */
  readonly botCores: number
  /** The NIC the venue is reached through; the one of the default route when left out. */
  readonly device?: string | undefined
}

/** `0-2,8` → [0, 1, 2, 8] */
export function parseCpuList(text: string | null): number[] {
  if (text === null || text.trim() === '' || text.trim() === '(null)') return []
  return text
    .trim()
    .split(',')
    .flatMap((part) => {
      const [first = 0, last = first] = part.split('-').map(Number)
      return Array.from({ length: last - first + 1 }, (_, i) => first + i)
    })
}

/** [0, 1, 2, 8] → `0-2,8` */
export function formatCpuList(cpus: readonly number[]): string {
  const sorted = [...cpus].sort((a, b) => a - b)
  const ranges: [number, number][] = []
  for (const cpu of sorted) {
    const range = ranges.at(-1)
    if (range !== undefined && range[1] === cpu - 1) range[1] = cpu
    else ranges.push([cpu, cpu])
  }
  return ranges.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(',')
}

/** @param root of the file systems read, another one in tests */
export function planCores({ botCores, device }: PlanOptions, root = '/'): CorePlan {
  const read = (path: string) => readText(join(root, path))
  const names = (path: string, pattern: RegExp) => listNames(join(root, path)).filter((name) => pattern.test(name))
  const online = parseCpuList(read('sys/devices/system/cpu/online'))
  const allowed = parseCpuList(/^Cpus_allowed_list:\s*(\S+)/m.exec(read('proc/self/status') ?? '')?.[1] ?? null)
  const usable = allowed.length === 0 ? online : online.filter((cpu) => allowed.includes(cpu))
  const nodes = names('sys/devices/system/node', /^node\d+$/)
    .map((name) => ({ node: Number(name.slice(4)), at: `sys/devices/system/node/${name}` }))
    .sort((a, b) => a.node - b.node)
    .map(({ node, at }) => ({
      node,
      cpus: parseCpuList(read(`${at}/cpulist`)).filter((cpu) => online.includes(cpu)),
      memoryBytes: kibibytes(/MemTotal:\s*(\d+) kB/.exec(read(`${at}/meminfo`) ?? '')?.[1]),
      distances: read(`${at}/distance`)?.trim().split(/\s+/).map(Number) ?? null,
    }))
  if (nodes.length === 0) nodes.push({ node: 0, cpus: online, memoryBytes: null, distances: null })
  const nodeOf = (cpu: number) => nodes.find(({ cpus }) => cpus.includes(cpu))?.node ?? 0
  const siblingsOf = (cpu: number) => {
    const siblings = parseCpuList(read(`sys/devices/system/cpu/cpu${cpu}/topology/thread_siblings_list`))
    return siblings.length === 0 ? [cpu] : siblings
  }
  const isolated = parseCpuList(read('sys/devices/system/cpu/isolated'))
  const nohzFull = read('sys/devices/system/cpu/nohz_full')
  const requested = (read('proc/cmdline') ?? '')
    .split(/\s+/)
    .filter((option) => /^(isolcpus|nohz_full|rcu_nocbs|irqaffinity)=/.test(option))
  const nicName = device ?? defaultDevice(read('proc/net/route'))
  const nicNode = nicName === undefined ? null : Number(read(`sys/class/net/${nicName}/device/numa_node`) ?? -1)
  const nic = nicName === undefined ? null : { device: nicName, node: nicNode === null || nicNode < 0 ? null : nicNode }
  const perCpu = interruptsPerCpu(read('proc/interrupts'))
  const warnings: string[] = []

  const numa: NumaPlan =
    nodes.length > 1
      ? { status: 'measured', reason: '', nodes }
      : { status: 'skipped', reason: 'single node, skipped', nodes }
  const isolation = {
    requested,
    isolatedCpus: isolated,
    nohzFullCpus: nohzFull === null ? null : parseCpuList(nohzFull),
  }
  const none = (reason: string): CorePlan => ({
    status: 'unsupported',
    reason,
    numa,
    nic,
    bot: { cpus: [], idleSiblings: [], node: 0 },
    interrupts: { cpus: [] },
    housekeeping: { cpus: usable },
    isolation,
    interruptsOnBotCores: [],
    kernelOptions: [],
    commands: [],
    warnings,
  })

  // Physical cores as lists of their threads, once each; CPU 0's keeps the time and runs what cannot be moved.
  const cores = [...new Map(usable.map((cpu) => [siblingsOf(cpu).join(), siblingsOf(cpu)])).values()]
  if (usable.length < 2) return none('this process may use one core only: nothing can be kept apart')
  const free = cores.filter((threads) => !threads.includes(0))
  if (free.length === 0)
    return none(`the cores ${formatCpuList(usable)} are threads of one physical core: what one does slows the other`)
  if (requested.some((option) => option.startsWith('isolcpus=')) && isolated.length === 0)
    warnings.push('isolcpus is on the command line, but the kernel isolates no core')
  if (nohzFull === null) warnings.push('this kernel has no nohz_full: its timer tick stays on every core')

  const isIsolated = (threads: readonly number[]) => threads.some((cpu) => isolated.includes(cpu))
  const load = (threads: readonly number[]) => threads.reduce((sum, cpu) => sum + (perCpu.get(cpu) ?? 0), 0)
  const wantedNode = nic?.node ?? nodeOf((free.find(isIsolated) ?? free[0])?.[0] ?? 0)
  const ranked = [...free].sort(
    (a, b) =>
      Number(nodeOf(b[0] as number) === wantedNode) - Number(nodeOf(a[0] as number) === wantedNode) ||
      Number(isIsolated(b)) - Number(isIsolated(a)) ||
      load(a) - load(b) ||
      (b[0] as number) - (a[0] as number),
  )
  const chosen = ranked
    .slice(0, botCores)
    .filter((threads) => nodeOf(threads[0] as number) === nodeOf(ranked[0]?.[0] ?? 0))
  if (chosen.length < botCores)
    warnings.push(`${botCores} cores were asked for, ${chosen.length} can be kept apart on one node`)
  const botCpus = chosen.map((threads) => threads.find((cpu) => isolated.includes(cpu)) ?? (threads[0] as number))
  const botNode = nodeOf(botCpus[0] as number)
  if (nic?.node != null && nic.node !== botNode)
    warnings.push(
      `${nic.device} is on node ${nic.node}, the bot's cores on node ${botNode}: every packet crosses nodes`,
    )
  const taken = chosen.flat()
  const idleSiblings = taken.filter((cpu) => !botCpus.includes(cpu))
  const rest = usable.filter((cpu) => !taken.includes(cpu))
  // One core of the bot's node for the NIC, the last one: the first ones carry what cannot be moved.
  const near = rest.filter((cpu) => nodeOf(cpu) === botNode && !isolated.includes(cpu))
  const interruptCpus = [near.at(-1) ?? (rest.at(-1) as number)]
  const own = siblingsOf(interruptCpus[0] as number)
  const others = rest.filter((cpu) => !own.includes(cpu) && !isolated.includes(cpu))
  const housekeeping = others.length > 0 ? others : rest
  const botList = formatCpuList(botCpus)
  const keptApart = formatCpuList(taken)
  const interruptsOnBotCores = names('proc/irq', /^\d+$/)
    .sort((a, b) => Number(a) - Number(b))
    .flatMap((irq) => {
      const text = read(`proc/irq/${irq}/effective_affinity_list`) || read(`proc/irq/${irq}/smp_affinity_list`)
      const on = parseCpuList(text)
      if (!on.some((cpu) => taken.includes(cpu))) return []
      const name = names(`proc/irq/${irq}`, /./).find((entry) => !/affinity|hint|node|spurious/.test(entry)) ?? ''
      return [{ irq, name, cpus: formatCpuList(on) }]
    })
  return {
    status: 'measured',
    reason: '',
    numa,
    nic,
    bot: { cpus: botCpus, idleSiblings, node: botNode },
    interrupts: { cpus: interruptCpus },
    housekeeping: { cpus: housekeeping },
    isolation,
    interruptsOnBotCores,
    kernelOptions: [
      `isolcpus=domain,managed_irq,${keptApart}`,
      ...(nohzFull === null ? [] : [`nohz_full=${keptApart}`, `rcu_nocbs=${keptApart}`]),
      `irqaffinity=${formatCpuList(rest)}`,
    ],
    commands: [
      ...interruptsOnBotCores.map(
        ({ irq }) => `echo ${formatCpuList(interruptCpus)} > /proc/irq/${irq}/smp_affinity_list`,
      ),
      ...idleSiblings.map((cpu) => `echo 0 > /sys/devices/system/cpu/cpu${cpu}/online`),
      `${nodes.length > 1 ? `numactl --membind=${botNode} ` : ''}node bot.js`,
      `taskset -p -c ${botList} <thread id of the bot's JavaScript thread>`,
    ],
    warnings,
  }
}

export function planText(plan: CorePlan): string {
  const { numa, nic, bot, interrupts, housekeeping, isolation } = plan
  const lines = [
    `NUMA: ${numa.status === 'skipped' ? numa.reason : numa.nodes.map(({ node, cpus }) => `node ${node} has cores ${formatCpuList(cpus)}`).join(', ')}`,
    `isolated now: ${isolation.isolatedCpus.length === 0 ? 'none' : formatCpuList(isolation.isolatedCpus)}${isolation.requested.length === 0 ? '' : ` (asked for: ${isolation.requested.join(' ')})`}`,
  ]
  if (plan.status === 'unsupported') return [...lines, `no plan: ${plan.reason}`].join('\n')
  lines.push(
    `bot: ${formatCpuList(bot.cpus)} on node ${bot.node}${bot.idleSiblings.length === 0 ? '' : `, its siblings ${formatCpuList(bot.idleSiblings)} idle`}`,
    `interrupts${nic === null ? '' : ` of ${nic.device}`}: ${formatCpuList(interrupts.cpus)}`,
    `everything else: ${formatCpuList(housekeeping.cpus)}`,
    `kernel command line: ${plan.kernelOptions.join(' ')}`,
    ...plan.commands.map((command) => `  ${command}`),
    ...plan.warnings.map((warning) => `warning: ${warning}`),
  )
  return lines.join('\n')
}

function listNames(path: string): string[] {
  try {
    return readdirSync(path)
  } catch {
    return []
  }
}

function kibibytes(text: string | undefined): number | null {
  return text === undefined ? null : Number(text) * 1024
}

/** Interface of the default route: destination 00000000 in /proc/net/route. */
function defaultDevice(routes: string | null): string | undefined {
  return routes
    ?.split('\n')
    .map((line) => line.split('\t'))
    .find(([, destination, , flags]) => destination === '00000000' && flags !== undefined)?.[0]
}

/** Interrupts since boot of each CPU: the columns of /proc/interrupts, named in its first line. */
function interruptsPerCpu(text: string | null): Map<number, number> {
  const [head = '', ...rows] = (text ?? '').split('\n')
  const cpus = [...head.matchAll(/CPU(\d+)/g)].map(([, cpu]) => Number(cpu))
  const sums = new Map(cpus.map((cpu) => [cpu, 0]))
  for (const row of rows) {
    // `LOC:` and its like are counted too: they say how busy a core has been.
    const counts = row.trim().split(/\s+/).slice(1)
    for (const [i, cpu] of cpus.entries()) sums.set(cpu, (sums.get(cpu) ?? 0) + (Number(counts[i]) || 0))
  }
  return sums
}
