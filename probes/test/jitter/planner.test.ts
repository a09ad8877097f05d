/** The planner on trees of /proc and /sys as machines have them that are not here. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, describe, it } from 'node:test'
import fc from 'fast-check'
import { formatCpuList, parseCpuList, planCores, planText } from '../../src/jitter/planner.ts'

const folders: string[] = []
after(() => {
  for (const folder of folders) rmSync(folder, { recursive: true })
})

interface Machine {
  /** Threads of each physical core, by node. */
  readonly nodes: readonly (readonly (readonly number[])[])[]
  readonly isolated?: string
  readonly nohzFull?: string
  readonly cmdline?: string
  readonly allowed?: string
  readonly nic?: { readonly name: string; readonly node: number }
  /** Interrupts since boot by CPU. */
  readonly load?: { readonly [cpu: number]: number }
  readonly irqs?: readonly { readonly irq: number; readonly name: string; readonly cpus: string }[]
}

/** Writes the files the planner reads, as the kernel writes them. */
function treeOf({
  nodes,
  isolated = '',
  nohzFull,
  cmdline = 'ro quiet',
  allowed,
  nic,
  load = {},
  irqs = [],
}: Machine): string {
  const root = mkdtempSync(join(tmpdir(), 'tickscope-plan-'))
  folders.push(root)
  const put = (path: string, text: string) => {
    mkdirSync(join(root, dirname(path)), { recursive: true })
    writeFileSync(join(root, path), `${text}\n`)
  }
  const cpus = nodes.flat(2).sort((a, b) => a - b)
  put('sys/devices/system/cpu/online', formatCpuList(cpus))
  put('sys/devices/system/cpu/isolated', isolated)
  if (nohzFull !== undefined) put('sys/devices/system/cpu/nohz_full', nohzFull)
  put('proc/cmdline', cmdline)
  put('proc/self/status', `Name:\tnode\nCpus_allowed_list:\t${allowed ?? formatCpuList(cpus)}`)
  for (const [node, cores] of nodes.entries()) {
    put(`sys/devices/system/node/node${node}/cpulist`, formatCpuList(cores.flat()))
    put(`sys/devices/system/node/node${node}/distance`, nodes.map((_, other) => (other === node ? 10 : 21)).join(' '))
    put(`sys/devices/system/node/node${node}/meminfo`, `Node ${node} MemTotal:       1024 kB`)
    for (const threads of cores)
      for (const cpu of threads)
        put(`sys/devices/system/cpu/cpu${cpu}/topology/thread_siblings_list`, formatCpuList(threads))
  }
  if (nic) {
    put(`sys/class/net/${nic.name}/device/numa_node`, `${nic.node}`)
    put('proc/net/route', `Iface\tDestination\tGateway \tFlags\n${nic.name}\t00000000\t0100000A\t0003`)
  }
  const row = cpus.map((cpu) => `${load[cpu] ?? 0}`.padStart(10)).join(' ')
  put(
    'proc/interrupts',
    `     ${cpus.map((cpu) => `CPU${cpu}`.padStart(10)).join(' ')}\n LOC: ${row}   Local timer interrupts`,
  )
  for (const { irq, name, cpus: on } of irqs) {
    put(`proc/irq/${irq}/smp_affinity_list`, on)
    put(`proc/irq/${irq}/${name}/x`, '')
  }
  return root
}

/** Two sockets of four cores with two threads each: siblings are n and n + 8. */
const TWO_NODES = [
  [
    [0, 8],
    [1, 9],
    [2, 10],
    [3, 11],
  ],
  [
    [4, 12],
    [5, 13],
    [6, 14],
    [7, 15],
  ],
]

