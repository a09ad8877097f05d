/** The generated dashboard: fresh, complete, and asking only for what the collector exposes. */
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import {
  bucketBoundsNs,
  DEFAULT_SLOS,
  findOnPath,
  leOf,
  METRIC_NAMES,
  METRICS,
  type MetricName,
  parseConfig,
  QUANTILE_METRICS,
  QUANTILE_WINDOWS_SECONDS,
  QUANTILES,
  quantileMetricName,
  RESOURCE_LABELS,
} from '@tickscope/contract'
import { runProgram, skipWithout } from '../../contract/test/program.ts'
import { PROMETHEUS_UID, renderDatasources, renderOverview, TEMPO_UID } from '../src/index.ts'
import { series } from '../src/query.ts'

const FOLDER = join(import.meta.dirname, '..')
const scratch = mkdtempSync(join(tmpdir(), 'tickscope-dashboards-'))
after(() => rmSync(scratch, { recursive: true }))
const promtool = findOnPath('promtool')

interface PanelJson {
  readonly id: number
  readonly type: string
  readonly title: string
  readonly description?: string
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number }
  readonly datasource?: { readonly uid: string }
  readonly targets?: readonly { readonly expr: string; readonly refId: string; readonly exemplar?: boolean }[]
  readonly fieldConfig?: {
    readonly defaults: {
      readonly unit?: string
      readonly thresholds?: { readonly steps: readonly { readonly value: number | null; readonly color: string }[] }
    }
  }
}

interface DashboardJson {
  readonly id: null
  readonly uid: string
  readonly schemaVersion: number
  readonly panels: readonly PanelJson[]
  readonly templating: {
    readonly list: readonly {
      readonly name: string
      readonly current: { readonly value: unknown }
      readonly query: string | { readonly query: string }
    }[]
  }
}

const dashboard = JSON.parse(renderOverview(DEFAULT_SLOS)) as DashboardJson
const panels = dashboard.panels.filter((panel) => panel.type !== 'row')
const queries = panels.flatMap((panel) => (panel.targets ?? []).map(({ expr }) => ({ title: panel.title, expr })))

function panelOf(title: string): PanelJson {
  const found = panels.find((panel) => panel.title === title)
  assert.ok(found, `no panel '${title}'`)
  return found
}

const generator = (...args: string[]) => runProgram(process.execPath, ['src/main.ts', ...args], { cwd: FOLDER })

describe('the generated files', () => {
  it('are what their source says', () => {
    const { status, output } = generator('--check')
    assert.equal(status, 0, output)
  })

  it('are called stale, in one sentence and with exit code 1, when they are not', () => {
    assert.equal(generator('--out', scratch).status, 0)
    assert.equal(generator('--out', scratch, '--check').status, 0)
    writeFileSync(join(scratch, 'dashboards/tickscope-overview.json'), '{}\n')
    const { status, output } = generator('--out', scratch, '--check')
    assert.equal(status, 1)
    assert.match(output, /^dashboards: .+overview\.json is not what its source says; run "npm run gen"\n$/)
  })

  it('follow the config file, in thresholds, buckets and words', () => {
    const config = join(scratch, 'config.json')
    writeFileSync(config, '{"slos":{"api_rtt":{"thresholdMs":15},"utilization":{"thresholdRatio":0.7}}}')
    assert.equal(generator('--config', config, '--out', scratch).status, 0)
    const text = readFileSync(join(scratch, 'dashboards/tickscope-overview.json'), 'utf8')
    assert.match(text, /le=\\"0\.015\\"/)
    assert.doesNotMatch(text, /le=\\"0\.02\\"/)
    assert.match(text, /answered within 15 ms/)
    assert.match(text, /"value": 0\.7,/)
  })

  it('end in one sentence on a flag or a folder that cannot be used', () => {
    assert.deepEqual(generator('--nope'), { status: 2, output: "dashboards: Unknown option '--nope'\n" })
    const { status, output } = generator('--out', '/dev/null/x')
    assert.equal(status, 3)
    assert.match(output, /^dashboards: \/dev\/null\/x\/dashboards\/.+ cannot be written: ENOTDIR\n$/)
  })
})

