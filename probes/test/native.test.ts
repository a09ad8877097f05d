/** C programs and others as the probes start them. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type NativeRun, runNative } from '../src/native.ts'

describe('a program of a probe', () => {
  const shell = (script: string, more: Partial<NativeRun> = {}) => {
    const lines: unknown[] = []
    const run = {
      program: '/bin/sh',
      args: ['-c', script],
      timeoutMs: 20_000,
      onLine: (line: unknown) => lines.push(line),
    }
    return runNative({ ...run, ...more }).then((end) => ({ ...end, lines }))
  }

  it('hands over each object it prints, and its code and last words', async () => {
    const { code, said, lines } = await shell('echo banner; echo \'{"a":1}\'; echo one >&2; echo two >&2; exit 3')
    assert.deepEqual([code, said, lines], [3, 'two', [{ a: 1 }]])
  })

  it('is killed by a stop', async () => {
    const stopping = new AbortController()
    const end = await shell('echo "{}"; exec sleep 60', { signal: stopping.signal, onLine: () => stopping.abort() })
    assert.deepEqual([end.code, end.signal, end.said], [null, 'SIGKILL', 'ended by SIGKILL'])
  })

  it('is not started after a stop', async () => {
    const { code, said, lines } = await shell('echo "{}"', { signal: AbortSignal.abort() })
    assert.deepEqual([code, said, lines], [null, 'stopped before it was started', []])
  })

  it('is killed when its time is over, which is what is said of it', async () => {
    const { code, said } = await shell('exec sleep 60', { timeoutMs: 50 })
    assert.deepEqual([code, said], [null, 'ended after 0 s without a result'])
  })
})
