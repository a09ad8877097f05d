/** Who may talk to the collector: anybody on this machine, or whoever has the token. */
import { createHash, timingSafeEqual } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { isIPv4 } from 'node:net'
import { UserError } from '@tickscope/contract'

/** Whether only this machine can reach a listener on `host`. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'))
}

/** @returns whether an Authorization header carries the token; takes the same time wherever they differ */
export function bearerCheck(token: string): (authorization: string | undefined) => boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest()
  const expected = digest(token)
  return (authorization) => {
    const given = /^Bearer +([^ ]+) *$/i.exec(authorization ?? '')?.[1] ?? ''
    return timingSafeEqual(digest(given), expected)
  }
}

/**
 * The token of a file, or of the environment.
 *
 * @throws UserError `TOKEN_INVALID`
 */
export function loadToken(file: string | undefined, fromEnvironment: string | undefined): string | undefined {
  if (file === undefined) return fromEnvironment ? checked(fromEnvironment, 'COLLECTOR_TOKEN') : undefined
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    throw new UserError('TOKEN_INVALID', `token file ${file} cannot be read: ${(error as NodeJS.ErrnoException).code}`)
  }
  return checked(text.trim(), `token file ${file}`)
}

function checked(token: string, where: string): string {
  if (!/^[\x21-\x7e]{8,512}$/.test(token))
    throw new UserError('TOKEN_INVALID', `${where} must hold 8 to 512 visible ASCII characters without spaces`)
  return token
}