describe('the dashboard', () => {
  it('can be provisioned: classic form, no id of its own, a uid that pages link to', () => {
    assert.equal(dashboard.id, null)
    assert.equal(dashboard.uid, 'tickscope-overview')
    assert.ok(dashboard.schemaVersion >= 36)
    assert.deepEqual(
      dashboard.templating.list.map(({ name }) => name),
      ['ds', 'service', 'venue'],
    )
    assert.equal(dashboard.templating.list[0]?.current.value, PROMETHEUS_UID)
    const datasources = renderDatasources({ prometheusUrl: 'http://p:9090', tempoUrl: 'http://t:3200' })
    assert.match(datasources, new RegExp(`uid: ${PROMETHEUS_UID}\n`))
    assert.match(datasources, new RegExp(`datasourceUid: ${TEMPO_UID}\n`))
    assert.match(datasources, new RegExp(`uid: ${TEMPO_UID}\n`))
    assert.match(datasources, /timeInterval: 1s\n/)
  })

  it('says of each panel what it measures and in which unit', () => {
    for (const panel of panels) {
      assert.ok((panel.description ?? '').length > 40, `'${panel.title}' has no description`)
      assert.ok(panel.fieldConfig?.defaults.unit, `'${panel.title}' has no unit`)
      // biome-ignore lint/suspicious/noTemplateCurlyInString: Grafana's own placeholder
      assert.equal(panel.datasource?.uid, '${ds}', panel.title)
      assert.ok((panel.targets ?? []).length > 0, `'${panel.title}' asks for nothing`)
    }
    assert.equal(new Set(panels.map(({ title }) => title)).size, panels.length, 'titles are unique')
  })

  it('lays panels side by side without overlap or gap, each with an id of its own', () => {
    const cells = new Set<string>()
    for (const { title, gridPos } of dashboard.panels) {
      assert.ok(gridPos.x >= 0 && gridPos.x + gridPos.w <= 24, title)
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          assert.ok(!cells.has(`${x},${y}`), `${title} lies over another panel`)
          cells.add(`${x},${y}`)
        }
      }
    }
    const height = Math.max(...dashboard.panels.map(({ gridPos }) => gridPos.y + gridPos.h))
    assert.equal(cells.size, 24 * height, 'there is a gap')
    assert.equal(new Set(dashboard.panels.map(({ id }) => id)).size, dashboard.panels.length)
  })

  it('draws the budgets where the SLOs are', () => {
    const lineOf = (title: string) => panelOf(title).fieldConfig?.defaults.thresholds?.steps.at(-1)
    assert.deepEqual(lineOf('Tick-to-trade'), { value: 0.005, color: 'red' })
    assert.deepEqual(lineOf('Tick-to-trade p99'), { value: 0.005, color: 'red' })
    assert.deepEqual(lineOf('API round trip by endpoint'), { value: 0.02, color: 'red' })
    assert.deepEqual(lineOf('Utilisation'), { value: 0.8, color: 'red' })
    assert.deepEqual(lineOf('Calls within budget'), { value: 0.99, color: 'green' })
    const other = JSON.parse(renderOverview(parseConfig('{"slos":{"processing":{"thresholdMs":3}}}', 'test')))
    const changed = (other as DashboardJson).panels.find(
      ({ title, type }) => title === 'Tick-to-trade' && type !== 'row',
    )
    assert.equal(changed?.fieldConfig?.defaults.thresholds?.steps.at(-1)?.value, 0.003)
  })

  it('shows every metric of the catalogue', () => {
    const shown = queries.map(({ expr }) => expr).join('\n')
    const quantiles = new Set<string>(QUANTILE_METRICS)
    for (const name of METRIC_NAMES) {
      const names = quantiles.has(name) ? [name, quantileMetricName(name as (typeof QUANTILE_METRICS)[number])] : [name]
      assert.ok(
        names.some((one) => shown.includes(one)),
        `no panel shows ${name}`,
      )
    }
  })

  it('links histograms to traces only where buckets carry exemplars', () => {
    const targets = panels.flatMap(({ targets = [] }) => targets).filter(({ exemplar }) => exemplar)
    assert.equal(targets.length, 2)
    for (const { expr } of targets) assert.match(expr, /_bucket\{/)
  })
})

