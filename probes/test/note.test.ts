import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { boundedNotes } from '../src/note.ts'

describe('the notes of a service', () => {
  it('are written as they come, left out when there are too many, and counted then', () => {
    const written: string[] = []
    let nowNs = 0
    const note = boundedNotes(
      (line) => written.push(line),
      () => nowNs,
    )
    for (let i = 0; i < 100; i++) note(`line ${i}`)
    assert.deepEqual(
      written,
      Array.from({ length: 20 }, (_, i) => `line ${i}`),
    )
    nowNs = 9e9
    note('too early')
    nowNs = 10e9
    note('again')
    note('and again')
    assert.deepEqual(written.slice(20), ['again (81 lines before this one left out)'])
    nowNs = 40e9
    note('later')
    assert.equal(written.at(-1), 'later (1 lines before this one left out)')
    nowNs = 1e13
    for (let i = 0; i < 100; i++) note('burst')
    assert.equal(written.length, 22 + 20)
  })
})
