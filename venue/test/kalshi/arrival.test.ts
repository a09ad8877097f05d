import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Arrivals } from '../../src/kalshi/arrival.ts'

/** One frame as a server writes it. `lengthForm` forces a longer length field than needed, which is allowed to exist. */
function frame(opcode: number, bytes: number, fin: boolean, lengthForm: 0 | 2 | 8): Buffer {
  const form = bytes > 65_535 ? 8 : bytes > 125 ? Math.max(2, lengthForm) : lengthForm
  const head = Buffer.alloc(2 + form)
  head[0] = (fin ? 0x80 : 0) | opcode
  head[1] = form === 8 ? 127 : form === 2 ? 126 : bytes
  if (form === 2) head.writeUInt16BE(bytes, 2)
  if (form === 8) head.writeBigUInt64BE(BigInt(bytes), 2)
  return Buffer.concat([head, Buffer.alloc(bytes, 0x81)])
}

const length = fc.oneof(fc.nat(130), fc.constantFrom(0, 125, 126, 127, 65_535, 65_536, 70_000))
const form = fc.constantFrom(0 as const, 2 as const, 8 as const)
const message = fc.record({
  fragments: fc.array(length, { minLength: 1, maxLength: 3 }),
  form,
  pingBefore: fc.option(fc.nat(125), { nil: undefined }),
})

test('each message gets the instant of the read that brought its first byte, wherever reads end', () => {
  fc.assert(
    fc.property(fc.array(message, { maxLength: 12 }), fc.array(fc.nat(), { maxLength: 30 }), (messages, cuts) => {
      const frames: Buffer[] = []
      const starts: number[] = []
      let offset = 0
      const write = (bytes: Buffer) => {
        frames.push(bytes)
        offset += bytes.length
      }
      for (const { fragments, form, pingBefore } of messages) {
        if (pingBefore !== undefined) write(frame(9, pingBefore, true, 0))
        starts.push(offset)
        for (const [index, bytes] of fragments.entries())
          write(frame(index === 0 ? 1 : 0, bytes, index === fragments.length - 1, form))
      }
      const stream = Buffer.concat(frames)
      const ends = [...new Set([...cuts.map((cut) => cut % (stream.length + 1)), stream.length])].sort((a, b) => a - b)

      const arrivals = new Arrivals()
      const expected = starts.map((start) => ends.findIndex((end) => end > start))
      const taken: number[] = []
      let from = 0
      for (const [read, end] of ends.entries()) {
        arrivals.note(stream.subarray(from, end), read)
        from = end
        // As the library does: whole messages are taken after each read, the rest stays.
        while (
          taken.length < starts.length &&
          (starts[taken.length + 1] ?? stream.length) <= end &&
          expected[taken.length]! <= read
        )
          taken.push(arrivals.take())
      }
      assert.deepEqual(taken, expected)
    }),
    { numRuns: 300 },
  )
})

test('messages that pile up beyond the ring look older than they are, never younger', () => {
  const arrivals = new Arrivals()
  const reads = 1000
  for (let read = 0; read < reads; read++) arrivals.note(frame(1, 0, true, 0), read)
  let last = -1
  for (let read = 0; read < reads; read++) {
    const atMs = arrivals.take()
    assert.ok(atMs <= read && atMs >= last)
    last = atMs
  }
  arrivals.note(frame(1, 0, true, 0), 5000)
  assert.equal(arrivals.take(), 5000)
})
