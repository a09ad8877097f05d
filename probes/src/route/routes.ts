/**
 * The routes to compare, as a file: one entry a vantage and way to the venue. What cannot be derived from the machine
 * (this is Direct Connect, that is the public internet) is a label the user gives.
 *
 *   [{ "name": "internet", "region": "eu-west-1", "route": "public internet", "url": "https://demo-api.kalshi.co",
 *      "pricePerMonth": "public_internet" },
 *    { "name": "private", "route": "PrivateLink", "url": "https://demo-api.kalshi.co",
 *      "via": { "relay": "vpce-0abc.example:443" }, "pricePerMonth": "privatelink", "feed": "private-feed.json" }]
 */
import { isIP } from 'node:net'
import { UserError } from '@tickscope/contract'
import { readFlagFile } from '../flag.ts'
import { targetUrl } from '../http.ts'
import type { Price, Prices } from './price.ts'

/** How the venue is reached from here; without one, as the kernel routes it. */
export type Via =
  /** Source address: the interface it belongs to, by policy routing. */
  | { readonly localAddress: string }
  /** Network namespace, a name of `ip netns` or a path; needs root. */
  | { readonly namespace: string }
  /** Connected to instead of the URL's host, whose name stays in TLS and HTTP: an endpoint, a tunnel. */
  | { readonly relay: string }
  /** Through a relay of ours that holds requests back: a rehearsal, and labelled so. */
  | { readonly injectDelayMs: number }

export interface Route {
  readonly name: string
  readonly url: URL
  readonly region: string | null
  readonly route: string
  readonly via: Via | null
  readonly price: Price | null
  /** Result file of `probe feed` run on this route. */
  readonly feedFile: string | null
}

/** Routes a file may have: each is measured in every round, and each is a thread of a service. */
export const ROUTES_MAX = 16
const LABEL_MAX = 64
export const INJECT_DELAY_MAX_MS = 5_000
/** How a route with injected delay is called, whatever the file calls it. */
export const INJECTED_LABEL = 'relay with injected delay'

/** @throws UserError `ROUTES_INVALID` naming the entry and the field */
export function readRoutes(path: string, prices: Prices): Route[] {
  const invalid = (why: string) => new UserError('ROUTES_INVALID', `--routes ${path}: ${why}`)
  let json: unknown
  try {
    json = JSON.parse(readFlagFile('--routes', path))
  } catch (error) {
    if (error instanceof UserError) throw error
    throw invalid('it is not JSON')
  }
  if (!Array.isArray(json) || json.length === 0 || json.length > ROUTES_MAX)
    throw invalid(`it must be a list of 1 to ${ROUTES_MAX} routes`)
  const routes = json.map((entry: unknown, i) => parseRoute(entry, prices, (why) => invalid(`entry ${i}: ${why}`)))
  const names = new Set<string>()
  for (const { name } of routes) {
    if (names.has(name)) throw invalid(`two routes are called '${name}'`)
    names.add(name)
  }
  return routes
}

const FIELDS = ['name', 'url', 'region', 'route', 'via', 'pricePerMonth', 'feed']

function parseRoute(entry: unknown, prices: Prices, invalid: (why: string) => UserError): Route {
  if (typeof entry !== 'object' || entry === null || Array.isArray(entry)) throw invalid('it is not an object')
  const fields = entry as { [field: string]: unknown }
  const unknown = Object.keys(fields).find((field) => !FIELDS.includes(field))
  if (unknown !== undefined) throw invalid(`unknown field '${unknown}'; the fields are ${FIELDS.join(', ')}`)
  const label = (field: string): string | null => {
    const value = fields[field]
    if (value === undefined) return null
    if (typeof value !== 'string' || value === '' || value.length > LABEL_MAX || /\p{Cc}/u.test(value))
      throw invalid(`${field} must be text of 1 to ${LABEL_MAX} characters`)
    return value
  }
  const name = label('name')
  if (name === null) throw invalid('name is missing')
  if (typeof fields.url !== 'string') throw invalid('url is missing')
  const via = fields.via === undefined ? null : parseVia(fields.via, invalid)
  const { feed } = fields
  if (feed !== undefined && typeof feed !== 'string') throw invalid('feed must be the path of a result file')
  return {
    name,
    url: targetUrl(fields.url, undefined, false),
    region: label('region'),
    route: via !== null && 'injectDelayMs' in via ? INJECTED_LABEL : (label('route') ?? 'unnamed'),
    via,
    price: parsePrice(fields.pricePerMonth, prices, invalid),
    feedFile: feed ?? null,
  }
}

function parsePrice(value: unknown, prices: Prices, invalid: (why: string) => UserError): Price | null {
  if (value === undefined) return null
  if (typeof value === 'number' && value >= 0 && Number.isFinite(value))
    return { usdPerMonth: value, source: 'the routes file' }
  const known = typeof value === 'string' ? prices.items.get(value) : undefined
  if (known === undefined)
    throw invalid(
      `pricePerMonth is ${JSON.stringify(value)}, neither USD nor an item of the price file (${[...prices.items.keys()].join(', ')})`,
    )
  return known
}

function parseVia(value: unknown, invalid: (why: string) => UserError): Via {
  const [[kind, given] = [], ...others] = typeof value === 'object' && value !== null ? Object.entries(value) : []
  const forms = 'localAddress, namespace, relay, injectDelayMs'
  if (kind === undefined || others.length > 0) throw invalid(`via must have one of ${forms}`)
  switch (kind) {
    case 'localAddress':
      if (typeof given !== 'string' || isIP(given) === 0) throw invalid('via.localAddress is not an IP address')
      return { localAddress: given }
    case 'namespace':
      if (typeof given !== 'string' || !/^(?:[\w.-]{1,64}|\/[\w./-]{1,255})$/.test(given))
        throw invalid('via.namespace is neither a name of ip netns nor a path')
      return { namespace: given }
    case 'relay':
      if (typeof given !== 'string') throw invalid('via.relay is not host:port')
      parseHostPort(given, (why) => invalid(`via.relay ${why}`))
      return { relay: given }
    case 'injectDelayMs':
      if (typeof given !== 'number' || !(given >= 0 && given <= INJECT_DELAY_MAX_MS))
        throw invalid(`via.injectDelayMs is not a number from 0 to ${INJECT_DELAY_MAX_MS}`)
      return { injectDelayMs: given }
    default:
      throw invalid(`via.${kind} is unknown; it must be one of ${forms}`)
  }
}

/** @param text `host:port`, IPv6 in brackets */
export function parseHostPort(text: string, invalid: (why: string) => Error): { host: string; port: number } {
  const match = /^(?:\[([0-9a-f:.]+)\]|([\w.-]+)):(\d{1,5})$/i.exec(text)
  const port = Number(match?.[3])
  if (match === null || port < 1 || port > 65_535) throw invalid(`is '${text}', not host:port`)
  return { host: (match[1] ?? match[2]) as string, port }
}

export function viaText(via: Via | null): string {
  if (via === null) return 'direct'
  const [[kind, value] = []] = Object.entries(via)
  return kind === 'injectDelayMs' ? `${INJECTED_LABEL} (${value} ms)` : `${kind} ${value}`
}
