/** Where the venue lives. Keys belong to one environment and are refused by the other. */
import { UserError } from '@tickscope/contract'

/** Prefix of every REST path; part of what is signed. */
export const REST_BASE_PATH = '/trade-api/v2'
/** Path of the WebSocket upgrade; part of what is signed. */
export const FEED_PATH = '/trade-api/ws/v2'

export interface Environment {
  /** Origin of the REST API. */
  readonly restOrigin: string
  /** Origin of the feed. */
  readonly feedOrigin: string
}

/** docs.kalshi.com/getting_started/api_environments, October 2026. */
const ENVIRONMENTS = {
  prod: {
    restOrigin: 'https://external-api.kalshi.com',
    feedOrigin: 'wss://external-api-ws.kalshi.com',
  },
  demo: {
    restOrigin: 'https://external-api.demo.kalshi.co',
    feedOrigin: 'wss://external-api-ws.demo.kalshi.co',
  },
} as const satisfies Record<string, Environment>

/**
 * @param name `prod`, `demo`, or the origin of one server that speaks both, e.g. `http://127.0.0.1:8700`
 * @throws UserError `VENUE_URL_INVALID`
 */
export function resolveEnvironment(name: string): Environment {
  if (name === 'prod' || name === 'demo') return ENVIRONMENTS[name]
  const url = URL.parse(name)
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:') || url.host === '')
    throw new UserError(
      'VENUE_URL_INVALID',
      `venue '${name.slice(0, 200)}' is not prod, demo or an http(s) URL such as http://127.0.0.1:8700`,
    )
  if ((url.pathname !== '/' && url.pathname !== '') || url.search !== '' || url.hash !== '' || url.username !== '')
    throw new UserError(
      'VENUE_URL_INVALID',
      `venue '${url.origin}' must be given as an origin only, without user, path or query`,
    )
  return { restOrigin: url.origin, feedOrigin: url.origin.replace(/^http/, 'ws') }
}
