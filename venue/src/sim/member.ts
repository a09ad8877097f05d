/** Members of the exchange: one API key each, with its account, rate limit and counters. */

import type { KeyObject } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { IncomingHttpHeaders } from 'node:http'
import { UserError } from '@tickscope/contract'
import { z } from 'zod'
import { AUTH_HEADERS, loadPublicKey, verify } from '../kalshi/sign.ts'
import { Account } from './account.ts'
import { Portfolio } from './portfolio.ts'
import type { Random } from './random.ts'
import { RateLimit, type Tier } from './ratelimit.ts'
import type { Counters, Stats } from './stats.ts'

const KEYS_MAX = 1_000

/**
 * How far a request's timestamp may be from the venue's clock, ms. Undocumented; ±5 s was seen accepted and -30 s
 * refused.
 */
const CLOCK_WINDOW_MS = 10_000

const keysSchema = z
  .array(z.strictObject({ keyId: z.string().min(1).max(128), publicKeyPem: z.string().max(8192) }))
  .min(1)
  .max(KEYS_MAX)

export interface RegisteredKey {
  readonly keyId: string
  readonly publicKey: KeyObject
}

/**
 * Reads `[{"keyId", "publicKeyPem"}]`.
 *
 * @throws UserError `KEYS_INVALID` or `KEY_INVALID`
 */
export function readKeys(path: string): RegisteredKey[] {
  const invalid = (why: string) => new UserError('KEYS_INVALID', `--keys ${path}: ${why}`)
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw invalid(`it cannot be read (${(error as NodeJS.ErrnoException).code})`)
  }
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    throw invalid('it is not JSON')
  }
  const parsed = keysSchema.safeParse(json)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]
    throw invalid(`${issue?.path.join('.') || 'top level'}: ${issue?.message}`)
  }
  const keys = parsed.data.map(({ keyId, publicKeyPem }) => ({
    keyId,
    publicKey: loadPublicKey(publicKeyPem, `--keys ${path}: the key of '${keyId}'`),
  }))
  const seen = new Set<string>()
  for (const { keyId } of keys) {
    if (seen.has(keyId)) throw invalid(`keyId '${keyId}' is there twice`)
    seen.add(keyId)
  }
  return keys
}

export interface Member {
  readonly key: RegisteredKey
  readonly account: Account
  readonly portfolio: Portfolio
  readonly limit: RateLimit
  readonly counters: Counters
}

/** Why a request was refused with 401, as the body says it. */
export type AuthError = { readonly code: string; readonly message: string; readonly details?: string }

export class Members {
  readonly #byKeyId = new Map<string, Member>()
  readonly #byAccount = new Map<Account, Member>()

  constructor(options: {
    readonly keys: readonly RegisteredKey[]
    readonly tier: Tier
    readonly balanceMicros: number
    readonly readLagMs: number
    readonly random: Random
    readonly stats: Stats
  }) {
    for (const key of options.keys) {
      const { balanceMicros, random, stats } = options
      const member: Member = {
        key,
        account: new Account({ id: key.keyId, userId: random.uuid(), balanceMicros }),
        portfolio: new Portfolio(options.readLagMs),
        limit: new RateLimit(options.tier, performance.now()),
        counters: stats.of(key.keyId),
      }
      this.#byKeyId.set(key.keyId, member)
      this.#byAccount.set(member.account, member)
    }
  }

  /** Undefined for the exchange's own accounts. */
  of(account: Account): Member | undefined {
    return this.#byAccount.get(account)
  }

  /** @param path without the query */
  authenticate(headers: IncomingHttpHeaders, method: string, path: string): Member | AuthError {
    const header = (name: string) => {
      const value = headers[name.toLowerCase()]
      return typeof value === 'string' && value !== '' ? value : undefined
    }
    const keyId = header(AUTH_HEADERS.key)
    const timestamp = header(AUTH_HEADERS.timestamp)
    const signature = header(AUTH_HEADERS.signature)
    if (keyId === undefined || timestamp === undefined || signature === undefined)
      return { code: 'signature_is_missing_from_headers', message: 'signature is missing from headers' }
    const offMs = /^\d{1,16}$/.test(timestamp) ? Math.abs(Number(timestamp) - Date.now()) : Number.POSITIVE_INFINITY
    if (offMs > CLOCK_WINDOW_MS) return { code: 'header_timestamp_expired', message: 'header timestamp expired' }
    const failed = { code: 'authentication_error', message: 'authentication_error' }
    const member = this.#byKeyId.get(keyId)
    if (member === undefined) return { ...failed, details: 'NOT_FOUND' }
    if (!verify(member.key.publicKey, { timestamp, method, path }, signature))
      return { ...failed, details: 'INCORRECT_API_KEY_SIGNATURE' }
    return member
  }
}
