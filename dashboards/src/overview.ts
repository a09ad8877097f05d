/** The one dashboard: from "is it fine?" at the top to "can I believe it?" at the bottom. */
import {
  AnnotationQueryBuilder,
  type Dashboard,
  DashboardBuilder,
  DashboardCursorSync,
  DatasourceVariableBuilder,
  type Panel as PanelModel,
  QueryVariableBuilder,
  RowBuilder,
  VariableRefresh,
  VariableSort,
} from '@grafana/grafana-foundation-sdk/dashboard'
import type { Slos } from '@tickscope/contract'
import { DATASOURCE, type Panel } from './panel.ts'
import { PROMETHEUS_UID } from './provisioning.ts'
import { apiRow } from './rows/api.ts'
import { breachRow } from './rows/breaches.ts'
import { bypassRow } from './rows/bypass.ts'
import { feedRow } from './rows/feed.ts'
import { nowRow } from './rows/now.ts'
import { probeRow } from './rows/probe.ts'
import { processRow } from './rows/process.ts'
import { softwareRow } from './rows/software.ts'
import { tickRow } from './rows/tick.ts'

export const OVERVIEW_UID = 'tickscope-overview'

const COLUMNS = 24

/** Left to right, then down; a row's title takes a line of its own. */
function layOut(rows: readonly (readonly [title: string, panels: readonly Panel[]])[]): PanelModel[] {
  const models: PanelModel[] = []
  let id = 0
  let y = 0
  for (const [title, panels] of rows) {
    models.push(
      new RowBuilder(title).id(++id).gridPos({ x: 0, y: y++, w: COLUMNS, h: 1 }).build() as unknown as PanelModel,
    )
    let x = 0
    let lineHeight = 0
    for (const panel of panels) {
      if (x + panel.width > COLUMNS) {
        y += lineHeight
        x = 0
        lineHeight = 0
      }
      models.push(panel.build(++id, { x, y, w: panel.width, h: panel.height }))
      x += panel.width
      lineHeight = Math.max(lineHeight, panel.height)
    }
    y += lineHeight
  }
  return models
}

/** A variable over the values of a resource label; "All" also takes series that lack it. */
function labelVariable(label: 'service' | 'venue', title: string): QueryVariableBuilder {
  return new QueryVariableBuilder(label)
    .label(title)
    .datasource(DATASOURCE)
    .query({ query: `label_values(tickscope_agent_last_batch_timestamp_seconds, ${label})`, refId: label })
    .refresh(VariableRefresh.OnTimeRangeChanged)
    .sort(VariableSort.AlphabeticalAsc)
    .multi(true)
    .includeAll(true)
    .allValue('.*')
    .current({ selected: true, text: ['All'], value: ['$__all'] })
}

export function overviewDashboard(slos: Slos): Dashboard {
  const dashboard = new DashboardBuilder('tickscope')
    .id(null)
    .uid(OVERVIEW_UID)
    .description('Every microsecond between a market-data tick and the order it causes.')
    .tags(['tickscope', 'generated'])
    .timezone('browser')
    .time({ from: 'now-15m', to: 'now' })
    .refresh('5s')
    .tooltip(DashboardCursorSync.Crosshair)
    .withVariable(
      new DatasourceVariableBuilder('ds')
        .label('Prometheus')
        .type('prometheus')
        .current({ selected: true, text: 'Prometheus', value: PROMETHEUS_UID }),
    )
    .withVariable(labelVariable('service', 'Service'))
    .withVariable(labelVariable('venue', 'Venue'))
    .annotation(
      new AnnotationQueryBuilder()
        .name('Pages')
        .datasource(DATASOURCE)
        .enable(true)
        .iconColor('red')
        .expr('ALERTS{alertname=~"Tickscope.+", alertstate="firing", severity="page"}')
        .step('5s')
        .titleFormat('{{alertname}}')
        .textFormat('{{service}} {{venue}}'),
    )
    .build()
  dashboard.panels = layOut([
    ['Now', nowRow(slos)],
    ['Tick-to-trade', tickRow(slos)],
    ['Venue API', apiRow(slos)],
    ['Over budget', breachRow(slos)],
    ['Process and machine', processRow(slos)],
    ['Feed and measurement', feedRow()],
    ['Probe', probeRow(slos)],
    ['Kernel bypass', bypassRow()],
    ['Runtimes and messages', softwareRow()],
  ]) as NonNullable<Dashboard['panels']>
  return dashboard
}

/** The dashboard as Grafana's classic JSON, the form its file provisioning reads in every version since 10. */
export function renderOverview(slos: Slos): string {
  return `${JSON.stringify(overviewDashboard(slos), null, 2)}\n`
}