describe('the queries', () => {
  const quantiles = new Map<string, MetricName>(QUANTILE_METRICS.map((name) => [quantileMetricName(name), name]))
  const WORDS = new Set(['sum', 'max', 'min', 'by', 'rate', 'increase', 'time'])
  const bounds = new Set(bucketBoundsNs(DEFAULT_SLOS).map(leOf))

  /** The metric a name in a query stands for, and the labels its suffix adds. */
  function metricOf(name: string): { metric: MetricName; adds: readonly string[] } | undefined {
    const exact = quantiles.get(name)
    if (exact !== undefined) return { metric: exact, adds: ['quantile', 'window'] }
    if (Object.hasOwn(METRICS, name)) {
      const metric = name as MetricName
      return METRICS[metric].type === 'histogram' ? undefined : { metric, adds: [] }
    }
    const base = name.replace(/_(bucket|count|sum)$/, '') as MetricName
    if (!Object.hasOwn(METRICS, base) || METRICS[base].type !== 'histogram') return undefined
    return { metric: base, adds: name.endsWith('_bucket') ? ['le'] : [] }
  }

  it('name only metrics that the collector exposes', () => {
    for (const { title, expr } of queries) {
      const bare = expr
        .replaceAll(/\{[^}]*\}/g, '')
        .replaceAll(/\bby \([^)]*\)/g, '')
        .replaceAll(/\[[^\]]*\]/g, '')
      const names = [...bare.matchAll(/[a-zA-Z_:][a-zA-Z0-9_:]*/g)]
        .map(([word]) => word)
        .filter((word) => !WORDS.has(word))
      assert.ok(names.length > 0, `'${title}': ${expr}`)
      for (const name of names) assert.ok(metricOf(name), `'${title}' asks for '${name}'`)
    }
  })

  it('match only labels their metrics have, with values these labels can take', () => {
    let checked = 0
    for (const { title, expr } of queries) {
      for (const [, name, matchers] of expr.matchAll(/([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\}/g)) {
        const found = metricOf(name as string)
        assert.ok(found)
        const labels = METRICS[found.metric].labels
        for (const [, label, operator, value] of (matchers as string).matchAll(/(\w+)(=~?)"([^"]*)"/g)) {
          checked++
          const what = `'${title}': ${name}{${label}="${value}"}`
          if ((RESOURCE_LABELS as readonly string[]).includes(label as string)) {
            assert.equal(value, `$${label}`, what)
            assert.equal(operator, '=~', what)
          } else if (label === 'le') assert.ok(bounds.has(value as string), what)
          else if (label === 'window')
            assert.ok(
              QUANTILE_WINDOWS_SECONDS.some((s) => `${s}s` === value),
              what,
            )
          else if (label === 'quantile')
            assert.ok(
              QUANTILES.some((q) => `${q}` === value),
              what,
            )
          else assert.ok(labels[label as string]?.includes(value as string), what)
        }
      }
    }
    assert.ok(checked > 100)
  })

  it('sum and show only by labels their metrics have', () => {
    for (const { title, expr } of queries) {
      const [, name] = /([a-zA-Z_:][a-zA-Z0-9_:]*)\{/.exec(expr) as RegExpExecArray
      const found = metricOf(name as string)
      assert.ok(found)
      const known = [...Object.keys(METRICS[found.metric].labels), ...RESOURCE_LABELS, ...found.adds]
      for (const [, list] of expr.matchAll(/\bby \(([^)]*)\)/g)) {
        for (const label of (list as string).split(', '))
          assert.ok(known.includes(label), `'${title}' sums by ${label}`)
      }
    }
    for (const panel of panels) {
      for (const target of (panel.targets ?? []) as readonly { expr: string; legendFormat?: string }[]) {
        const by = /\bby \(([^)]*)\)/.exec(target.expr)?.[1]?.split(', ') ?? []
        for (const [, label] of (target.legendFormat ?? '').matchAll(/\{\{(\w+)\}\}/g))
          assert.ok(by.includes(label as string), `'${panel.title}' names its lines by ${label}, which is summed away`)
      }
    }
  })

  it('are PromQL', { skip: skipWithout({ promtool }) }, () => {
    const filled = queries.map(({ expr }) =>
      expr
        .replaceAll('$__rate_interval', '4s')
        .replaceAll('$__range', '15m')
        .replaceAll(/\$(service|venue)/g, 'x|y'),
    )
    for (const query of filled) assert.doesNotMatch(query, /\$/)
    const path = join(scratch, 'queries.yml')
    // JSON is YAML.
    const rules = filled.map((expr, i) => ({ record: `panel:query_${i}`, expr }))
    writeFileSync(path, JSON.stringify({ groups: [{ name: 'panels', rules }] }))
    const { status, output } = runProgram(promtool as string, ['check', 'rules', path])
    assert.equal(status, 0, output)
    assert.match(output, new RegExp(`${filled.length} rules found`))
  })

  it('cannot be built on a label their metric lacks', () => {
    assert.throws(() => series('tickscope_ticks_total', '', { endpoint: 'other' }), /has no label endpoint/)
  })
})
