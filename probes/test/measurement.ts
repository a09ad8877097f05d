/** A probe run in the test's own process: what the frame would give it, and how to read what it gives back. */
import assert from 'node:assert/strict'
import { DEFAULT_SLOS } from '@tickscope/contract'
import type { ProbeContext } from '../src/probe.ts'
import { SILENT_REPORTER } from '../src/reporter.ts'
import type { Measurement } from '../src/result.ts'
import type { Tally } from '../src/tally.ts'

/** A single run that tells nobody; `context` replaces what a test needs otherwise. */
export function contextOf(context: Partial<ProbeContext> & Pick<ProbeContext, 'durationMs'>): ProbeContext {
  return {
    serve: false,
    signal: new AbortController().signal,
    slos: DEFAULT_SLOS,
    reporter: SILENT_REPORTER,
    measuring() {},
    note() {},
    progress() {},
    ...context,
  }
}

export function tallyOf({ rows }: Measurement, name: string): Tally {
  const row = rows.find(({ mode }) => mode.name === name)
  assert.ok(row, `no row ${name}`)
  return row.tally
}
