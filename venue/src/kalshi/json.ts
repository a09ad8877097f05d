/**
 * Reading fields of JSON that somebody else wrote: each function checks one field and names it when it is wrong.
 *
 * By hand rather than by schema, because books pass through here on the way to an order. `null` counts as absent in
 * optional fields. Fields nobody asks for are ignored: the venue adds some every month.
 */
import { quote, WireError } from './error.ts'

export type JsonObject = { readonly [key: string]: unknown }

/** @throws WireError */
export function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new WireError(`${what} is not JSON: ${quote(text)}`)
  }
}

export function asObject(value: unknown, what: string): JsonObject {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new WireError(`${what} is not an object`)
  return value as JsonObject
}

export function asArray(value: unknown, what: string): readonly unknown[] {
  if (!Array.isArray(value)) throw new WireError(`${what} is not an array`)
  return value
}

export function asString(value: unknown, what: string): string {
  if (typeof value !== 'string') throw new WireError(`${what} is not a string`)
  return value
}

export function asInteger(value: unknown, what: string): number {
  if (!Number.isSafeInteger(value)) throw new WireError(`${what} is not an integer`)
  return value as number
}

export function asBoolean(value: unknown, what: string): boolean {
  if (typeof value !== 'boolean') throw new WireError(`${what} is not true or false`)
  return value
}

export function asOneOf<T extends string>(value: unknown, allowed: readonly T[], what: string): T {
  if (!allowed.includes(value as T)) throw new WireError(`${what} is ${quote(value)}, not one of ${allowed.join(', ')}`)
  return value as T
}

/** @returns undefined when the value is absent or null, else what `read` makes of it */
export function optional<T>(value: unknown, what: string, read: (value: unknown, what: string) => T): T | undefined {
  return value === undefined || value === null ? undefined : read(value, what)
}
