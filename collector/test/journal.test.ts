import assert from 'node:assert/strict'
import { copyFileSync, existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { decodeBatch } from '@tickscope/contract'
import fc from 'fast-check'
import * as hdr from 'hdr-histogram-js'
import { JournalError } from '../src/error.ts'
import { compact } from '../src/journal/compact.ts'
import { fileName } from '../src/journal/file.ts'
import { Journal, type JournalOptions } from '../src/journal/journal.ts'
import { encodeBatch, encodeEpisode } from '../src/journal/record.ts'
import { recover } from '../src/journal/recover.ts'
import { type AcceptedBatch, acceptBatch, type State } from '../src/merge.ts'
import { API_OK, type BatchInput, batchOf, eventually, series, temporaryDir } from './fixture.ts'

const MIB = 1024 * 1024

function accepted(fields: BatchInput): AcceptedBatch {
  const batch = batchOf(fields)
  const encoded = batch.series.map(({ histogram }) => histogram)
  return acceptBatch(decodeBatch(structuredClone(batch)), encoded, batch.intervalEndMs)
}

function numbered(sequence: number, more: BatchInput = {}): AcceptedBatch {
  return accepted({
    sequence,
    series: [
      series('tickscope_api_rtt_seconds', API_OK, [1_000_000 * sequence, 20_000_000]),
      series('tickscope_tick_to_trade_seconds', {}, [250_000]),
    ],
    counters: [{ metric: 'tickscope_ticks_total', labels: { outcome: 'quiet' }, value: sequence }],
    ...more,
  })
}

async function openJournal(t: TestContext, dir: string, options: Partial<JournalOptions> = {}) {
  const notes: string[] = []
  const failed: JournalError[] = []
  const opened = await Journal.open({
    dir,
    rotateBytes: 64 * MIB,
    retainBytes: 64 * MIB,
    log: (line) => notes.push(line),
    onFailed: (error) => failed.push(error),
    ...options,
  })
  let closed: Promise<void> | undefined
  const close = () => (closed ??= opened.journal.close())
  t.after(close)
  return { ...opened, notes, failed, close }
}

/** All a state says, comparable. */
function contents(state: State) {
  return {
    agents: [...state.agents],
    resources: [...state.resources].map(([key, { histograms, counters, lastIntervalEndMs, lastReceivedAtMs }]) => ({
      key,
      lastIntervalEndMs,
      lastReceivedAtMs,
      counters: [...counters].sort(),
      histograms: [...histograms]
        .map(([name, { total }]) => {
          const cells: [number, number][] = []
          total.forEach((cell, count) => void cells.push([cell, count]))
          return [name, total.count, total.sumNs, cells]
        })
        .sort(),
    })),
    episodes: [...state.episodes.values()],
    missing: state.missing,
    cells: state.cells,
  }
}

/** A directory with one journal of as many groups as batches. */
async function writtenDir(t: TestContext, batches: readonly AcceptedBatch[]) {
  const dir = temporaryDir(t)
  const { journal, state, close } = await openJournal(t, dir)
  const ends: number[] = [journal.bytes]
  for (const batch of batches) {
    await journal.append(encodeBatch(batch), () => state.apply(batch))
    ends.push(journal.bytes)
  }
  await close()
  return { dir, path: join(dir, fileName('journal', 1)), state, ends }
}

function withBytes(t: TestContext, bytes: Uint8Array): { dir: string; path: string } {
  const dir = temporaryDir(t)
  const path = join(dir, fileName('journal', 1))
  writeFileSync(path, bytes)
  return { dir, path }
}

describe('the journal', () => {
  it('rebuilds the state it was written from: counts, sums, cells, counters, sequences and episodes', async (t) => {
    const dir = temporaryDir(t)
    const { journal, state, close } = await openJournal(t, dir)
    const episode = {
      slo: 'api_rtt',
      service: 'bot',
      venue: 'kalshi',
      firstBreachAtMs: 1_700_000_000_000,
      summary: 'slow – "very"\n',
      description: '',
      postedAtMs: null,
      resolvedAtMs: null,
    } as const
    const batches = [
      numbered(1),
      numbered(2, { agent: 'agent-2', resource: { service: 'probe', instance: 'p' } }),
      numbered(4),
      numbered(1, {
        epoch: 'epoch-2',
        resource: { service: 'bot', instance: 'bot-1', region: 'Zürich, CH; x=y 100%' },
      }),
    ]
    for (const batch of batches) await journal.append(encodeBatch(batch), () => state.apply(batch))
    await journal.append(encodeEpisode(episode), () => state.recordEpisode(episode))
    await journal.append(encodeEpisode({ ...episode, postedAtMs: 1_700_000_001_000 }), () =>
      state.recordEpisode({ ...episode, postedAtMs: 1_700_000_001_000 }),
    )
    await close()

    const again = await openJournal(t, dir)
    assert.deepEqual(contents(again.state), contents(state))
    assert.equal(again.state.missing, 3)
    assert.equal(again.state.episodes.size, 1)
    assert.deepEqual(again.notes, [])
  })

  it('is an interval log that hdr-histogram-js reads: tags, times and values', async (t) => {
    const endMs = Date.now()
    const { path } = await writtenDir(t, [
      numbered(1, { intervalStartMs: endMs - 1000, intervalEndMs: endMs }),
      numbered(2, {
        intervalStartMs: endMs,
        intervalEndMs: endMs + 1500,
        resource: { service: 'bot', instance: 'b', venue: 'ü ,;=' },
      }),
    ])
    const reader = new hdr.HistogramLogReader(readFileSync(path, 'utf8'), 64)
    const read: hdr.Histogram[] = []
    for (let next = reader.nextIntervalHistogram(); next; next = reader.nextIntervalHistogram()) read.push(next)
    assert.deepEqual(
      read.map(({ tag, startTimeStampMsec, endTimeStampMsec, totalCount }) => [
        tag,
        startTimeStampMsec,
        endTimeStampMsec,
        totalCount,
      ]),
      [
        [
          'tickscope_api_rtt_seconds;service=bot;instance=bot-1;venue=kalshi;endpoint=create_order;outcome=ok',
          endMs - 1000,
          endMs,
          2,
        ],
        ['tickscope_tick_to_trade_seconds;service=bot;instance=bot-1;venue=kalshi', endMs - 1000, endMs, 1],
        [
          'tickscope_api_rtt_seconds;service=bot;instance=b;venue=%C3%BC%20%2C%3B%3D;endpoint=create_order;outcome=ok',
          endMs,
          endMs + 1500,
          2,
        ],
        ['tickscope_tick_to_trade_seconds;service=bot;instance=b;venue=%C3%BC%20%2C%3B%3D', endMs, endMs + 1500, 1],
      ],
    )
    assert.equal(read[0]?.minNonZeroValue, 1_000_000 - (1_000_000 % 512))
    assert.ok(Math.abs((read[0]?.maxValue ?? 0) - 20_000_000) < 20_000)
  })

  it('keeps only the text of a histogram, whatever line breaks its base64 came with', () => {
    const [first] = batchOf({ series: [series('tickscope_tick_to_trade_seconds', {}, [1])] }).series
    const hostile = `${first?.histogram.slice(0, 8)}\n#[],\r\n${first?.histogram.slice(8)}`
    const clean = acceptBatch(decodeBatch(batchOf({ series: [{ ...first!, histogram: hostile }] })), [hostile], 1)
    assert.match(clean.series[0]?.encoded ?? '', /^[A-Za-z0-9+/]+=*$/)
  })

  it('puts batches that arrive together into one group, in order', async (t) => {
    const dir = temporaryDir(t)
    const { journal, close } = await openJournal(t, dir)
    const order: number[] = []
    await Promise.all([1, 2, 3].map((n) => journal.append(encodeBatch(numbered(n)), () => void order.push(n))))
    await close()
    assert.deepEqual(order, [1, 2, 3])
    const text = readFileSync(join(dir, fileName('journal', 1)), 'utf8')
    assert.equal(text.match(/^#\[group /gm)?.length, 1)
    assert.equal(text.match(/^#batch /gm)?.length, 3)
  })

  it('takes a file cut off anywhere in its last group as torn, and never loses an earlier group', async (t) => {
    const { path, ends } = await writtenDir(t, [numbered(1), numbered(2), numbered(3)])
    const whole = readFileSync(path)
    const [, , good, full] = ends as [number, number, number, number]
    const dir = temporaryDir(t)
    const cutPath = join(dir, fileName('journal', 1))
    for (let cut = good + 1; cut < full; cut += cut < good + 60 ? 1 : 9) {
      writeFileSync(cutPath, whole.subarray(0, cut))
      const { state, end } = recover(dir)
      assert.deepEqual([end.torn, end.bytes, end.groups], [true, good, 2], `cut at ${cut}`)
      assert.equal(state.lastSequence('agent-1', 'epoch-1'), 2)
    }
  })

  it('cuts a torn tail off with a note, sets it aside, and goes on from there', async (t) => {
    const { path, ends } = await writtenDir(t, [numbered(1), numbered(2)])
    const whole = readFileSync(path)
    const cut = (ends[1] as number) + 100
    const torn = withBytes(t, whole.subarray(0, cut))
    const { journal, state, notes, close } = await openJournal(t, torn.dir)
    assert.equal(state.lastSequence('agent-1', 'epoch-1'), 1)
    assert.equal(notes.length, 1)
    assert.match(notes[0] ?? '', /journal-00000001\.hlog ended in 100 bytes of a write cut off by a crash/)
    assert.deepEqual(readFileSync(`${torn.path}.torn`), whole.subarray(ends[1], cut))
    await journal.append(encodeBatch(numbered(2)))
    await close()
    const again = await openJournal(t, torn.dir)
    assert.equal(again.state.lastSequence('agent-1', 'epoch-1'), 2)
    assert.deepEqual(again.notes, [])
  })

  it('takes zeros where the last write should be for what a power cut leaves', async (t) => {
    const { path, ends } = await writtenDir(t, [numbered(1), numbered(2)])
    const bytes = readFileSync(path)
    bytes.fill(0, (ends[1] as number) + 200, (ends[1] as number) + 300)
    const { dir } = withBytes(t, bytes)
    assert.deepEqual(recover(dir).end, { bytes: ends[1], groups: 1, torn: true })
  })

  it('begins again on a file whose head was never finished', async (t) => {
    const { path, ends } = await writtenDir(t, [])
    const head = readFileSync(path)
    for (const cut of [0, 10, 100, (ends[0] as number) - 1]) {
      const { dir } = withBytes(t, head.subarray(0, cut))
      const { journal, close } = await openJournal(t, dir)
      await journal.append(encodeBatch(numbered(1)))
      await close()
      assert.equal(recover(dir).state.lastSequence('agent-1', 'epoch-1'), 1)
    }
  })

  it('refuses damage to anything acknowledged, in one sentence, and leaves the file as it is', async (t) => {
    const { path, ends } = await writtenDir(t, [numbered(1), numbered(2), numbered(3)])
    const whole = readFileSync(path)
    const dir = temporaryDir(t)
    const damagedPath = join(dir, fileName('journal', 1))
    fc.assert(
      fc.property(fc.nat((ends[2] as number) - 1), fc.integer({ min: 1, max: 255 }), (at, mask) => {
        // The date in the head is for people: nothing depends on it.
        fc.pre(!(at > whole.indexOf('#[StartTime: ') && at < whole.indexOf('"StartTimestamp"')))
        const damaged = Buffer.from(whole)
        damaged[at] = (damaged[at] as number) ^ mask
        writeFileSync(damagedPath, damaged)
        assert.throws(
          () => recover(dir),
          (error) =>
            error instanceof JournalError &&
            error.code === 'JOURNAL_CORRUPT' &&
            error.message.startsWith(damagedPath) &&
            !error.message.includes('\n'),
          `byte ${at} ^ ${mask}`,
        )
        assert.deepEqual(readFileSync(damagedPath), damaged)
      }),
      { numRuns: 250 },
    )
  })

  it('never takes a changed last group for a good one', async (t) => {
    const { path, ends } = await writtenDir(t, [numbered(1), numbered(2)])
    const whole = readFileSync(path)
    const dir = temporaryDir(t)
    const damagedPath = join(dir, fileName('journal', 1))
    fc.assert(
      fc.property(
        fc.integer({ min: ends[1] as number, max: whole.length - 1 }),
        fc.integer({ min: 1, max: 255 }),
        (at, mask) => {
          const damaged = Buffer.from(whole)
          damaged[at] = (damaged[at] as number) ^ mask
          writeFileSync(damagedPath, damaged)
          try {
            const { state, end } = recover(dir)
            assert.deepEqual([end.torn, end.groups, state.lastSequence('agent-1', 'epoch-1')], [true, 1, 1])
          } catch (error) {
            assert.ok(error instanceof JournalError && error.code === 'JOURNAL_CORRUPT', `${error}`)
          }
        },
      ),
      { numRuns: 250 },
    )
  })

  it('refuses a corrupt journal at the start and does not write to the directory but for the lock', async (t) => {
    const { path } = await writtenDir(t, [numbered(1), numbered(2)])
    const bytes = readFileSync(path)
    bytes[400] = (bytes[400] as number) ^ 1
    const { dir } = withBytes(t, bytes)
    await assert.rejects(openJournal(t, dir), { code: 'JOURNAL_CORRUPT' })
    assert.deepEqual(readFileSync(join(dir, fileName('journal', 1))), bytes)
    assert.deepEqual(readdirSync(dir).sort(), [fileName('journal', 1), 'lock.pid', 'lock.sqlite'])
    await assert.rejects(openJournal(t, dir), { code: 'JOURNAL_CORRUPT' }, 'and lets go of the lock')
  })

  it('rotates by size and folds what is finished into a snapshot that says the same', async (t) => {
    const dir = temporaryDir(t)
    const { journal, state, notes, close } = await openJournal(t, dir, { rotateBytes: 8000, retainBytes: 20_000 })
    let sequence = 0
    await eventually('a snapshot and deleted journals', async () => {
      const batch = numbered(++sequence)
      await journal.append(encodeBatch(batch), () => state.apply(batch))
      return existsSync(join(dir, fileName('journal', 1))) ? undefined : true
    })
    await close()
    assert.deepEqual(notes, [])
    const names = readdirSync(dir)
    assert.equal(names.filter((name) => name.startsWith('snapshot-')).length, 1, names.join(' '))
    assert.deepEqual(contents(recover(dir).state), contents(state))
    const sizes = names.filter((name) => name.endsWith('.hlog')).map((name) => statSync(join(dir, name)).size)
    assert.equal(
      journal.bytes,
      sizes.reduce((a, b) => a + b),
    )
  })

  it('holds a snapshot equal to the journals it replaces, for any batches', async (t) => {
    const sequences = fc.array(
      fc.record({
        agent: fc.constantFrom('a', 'b'),
        service: fc.constantFrom('bot', 'probe'),
        valuesNs: fc.array(fc.integer({ min: 0, max: 100_000_000 }), { maxLength: 20 }),
        step: fc.integer({ min: 1, max: 3 }),
      }),
      { maxLength: 8 },
    )
    await fc.assert(
      fc.asyncProperty(sequences, async (steps) => {
        const last = new Map<string, number>()
        const batches = steps.map(({ agent, service, valuesNs, step }) => {
          const sequence = (last.get(agent) ?? 0) + step
          last.set(agent, sequence)
          return accepted({
            agent,
            sequence,
            resource: { service, instance: agent },
            series: [series('tickscope_tick_to_trade_seconds', {}, valuesNs)],
          })
        })
        const { dir } = await writtenDir(t, batches)
        const before = contents(recover(dir).state)
        compact({ dir, generation: 2 })
        const { state } = recover(dir, 2)
        assert.deepEqual(contents(state), before)
      }),
      { numRuns: 25 },
    )
  })

  it('starts from whatever a crash during rotation or compaction leaves, and finishes it', async (t) => {
    const { dir, state } = await writtenDir(t, [numbered(1), numbered(2)])
    const expected = contents(state)
    const second = join(dir, fileName('journal', 2))
    const snapshot = join(dir, fileName('snapshot', 2))
    const head = readFileSync(join(dir, fileName('journal', 1))).subarray(0, 150)
    for (const bytes of [Buffer.alloc(0), Buffer.from(head.toString().replace('generation 1', 'generation 2'))]) {
      rmSync(snapshot, { force: true })
      writeFileSync(second, bytes)
      writeFileSync(`${snapshot}.tmp`, 'half a snapshot')
      const { state: recovered, close } = await openJournal(t, dir)
      assert.deepEqual(contents(recovered), expected)
      assert.equal(existsSync(`${snapshot}.tmp`), false)
      await eventually('the snapshot that was not finished', () => existsSync(snapshot))
      await close()
      const again = await openJournal(t, dir)
      assert.deepEqual(contents(again.state), expected)
      await again.close()
    }
  })

  it('says which file is missing rather than start without it', async (t) => {
    const { dir } = await writtenDir(t, [numbered(1)])
    compact({ dir, generation: 2 })
    const alone = temporaryDir(t)
    copyFileSync(join(dir, fileName('snapshot', 2)), join(alone, fileName('snapshot', 2)))
    await assert.rejects(openJournal(t, alone), /journal-00000002\.hlog is missing/)
    copyFileSync(join(dir, fileName('journal', 1)), join(alone, fileName('journal', 3)))
    await assert.rejects(openJournal(t, alone), /journal-00000002\.hlog is missing/)
  })

  it('refuses a damaged snapshot, torn or not', async (t) => {
    const { dir } = await writtenDir(t, [numbered(1)])
    compact({ dir, generation: 2 })
    const path = join(dir, fileName('snapshot', 2))
    const whole = readFileSync(path)
    writeFileSync(path, whole.subarray(0, whole.length - 5))
    await assert.rejects(openJournal(t, dir), { code: 'JOURNAL_CORRUPT' })
  })

  it('belongs to one collector at a time', async (t) => {
    const dir = temporaryDir(t)
    const first = await openJournal(t, dir)
    await assert.rejects(openJournal(t, dir), (error) => {
      assert.ok(error instanceof JournalError && error.code === 'JOURNAL_LOCKED')
      assert.equal(error.message, `data directory ${dir} is in use by another collector (pid ${process.pid})`)
      return true
    })
    await first.close()
    const second = await openJournal(t, dir)
    await second.close()
  })

  it('says so when the directory cannot be used', async (t) => {
    const file = join(temporaryDir(t), 'file')
    writeFileSync(file, '')
    await assert.rejects(
      openJournal(t, join(file, 'data')),
      /data directory .* cannot be used: mkdir failed with ENOTDIR/,
    )
  })
})
