/**
 * The kinds of panel used, each with a title, a description and a unit: a panel cannot be made without them.
 *
 * A description says what is measured, from which instant to which. Thresholds are drawn where the SLOs are.
 */
import * as common from '@grafana/grafana-foundation-sdk/common'
import {
  type GridPos,
  type Panel as PanelModel,
  ThresholdsConfigBuilder,
  ThresholdsMode,
} from '@grafana/grafana-foundation-sdk/dashboard'
import * as heatmap from '@grafana/grafana-foundation-sdk/heatmap'
import { DataqueryBuilder, PromQueryFormat } from '@grafana/grafana-foundation-sdk/prometheus'
import * as stat from '@grafana/grafana-foundation-sdk/stat'
import * as timeseries from '@grafana/grafana-foundation-sdk/timeseries'
import type { Query } from './query.ts'

/** The dashboard's datasource, a variable so that one file serves every Grafana. */
// biome-ignore lint/suspicious/noTemplateCurlyInString: Grafana's own placeholder
export const DATASOURCE = { type: 'prometheus', uid: '${ds}' } as const

/** Grafana's names of the units in use. */
export type Unit = 's' | 'percentunit' | 'cps' | 'bytes' | 'short' | 'bool_on_off'

interface Spec {
  readonly title: string
  readonly description: string
  readonly unit: Unit
  readonly queries: readonly Query[]
  /** Columns of 24. */
  readonly width: number
  readonly height?: number
  /** A budget: red from here on, or, with `low`, below it. */
  readonly budget?: { readonly value: number; readonly low?: true }
}

/** A panel and the room it wants; its place is the row's business. */
export interface Panel {
  readonly width: number
  readonly height: number
  build(id: number, gridPos: GridPos): PanelModel
}

const LETTERS = 'ABCDEFGHIJKLMNOP'
const HEIGHT = 8

/** What all panel builders have, as far as it is used here. */
interface AnyBuilder {
  id(id: number): this
  gridPos(gridPos: GridPos): this
  title(title: string): this
  description(description: string): this
  unit(unit: string): this
  datasource(datasource: { type: string; uid: string }): this
  thresholds(thresholds: ThresholdsConfigBuilder): this
  withTarget(target: DataqueryBuilder): this
  build(): PanelModel
}

function panel<B extends AnyBuilder>(
  builder: () => B,
  spec: Spec,
  height: number,
  adjust: (query: DataqueryBuilder, builder: B) => void,
): Panel {
  return {
    width: spec.width,
    height,
    build: (id, gridPos) => {
      const made = builder()
        .id(id)
        .gridPos(gridPos)
        .title(spec.title)
        .description(spec.description)
        .unit(spec.unit)
        .datasource(DATASOURCE)
        .thresholds(thresholds(spec))
      for (const [i, query] of spec.queries.entries()) {
        const target = new DataqueryBuilder()
          .refId(LETTERS[i] as string)
          .datasource(DATASOURCE)
          .expr(query.expr)
          .legendFormat(query.legend)
        if (query.exemplar) target.exemplar(true)
        adjust(target, made)
        made.withTarget(target)
      }
      return made.build()
    },
  }
}

function thresholds({ budget }: Spec): ThresholdsConfigBuilder {
  const steps =
    budget === undefined
      ? [{ value: null, color: 'green' }]
      : [
          { value: null, color: budget.low ? 'red' : 'green' },
          { value: budget.value, color: budget.low ? 'green' : 'red' },
        ]
  return new ThresholdsConfigBuilder().mode(ThresholdsMode.Absolute).steps(steps)
}

export interface LinesSpec extends Spec {
  /** Layers on top of each other instead of lines. */
  readonly stacked?: true
  /** Logarithmic axis: latencies span decades. */
  readonly log?: true
  readonly bars?: true
  readonly max?: number
  readonly min?: number
}

export function lines(spec: LinesSpec): Panel {
  const make = () => {
    const builder = new timeseries.PanelBuilder()
      .drawStyle(spec.bars ? common.GraphDrawStyle.Bars : common.GraphDrawStyle.Line)
      .lineWidth(1)
      .fillOpacity(spec.stacked ? 60 : spec.bars ? 80 : 0)
      .showPoints(common.VisibilityMode.Never)
      .spanNulls(false)
      .legend(
        new common.VizLegendOptionsBuilder()
          .showLegend(true)
          .displayMode(common.LegendDisplayMode.Table)
          .placement(common.LegendPlacement.Right)
          .calcs(['lastNotNull', 'max']),
      )
      .tooltip(
        new common.VizTooltipOptionsBuilder()
          .mode(common.TooltipDisplayMode.Multi)
          .sort(spec.stacked ? common.SortOrder.None : common.SortOrder.Descending),
      )
    if (spec.stacked) builder.stacking(new common.StackingConfigBuilder().mode(common.StackingMode.Normal).group('A'))
    if (spec.log)
      builder.scaleDistribution(new common.ScaleDistributionConfigBuilder().type(common.ScaleDistribution.Log).log(10))
    else builder.min(spec.min ?? 0)
    if (spec.max !== undefined) builder.max(spec.max)
    if (spec.budget)
      builder.thresholdsStyle(
        new common.GraphThresholdsStyleConfigBuilder().mode(common.GraphThresholdsStyleMode.Dashed),
      )
    return builder
  }
  return panel(make, spec, spec.height ?? HEIGHT, (query) => query.range())
}

/** One number, coloured by its budget, with its recent course behind it. */
export function number(spec: Spec): Panel {
  const make = () =>
    new stat.PanelBuilder()
      .colorMode(spec.budget ? common.BigValueColorMode.Background : common.BigValueColorMode.Value)
      .graphMode(common.BigValueGraphMode.Area)
      .reduceOptions(new common.ReduceDataOptionsBuilder().calcs(['lastNotNull']).values(false))
  return panel(make, spec, spec.height ?? 4, (query) => query.range())
}

/** Counts per bucket over time; the query is summed by `le`. */
export function heat(spec: Spec): Panel {
  const make = () =>
    new heatmap.PanelBuilder()
      .calculate(false)
      .cellGap(1)
      .color(
        new heatmap.HeatmapColorOptionsBuilder()
          .mode(heatmap.HeatmapColorMode.Scheme)
          .scheme('Oranges')
          .scale(heatmap.HeatmapColorScale.Exponential)
          .exponent(0.5)
          .steps(64),
      )
      .yAxis(new heatmap.YAxisConfigBuilder().unit(spec.unit).axisPlacement(common.AxisPlacement.Left))
      .exemplarsColor('rgba(255,0,255,0.7)')
      .filterValues(new heatmap.FilterValueRangeBuilder().le(1e-9))
      .tooltip(new heatmap.HeatmapTooltipBuilder().mode(common.TooltipDisplayMode.Single).yHistogram(true))
  return panel(make, spec, spec.height ?? HEIGHT, (query) => query.range().format(PromQueryFormat.Heatmap))
}