describe('the plan of a machine with two nodes and SMT', () => {
  const nic = { name: 'ens5', node: 1 }

  it('gives the bot a physical core on the node of the NIC, its sibling idle', () => {
    const plan = planCores(
      { botCores: 1 },
      treeOf({ nodes: TWO_NODES, nic, load: { 4: 9, 5: 7, 6: 1, 7: 3, 12: 1, 14: 1 } }),
    )
    assert.equal(plan.status, 'measured')
    assert.deepEqual(plan.nic, { device: 'ens5', node: 1 })
    assert.deepEqual(plan.bot, { cpus: [6], idleSiblings: [14], node: 1 }, 'the core with the fewest interrupts')
    assert.deepEqual(plan.interrupts.cpus, [15], 'another core of that node')
    assert.ok(!plan.housekeeping.cpus.some((cpu) => [6, 14, 7, 15].includes(cpu)))
    assert.ok(plan.housekeeping.cpus.includes(0))
    assert.ok(plan.commands.includes('echo 0 > /sys/devices/system/cpu/cpu14/online'))
    assert.ok(plan.commands.some((command) => command.startsWith('numactl --membind=1 ')))
    assert.deepEqual(plan.warnings, ['this kernel has no nohz_full: its timer tick stays on every core'])
  })

  it('shows the nodes with their distances', () => {
    const { numa } = planCores({ botCores: 1 }, treeOf({ nodes: TWO_NODES }))
    assert.equal(numa.status, 'measured')
    assert.deepEqual(numa.nodes[1], {
      node: 1,
      cpus: [4, 5, 6, 7, 12, 13, 14, 15],
      memoryBytes: 1024 * 1024,
      distances: [21, 10],
    })
  })

  it('prefers cores that the kernel isolates, and says so when the NIC is on the other node', () => {
    const machine = {
      nodes: TWO_NODES,
      isolated: '2,10',
      nohzFull: '2,10',
      cmdline: 'ro isolcpus=2,10 nohz_full=2,10 quiet',
      nic: { name: 'ens5', node: 0 },
    }
    const plan = planCores({ botCores: 1 }, treeOf(machine))
    assert.deepEqual(plan.bot, { cpus: [2], idleSiblings: [10], node: 0 })
    assert.deepEqual(plan.isolation, {
      requested: ['isolcpus=2,10', 'nohz_full=2,10'],
      isolatedCpus: [2, 10],
      nohzFullCpus: [2, 10],
    })
    assert.deepEqual(plan.kernelOptions, [
      'isolcpus=domain,managed_irq,2,10',
      'nohz_full=2,10',
      'rcu_nocbs=2,10',
      'irqaffinity=0-1,3-9,11-15',
    ])
    assert.deepEqual(plan.warnings, [])
    // A whole node that is not ours to use: the bot cannot be where the NIC is.
    const elsewhere = planCores({ botCores: 1 }, treeOf({ ...machine, allowed: '4-7,12-15' }))
    assert.equal(elsewhere.bot.node, 1)
    assert.match(elsewhere.warnings.join(), /ens5 is on node 0, the bot's cores on node 1/)
  })

  it('names the interrupts that may reach the bot, and where to move them', () => {
    const irqs = [
      { irq: 33, name: 'ens5-rx-0', cpus: '6' },
      { irq: 34, name: 'ens5-rx-1', cpus: '0-3' },
      { irq: 120, name: 'nvme0q1', cpus: '14-15' },
    ]
    const plan = planCores({ botCores: 1 }, treeOf({ nodes: TWO_NODES, nic, isolated: '6,14', irqs }))
    assert.deepEqual(plan.interruptsOnBotCores, [
      { irq: '33', name: 'ens5-rx-0', cpus: '6' },
      { irq: '120', name: 'nvme0q1', cpus: '14-15' },
    ])
    assert.ok(plan.commands.includes('echo 15 > /proc/irq/33/smp_affinity_list'))
  })

  it('keeps several cores on one node, and says when there are not enough', () => {
    const plan = planCores({ botCores: 5 }, treeOf({ nodes: TWO_NODES, nic }))
    assert.equal(plan.bot.cpus.length, 4)
    assert.match(plan.warnings.join(), /5 cores were asked for, 4 can be kept apart on one node/)
  })

  it('warns when isolation was asked for and is not there', () => {
    const plan = planCores({ botCores: 1 }, treeOf({ nodes: TWO_NODES, cmdline: 'isolcpus=6' }))
    assert.match(plan.warnings.join(), /isolcpus is on the command line, but the kernel isolates no core/)
  })
})

describe('the plan of a small machine', () => {
  it('skips NUMA on a single node, and still parts the bot from the rest', () => {
    const plan = planCores({ botCores: 1 }, treeOf({ nodes: [[[0], [1]]] }))
    assert.deepEqual([plan.numa.status, plan.numa.reason], ['skipped', 'single node, skipped'])
    assert.deepEqual(
      [plan.bot.cpus, plan.bot.idleSiblings, plan.interrupts.cpus, plan.housekeeping.cpus],
      [[1], [], [0], [0]],
    )
    assert.match(planText(plan), /^NUMA: single node, skipped\nisolated now: none\nbot: 1 on node 0\n/)
  })

  it('is none where two threads share the one core', () => {
    const plan = planCores({ botCores: 1 }, treeOf({ nodes: [[[0, 1]]] }))
    assert.equal(plan.status, 'unsupported')
    assert.match(plan.reason, /0-1 are threads of one physical core/)
    assert.deepEqual([plan.bot.cpus, plan.commands], [[], []])
    assert.match(planText(plan), /no plan: /)
  })

  it('is none where the process may use one core only', () => {
    const plan = planCores({ botCores: 1 }, treeOf({ nodes: [[[0], [1], [2], [3]]], allowed: '2' }))
    assert.match(plan.reason, /may use one core only/)
  })

  it('is none on a machine that says nothing of itself', () => {
    const root = mkdtempSync(join(tmpdir(), 'tickscope-plan-'))
    folders.push(root)
    assert.equal(planCores({ botCores: 1 }, root).status, 'unsupported')
  })

  it('exists for the machine the tests run on', () => {
    const plan = planCores({ botCores: 1 })
    assert.ok(plan.status === 'measured' ? plan.bot.cpus.length === 1 : plan.reason.length > 0)
  })
})

describe('a list of CPUs', () => {
  it('reads as the kernel writes it', () => {
    assert.deepEqual(parseCpuList('0-2,8\n'), [0, 1, 2, 8])
    for (const empty of ['', '\n', ' (null)', null]) assert.deepEqual(parseCpuList(empty), [])
    assert.equal(formatCpuList([8, 0, 2, 1]), '0-2,8')
  })

  it('survives being written and read', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(300)), (cpus) => {
        assert.deepEqual(
          parseCpuList(formatCpuList(cpus)),
          [...cpus].sort((a, b) => a - b),
        )
      }),
    )
  })
})
