import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, describe, it } from 'node:test'
import { collectEnvironment, environmentText, parseCpuTicks, stealRatio } from '../src/environment.ts'

describe('the fingerprint of the environment', () => {
  const roots: string[] = []
  const tree = (files: { readonly [path: string]: string }) => {
    const root = mkdtempSync(join(tmpdir(), 'tickscope-root-'))
    roots.push(root)
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(root, path)), { recursive: true })
      writeFileSync(join(root, path), text)
    }
    return root
  }
  afterEach(() => {
    for (const root of roots.splice(0)) rmSync(root, { recursive: true })
  })

  it('tells a setting that is empty from one the kernel does not have', () => {
    const empty = collectEnvironment(tree({ 'sys/devices/system/cpu/isolated': '\n' }))
    assert.equal(empty.kernel.isolatedCpus, '')
    assert.equal(empty.kernel.nohzFullCpus, null)
    const isolated = collectEnvironment(tree({ 'sys/devices/system/cpu/isolated': '2-7\n' }))
    assert.equal(isolated.kernel.isolatedCpus, '2-7')
    const nothing = collectEnvironment(tree({}))
    for (const value of [
      nothing.cpu.governors,
      nothing.cpu.threadSiblings,
      nothing.cpu.numaNodes,
      nothing.kernel.isolatedCpus,
      nothing.kernel.clocksource,
      nothing.kernel.options,
      nothing.virtualization.hypervisor,
      nothing.limits.allowedCpus,
      nothing.stealRatioSinceBoot,
    ])
      assert.equal(value, null)
  })

  it('reads a bare-metal machine with tuned cores', () => {
    const cpu = 'sys/devices/system/cpu'
    const environment = collectEnvironment(
      tree({
        'proc/cpuinfo': 'processor\t: 0\nmodel name\t: Xeon: Gold 6354\nflags\t\t: fpu vme tsc\n\nprocessor\t: 1\n',
        'proc/cmdline':
          'BOOT_IMAGE=/vmlinuz root=UUID=1 password=hunter2 isolcpus=2,3 nohz_full=2,3 intel_idle.max_cstate=0 quiet\n',
        'proc/stat': 'cpu  700 0 100 150 0 0 0 50 300 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n',
        'proc/self/status': 'Name:\tnode\nCpus_allowed_list:\t2-3\n',
        'proc/self/cgroup': '0::/trading\n',
        'sys/fs/cgroup/trading/cpu.max': '150000 100000\n',
        'sys/fs/cgroup/trading/memory.max': '1073741824\n',
        [`${cpu}/cpu0/topology/thread_siblings_list`]: '0,2\n',
        [`${cpu}/cpu1/topology/thread_siblings_list`]: '1,3\n',
        [`${cpu}/cpu2/topology/thread_siblings_list`]: '0,2\n',
        [`${cpu}/cpu0/cpufreq/scaling_governor`]: 'performance\n',
        [`${cpu}/cpu1/cpufreq/scaling_governor`]: 'powersave\n',
        'sys/devices/system/node/node0/distance': '10 21\n',
        'sys/devices/system/node/node1/distance': '21 10\n',
        'sys/devices/system/clocksource/clocksource0/current_clocksource': 'tsc\n',
        'sys/kernel/mm/transparent_hugepage/enabled': 'always [madvise] never\n',
        'sys/class/dmi/id/sys_vendor': 'Supermicro\n',
        'sys/class/dmi/id/product_name': 'X12\n',
      }),
    )
    assert.equal(environment.cpu.model, 'Xeon: Gold 6354')
    assert.deepEqual(environment.cpu.threadSiblings, ['0,2', '1,3'])
    assert.deepEqual(environment.cpu.governors, ['performance', 'powersave'])
    assert.equal(environment.cpu.numaNodes, 2)
    assert.deepEqual(environment.virtualization, { hypervisor: false, machine: 'Supermicro X12', container: false })
    assert.deepEqual(environment.limits, { allowedCpus: '2-3', cgroupCpus: 1.5, cgroupMemoryBytes: 2 ** 30 })
    assert.equal(environment.kernel.transparentHugepages, 'madvise')
    assert.equal(environment.stealRatioSinceBoot, 0.05)
    assert.deepEqual(environment.kernel.options, ['isolcpus=2,3', 'nohz_full=2,3', 'intel_idle.max_cstate=0'])
    assert.doesNotMatch(JSON.stringify(environment), /hunter2/)
    assert.match(environmentText(environment), /Xeon: Gold 6354, \d+ CPUs \(quota 1.5\), bare metal, .*clocksource tsc/)
  })

  it('reads the limits of version 1 of control groups, and of a container that sees its own as the root', () => {
    const v1 = collectEnvironment(
      tree({
        'proc/self/cgroup': '4:memory:/docker/abc\n1:cpu,cpuacct:/docker/abc\n0::/\n',
        'sys/fs/cgroup/cpu/cpu.cfs_quota_us': '50000\n',
        'sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n',
        'sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes': '9223372036854771712\n',
        '.dockerenv': '',
      }),
    )
    assert.deepEqual([v1.limits.cgroupCpus, v1.limits.cgroupMemoryBytes], [0.5, null])
    assert.equal(v1.virtualization.container, true)
    const unlimited = collectEnvironment(
      tree({
        'proc/self/cgroup': '0::/not/mounted/here\n',
        'sys/fs/cgroup/cpu.max': 'max 100000\n',
        'sys/fs/cgroup/memory.max': 'max\n',
      }),
    )
    assert.deepEqual([unlimited.limits.cgroupCpus, unlimited.limits.cgroupMemoryBytes], [null, null])
  })

  it('describes this machine', () => {
    const environment = collectEnvironment()
    assert.ok(environment.cpu.cores > 0)
    assert.equal(environment.process.node, process.version)
    assert.equal(environment.loadAverage.length, 3)
    assert.ok(environmentText(environment).includes(process.version))
  })
})

describe('steal', () => {
  it('is the share of CPU time between two readings', () => {
    const before = parseCpuTicks('cpu  100 0 0 0 0 0 0 0\n')
    const after = parseCpuTicks('cpu  150 0 0 30 0 0 0 20 99 0\n')
    assert.deepEqual(after, { total: 200, steal: 20 })
    assert.equal(stealRatio(after, before), 0.2)
    assert.equal(stealRatio(before, before), null)
    assert.equal(stealRatio(after, null), null)
    assert.equal(parseCpuTicks('intr 1 2 3'), null)
    assert.equal(parseCpuTicks(null), null)
  })
})
