import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import {
  ALERT_IDENTITY_LABELS,
  DEFAULT_SLOS,
  formatNs,
  loadSlos,
  METRIC_NAMES,
  METRICS,
  PAGING,
  parseConfig,
  parseDurationMs,
  QUANTILE_METRICS,
  quantileMetricName,
  RESOURCE_LABELS,
  UserError,
} from '../src/index.ts'

describe('the SLO file', () => {
  it('overrides what it names and leaves the rest', () => {
    const slos = parseConfig('{"slos":{"api_rtt":{"thresholdMs":15.5},"utilization":{"thresholdRatio":0.7}}}', 'test')
    assert.equal(slos.api_rtt.thresholdNs, 15_500_000)
    assert.equal(slos.api_rtt.objective, DEFAULT_SLOS.api_rtt.objective)
    assert.equal(slos.processing.thresholdNs, 5_000_000)
    assert.equal(slos.utilization.thresholdRatio, 0.7)
  })

  it('is read from disk, and its absence means the defaults', () => {
    const folder = mkdtempSync(join(tmpdir(), 'tickscope-slo-'))
    try {
      const file = join(folder, 'tickscope.json')
      writeFileSync(file, '{"slos":{"processing":{"thresholdMs":2}}}')
      assert.equal(loadSlos(file).processing.thresholdNs, 2_000_000)
      assert.equal(loadSlos(undefined), DEFAULT_SLOS)
      assert.throws(() => loadSlos(join(folder, 'none.json')), /none\.json cannot be read: ENOENT/)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  for (const text of [
    '{',
    '[]',
    '{"slo":{}}',
    '{"slos":{"api_rtt":{"thresholdMs":0}}}',
    '{"slos":{"api_rtt":{"thresholdMs":"20"}}}',
  ]) {
    it(`refuses ${text} in one sentence that names the file`, () => {
      assert.throws(
        () => parseConfig(text, 'budgets.json'),
        (error) =>
          error instanceof UserError && error.message.startsWith('budgets.json') && !error.message.includes('\n'),
      )
    })
  }
})

describe('paging', () => {
  it('holds the fast path longer than the rule looks back, so that they never take turns', () => {
    assert.ok(PAGING.holdSeconds > PAGING.ruleWindowSeconds + 2)
    for (const label of ALERT_IDENTITY_LABELS) assert.ok(RESOURCE_LABELS.includes(label))
  })
})

describe('the metric catalogue', () => {
  it('follows the naming conventions of Prometheus', () => {
    for (const name of METRIC_NAMES) {
      const { type, unit, help } = METRICS[name]
      assert.match(name, /^tickscope_[a-z_]+$/)
      if (type === 'counter') assert.ok(name.endsWith('_total'), name)
      if (type === 'histogram') assert.ok(name.endsWith('_seconds') && unit === 'seconds', name)
      if (unit === 'bytes' || unit === 'ratio') assert.ok(name.endsWith(`_${unit}`), name)
      assert.match(help, /^[A-Z].*\.$/, name)
    }
    for (const name of QUANTILE_METRICS) assert.match(quantileMetricName(name), /_quantile_seconds$/)
  })
})

describe('durations', () => {
  it('are read with their unit and refused without', () => {
    assert.equal(parseDurationMs('500ns', '--x'), 0.0005)
    assert.equal(parseDurationMs('250us', '--x'), 0.25)
    assert.equal(parseDurationMs('1.5s', '--x'), 1500)
    for (const text of ['40', '-1s', '0s', '1 s', '', '1e9h', '9999h']) {
      assert.throws(() => parseDurationMs(text, '--for'), /--for is/)
    }
  })

  it('are written with three digits', () => {
    assert.deepEqual([812, 4_210_000, 12_345, 123_456_789, 2e9].map(formatNs), [
      '812 ns',
      '4.21 ms',
      '12.3 µs',
      '123 ms',
      '2.00 s',
    ])
  })
})
