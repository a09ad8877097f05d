/** Alert rules and the configurations around them, rendered from the SLOs; `main.ts` commits the default ones. */
export { type AlertmanagerOptions, renderAlertmanager } from './alertmanager.ts'
export { type PrometheusOptions, renderPrometheus } from './prometheus.ts'
export {
  BURN_ALERT_NAMES,
  COLLECTOR_JOB,
  HEALTH_ALERT_NAMES,
  type RuleGroup,
  type RuleOptions,
  renderRules,
  ruleGroups,
} from './rules.ts'
