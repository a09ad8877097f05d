/** What the C probes report, as a collector shows it. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { DEFAULT_SLOS } from '@tickscope/contract'
import { createBypassReporter } from '../../src/bypass/report.ts'
import type { BypassResult } from '../../src/bypass/run.ts'
import { hasCompiler, lastLine, PROBE, run } from './machine.ts'

const COLLECTOR = join(import.meta.dirname, '../../../collector/src/main.ts')
const noCompiler = !hasCompiler && 'no C compiler and make here'

async function readyLine(child: ChildProcess): Promise<{ url: string }> {
  assert.ok(child.stdout)
  const [line] = (await once(createInterface({ input: child.stdout }), 'line', {
    signal: AbortSignal.timeout(30_000),
  })) as [string]
  return JSON.parse(line)
}

describe('reporting to a collector', { skip: noCompiler }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'tickscope-report-'))
  let collector: ChildProcess
  let url = ''

  before(async () => {
    collector = spawn(process.execPath, [COLLECTOR, '--port', '0', '--data', folder], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    url = (await readyLine(collector)).url
  })
  after(async () => {
    collector.kill('SIGTERM')
    if (collector.exitCode === null) await once(collector, 'exit')
    rmSync(folder, { recursive: true })
  })

  /** The value of a series that has these labels among others. */
  async function metric(name: string, ...labels: readonly string[]): Promise<number | undefined> {
    const text = await (await fetch(`${url}/metrics`)).text()
    const line = text
      .split('\n')
      .find((one) => one.startsWith(`${name}{`) && labels.every((label) => one.includes(label)))
    return line === undefined ? undefined : Number(line.split(' ').at(-1))
  }

  it('the ladder reports each round trip by path, and only gains it claims', async () => {
    const args = ['--rounds', '3', '--count', '300', '--paths', 'udp_blocking,udp_spinning,udp_busy_poll']
    const ended = await run(process.execPath, [PROBE, 'bypass', '--json', ...args, '--collector', url])
    assert.equal(ended.code, 0, ended.stderr)
    assert.equal(ended.stderr.includes('did not acknowledge'), false, ended.stderr)
    const result = lastLine<BypassResult>(ended)
    for (const { path, status } of result.rows) {
      const expected = status === 'measured' ? 900 : undefined
      assert.equal(await metric('tickscope_bypass_rtt_seconds_count', `path="${path}"`), expected, path)
    }
    const gain = result.gains.find(({ to }) => to === 'udp_spinning')
    const shown = await metric('tickscope_bypass_gain_ratio', 'path="udp_spinning"', 'quantile="0.5"')
    assert.ok(gain)
    assert.equal(shown, gain.claimed ? gain.ratio : 1)
  })

  it('the ladder takes back what a later run does not claim, also of another process', async () => {
    const to = { collectorUrl: url, token: undefined, service: 'ladder', instance: undefined, slos: DEFAULT_SLOS }
    const gain = { from: 'tcp_blocking', to: 'tcp_spinning', quantile: 0.5, ratio: 0.25, low: 0.2, high: 0.3 } as const
    const shown = () => metric('tickscope_bypass_gain_ratio', 'path="tcp_spinning"', 'service="ladder"')
    const report = async (...claims: readonly boolean[]) => {
      const reporter = await createBypassReporter({ ...to, payloadBytes: 64 })
      for (const claimed of claims) reporter.gains([{ ...gain, payloadBytes: 64, claimed }])
      reporter.gains([{ ...gain, payloadBytes: 830, ratio: 0.5, claimed: true }]) // not the payload that is reported
      assert.equal(await reporter.stop(), true)
      return shown()
    }
    assert.equal(await report(true), 0.25)
    assert.equal(await report(false), 1)
    assert.equal(await report(false, true), 0.25)
    assert.equal(await report(true, false), 1)
  })

  it('the ladder as a service reports every round trip of run after run until it is stopped', async () => {
    const paths = ['udp_epoll', 'tcp_spinning']
    const flags = ['--rounds', '1', '--count', '100', '--warm-up', '50', '--paths', `${paths}`]
    const args = ['bypass', '--serve', '--every', '100ms', ...flags, '--collector', url]
    const probe = spawn(process.execPath, [PROBE, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
    let last = ''
    const lines = createInterface({ input: probe.stdout })
    lines.on('line', (line) => (last = line))
    await once(lines, 'line', { signal: AbortSignal.timeout(30_000) })
    assert.deepEqual(JSON.parse(last), { event: 'ready', probe: 'bypass' })
    const reported = (path: string) => metric('tickscope_bypass_rtt_seconds_count', `path="${path}"`)
    const deadline = Date.now() + 30_000
    while (((await reported('tcp_spinning')) ?? 0) < 200) {
      assert.ok(Date.now() < deadline, 'two runs within 30 s')
      await delay(50)
    }
    probe.kill('SIGTERM')
    const [code] = await once(probe, 'close')
    assert.equal(code, 0)
    const summary = JSON.parse(last)
    assert.deepEqual([summary.event, summary.failed, summary.lost], ['summary', 0, 0])
    assert.ok(summary.runs >= 2, `${summary.runs} runs`)
    const [epoll, tcp] = await Promise.all(paths.map(reported))
    assert.equal((epoll ?? 0) + (tcp ?? 0), summary.sent, 'what it measured is what the collector has')
  })

  it('jitter as a service reports wakes until it is stopped', async () => {
    const args = ['jitter', '--serve', '--every', '100ms', '--count', '100', '--collector', url]
    const probe = spawn(process.execPath, [PROBE, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
    let last = ''
    const lines = createInterface({ input: probe.stdout })
    lines.on('line', (line) => (last = line))
    await once(lines, 'line', { signal: AbortSignal.timeout(30_000) })
    assert.deepEqual(JSON.parse(last), { event: 'ready', probe: 'jitter' })
    const deadline = Date.now() + 20_000
    const wakes = () => metric('tickscope_probe_phase_seconds_count', 'probe="jitter"', 'phase="wake"')
    while (((await wakes()) ?? 0) < 200) {
      assert.ok(Date.now() < deadline, 'two rounds within 20 s')
      await delay(50)
    }
    probe.kill('SIGTERM')
    const [code] = await once(probe, 'close')
    assert.equal(code, 0)
    const summary = JSON.parse(last) as { event: string; runs: number; wakes: number }
    assert.equal(summary.event, 'summary')
    assert.equal(await wakes(), summary.wakes)
    assert.equal(await metric('tickscope_probe_up', 'probe="jitter"'), 1)
  })
})
