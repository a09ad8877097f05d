import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { EXIT, UserError } from '@tickscope/contract'
import { Journal } from '../src/journal.ts'

test('the journal keeps every entry, in order, and appends to what is there', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'journal-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'bot.jsonl')
  for (const run of [0, 1]) {
    const journal = new Journal(path)
    for (let i = 0; i < 3000; i++) journal.write({ atMs: i, event: 'order', run })
    await journal.stop()
    assert.equal(journal.written, 3000)
    assert.equal(journal.dropped, 0)
  }
  const lines = readFileSync(path, 'utf8').trimEnd().split('\n')
  assert.equal(lines.length, 6000)
  for (const [i, line] of lines.entries())
    assert.deepEqual(JSON.parse(line), { atMs: i % 3000, event: 'order', run: i < 3000 ? 0 : 1 })
})

test('beyond its bound the journal drops entries and counts them', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'journal-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const journal = new Journal(join(folder, 'bot.jsonl'))
  for (let i = 0; i < 70_000; i++) journal.write({ atMs: i, event: 'order' })
  await journal.stop()
  assert.equal(journal.written, 65_536)
  assert.equal(journal.dropped, 70_000 - 65_536)
})

test('a full disk loses lines, counts them, and never throws', async () => {
  const journal = new Journal('/dev/full')
  for (let i = 0; i < 10; i++) journal.write({ atMs: i, event: 'order' })
  await journal.stop()
  assert.equal(journal.dropped, 10)
  assert.equal(journal.failed, 'ENOSPC')
})

test('a journal that cannot be opened is one clear sentence', () => {
  assert.throws(
    () => new Journal('/nowhere/at/all.jsonl'),
    (error: unknown) =>
      error instanceof UserError &&
      error.exitCode === EXIT.environment &&
      error.message === 'journal /nowhere/at/all.jsonl cannot be opened for appending: ENOENT',
  )
})
