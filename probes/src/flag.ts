/** Values of flags, checked as they are read: each refusal names the flag, the value and the limit. */
import { X509Certificate } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { parseDurationMs, UserError } from '@tickscope/contract'

export function integerFlag(flag: string, min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (!/^\d+$/.test(text) || value < min || value > max)
      throw new UserError('FLAG_INVALID', `${flag} is '${text}', not a whole number from ${min} to ${max}`)
    return value
  }
}

export function rateFlag(flag: string, maxPerSecond: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (text.trim() === '' || !(value >= 0.001 && value <= maxPerSecond))
      throw new UserError(
        'FLAG_INVALID',
        `${flag} is '${text}', not a number of requests per second from 0.001 to ${maxPerSecond}`,
      )
    return value
  }
}

/** @returns a parser to ms */
export function durationFlag(flag: string, maxMs: number): (text: string) => number {
  return (text) => {
    const ms = parseDurationMs(text, flag)
    if (ms > maxMs) throw new UserError('FLAG_INVALID', `${flag} is '${text}', longer than ${maxMs / 1000} s`)
    return ms
  }
}

/** Longest file a flag may name, bytes: keys, certificates and tokens are kilobytes. */
const FILE_BYTES_MAX = 1024 * 1024

/** @returns the text of the file a flag names */
export function readFlagFile(flag: string, path: string, bytesMax = FILE_BYTES_MAX): string {
  try {
    const { size } = statSync(path)
    if (size > bytesMax) throw new UserError('FILE_LARGE', `${flag} ${path} is larger than ${bytesMax} bytes`)
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (error instanceof UserError) throw error
    throw new UserError('FILE_UNREADABLE', `${flag} ${path} cannot be read: ${(error as NodeJS.ErrnoException).code}`)
  }
}

/** @returns the text of a file of PEM certificates */
export function readCertificates(flag: string, path: string): string {
  const text = readFlagFile(flag, path)
  try {
    // The first one speaks for the file: without any, every certificate would seem untrusted.
    new X509Certificate(text)
  } catch {
    throw new UserError('CERTIFICATE_INVALID', `${flag} ${path} holds no PEM certificate`)
  }
  return text
}
