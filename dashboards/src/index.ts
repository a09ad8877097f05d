/** Grafana dashboards and provisioning, rendered from the SLOs and the catalogue; `main.ts` commits the default ones. */
export { OVERVIEW_UID, overviewDashboard, renderOverview } from './overview.ts'
export {
  type DatasourceOptions,
  PROMETHEUS_UID,
  renderDatasources,
  renderProvider,
  TEMPO_UID,
} from './provisioning.ts'
