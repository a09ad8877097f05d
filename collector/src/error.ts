/**
 * The errors of the collector's world.
 *
 * `RequestError` answers one request; `JournalError` (a `UserError`) ends the process, because a collector that cannot
 * trust its journal must not acknowledge anything.
 */
import { EXIT, UserError } from '@tickscope/contract'

/** A request that cannot be served; `message` is one sentence for its sender. */
export class RequestError extends Error {
  readonly status: number
  readonly code: string
  /** Present when sending the same request again later can help. */
  readonly retryAfterSeconds: number | undefined

  constructor(status: number, code: string, message: string, retryAfterSeconds?: number) {
    super(message)
    this.status = status
    this.code = code
    this.retryAfterSeconds = retryAfterSeconds
  }
}

/** The journal on disk cannot be used; `message` names the file. No file was changed. */
export class JournalError extends UserError {
  constructor(code: 'JOURNAL_CORRUPT' | 'JOURNAL_FAILED' | 'JOURNAL_LOCKED' | 'DATA_DIR', message: string) {
    super(code, message, EXIT.environment)
  }
}
