import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { judgeCosts, judgeOverhead, judgeSizes } from '../../src/codec/claims.ts'
import { type CodecResult, runCodec } from '../../src/codec/run.ts'
import type { Size, Sizes } from '../../src/codec/sizes.ts'
import { codecText } from '../../src/codec/text.ts'

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))

describe('probe codec', () => {
  let result: CodecResult

  it('measures every codec with every message, and each signature', async () => {
    let progressed = 0
    result = await runCodec({
      rounds: 5,
      seed: 1,
      peer: false,
      signal: new AbortController().signal,
      note: () => {},
      progress: () => progressed++,
    })
    assert.equal(progressed, 5)
    assert.equal(result.settings.rounds, 5)
    const measured = new Set(
      result.rows
        .filter(({ status }) => status === 'measured')
        .map((row) => `${row.codec} ${row.message} ${row.operation}`),
    )
    for (const codec of ['rest', 'json', 'fix', 'fast', 'sbe'])
      for (const message of ['order', 'executionReport', 'bookUpdate'])
        for (const operation of ['encode', 'decode'])
          assert(measured.has(`${codec} ${message} ${operation}`), `${codec} ${message} ${operation}`)
    for (const row of [...result.rows, ...result.signing]) {
      if (row.nsPerOp === null) continue
      const { median, low, high, p10, p90 } = row.nsPerOp
      assert(median > 0 && low <= median && median <= high && p10 <= p90, JSON.stringify(row))
      assert(row.bytesPerOp === 'unknown' || row.bytesPerOp >= 0)
    }
    assert.deepEqual(
      result.signing.map(({ name }) => name),
      ['rsa-pss-pem', 'rsa-pss', 'ed25519', 'hmac-sha256', 'eip712'],
    )
    assert.deepEqual(JSON.parse(JSON.stringify(result)), result, 'the result survives JSON')
  })

  it('says why a peer has no figures', () => {
    const skipped = result.rows.filter(({ codec }) => codec === 'jspurefix')
    assert.deepEqual(
      skipped.map(({ status, reason, nsPerOp }) => [status, reason, nsPerOp]),
      Array(3).fill(['skipped', 'left out by --no-peer', null]),
    )
  })

  it('weighs the messages as they are on the wire', () => {
    const { order, executionReport, bookUpdate, bookBatch } = result.messages
    const bytes = (form: { [name: string]: Size }, name: string) => form[name]?.bytes ?? Number.NaN
    const rsa = order['rest-rsa']
    // Base64 of 256 bytes against base64 of 64.
    assert.equal(rsa?.signatureBytes, 344)
    assert.equal(order['rest-ed25519']?.signatureBytes, 88)
    assert.equal(bytes(order, 'rest-rsa') - bytes(order, 'rest-ed25519'), 344 - 88)
    assert(rsa !== undefined && (rsa.headBytes ?? 0) > 344 && (rsa.bodyBytes ?? 0) > 150)
    assert(bytes(order, 'rest-fetch-rsa') > bytes(order, 'rest-rsa'), 'fetch adds headers of its own')
    for (const form of [order, executionReport, bookUpdate]) {
      const json = bytes(form, form === order ? 'rest-ed25519' : 'websocket')
      assert(
        bytes(form, 'fix') < json &&
          bytes(form, 'sbe') < bytes(form, 'fix') &&
          bytes(form, 'fast') < bytes(form, 'sbe'),
      )
      assert((form.fast?.firstBytes ?? 0) > bytes(form, 'fast'), 'the first of a stream says everything')
    }
    assert(bytes(bookBatch, 'fast') >= 55 && bytes(bookBatch, 'fast') <= 66, String(bytes(bookBatch, 'fast')))
  })

  it('finds what allocates and what does not', () => {
    const bytes = (codec: string, message: string, operation: string) => {
      const row = result.rows.find(
        (each) => each.codec === codec && each.message === message && each.operation === operation,
      )
      assert(row !== undefined && row.bytesPerOp !== 'unknown', `${codec} ${message} ${operation}`)
      return row.bytesPerOp
    }
    // A number of 64 bits that is handed over is a box of 16 bytes.
    assert(bytes('fix', 'executionReport', 'scan') <= 16)
    assert(bytes('fix', 'order', 'encode') <= 32)
    assert(bytes('sbe', 'bookUpdate', 'encode') <= 16)
    assert(bytes('fix-map', 'executionReport', 'decode') > 1_000)
    assert(bytes('rest', 'executionReport', 'decode') > 500)
  })

  it('sees the order of codecs that no machine turns round', () => {
    const median = (codec: string, message: string, operation: string) =>
      result.rows.find((row) => row.codec === codec && row.message === message && row.operation === operation)?.nsPerOp
        ?.median ?? Number.NaN
    assert(median('sbe', 'bookUpdate', 'decode') < median('rest', 'bookUpdate', 'decode') / 2)
    assert(median('fix', 'executionReport', 'scan') < median('fix-map', 'executionReport', 'decode') / 2)
    const signed = (name: string) => result.signing.find((row) => row.name === name)?.nsPerOp?.median ?? Number.NaN
    assert(signed('ed25519') < signed('rsa-pss') && signed('rsa-pss') < signed('rsa-pss-pem'))
  })

  it('prints every row, claim and note in its table', () => {
    const text = codecText(result, process.stdout)
    for (const piece of [
      'rest-ed25519',
      'jspurefix',
      'eip712',
      'fix-size',
      'fix-cost',
      'rest-overhead',
      'Neither Kalshi nor Polymarket offers FAST or SBE',
    ])
      assert(text.includes(piece), piece)
  })

  it('stops between rounds when asked, with what it has', async () => {
    const stopping = new AbortController()
    const partial = await runCodec({
      rounds: 1_000,
      seed: 2,
      peer: false,
      signal: stopping.signal,
      note: () => {},
      progress: (ratio) => {
        if (ratio > 0.002) stopping.abort()
      },
    })
    assert(partial.settings.rounds >= 2 && partial.settings.rounds < 10, String(partial.settings.rounds))
    assert(partial.rows.length > 0)
  })
})

describe('verdicts on the claims', () => {
  const order = (fix: number, fast: number, rsa: number, ed25519: number, head: number): Sizes => {
    const size = (bytes: number): Size => ({
      bytes,
      minBytes: bytes,
      maxBytes: bytes,
      headBytes: head,
      signatureBytes: 88,
    })
    return {
      order: {
        fix: size(fix),
        fast: size(fast),
        'rest-rsa': size(rsa),
        'rest-ed25519': size(ed25519),
        'rest-fetch-rsa': size(rsa),
      },
      executionReport: {},
      bookUpdate: {},
      bookBatch: {},
    }
  }

  it('holds, fails or holds in part by every figure of the claim', () => {
    assert.equal(judgeSizes(order(90, 40, 900, 600, 0)).verdict, 'holds')
    assert.equal(judgeSizes(order(230, 40, 900, 600, 0)).verdict, 'holds in part')
    assert.equal(judgeSizes(order(400, 400, 1_200, 1_200, 0)).verdict, 'does not hold')
    assert.equal(judgeOverhead(order(0, 0, 1, 1, 700)).verdict, 'holds')
    assert.equal(judgeOverhead(order(0, 0, 1, 1, 200)).verdict, 'does not hold')
  })

  it('leaves a cost open when the interval includes the claimed figure', () => {
    const verdict = (...intervals: (readonly [number, number])[]) =>
      judgeCosts(
        intervals.map(([low, high]) => ({ statement: '', ratio: (low + high) / 2, low, high })),
        '',
      ).verdict
    assert.equal(verdict([0.1, 0.2]), 'holds')
    assert.equal(verdict([0.3, 0.5]), 'open')
    assert.equal(verdict([0.5, 0.6]), 'does not hold')
    assert.equal(verdict([0.1, 0.2], [0.5, 0.6]), 'holds in part')
    assert.equal(verdict([0.1, 0.2], [0.3, 0.5]), 'holds in part')
    const { verdict: contaminated, parts } = judgeCosts([{ statement: '', ratio: 0.2, low: 0.1, high: 0.3 }], '', [
      'noise',
    ])
    assert.equal(contaminated, 'open')
    assert.equal(parts[0]?.measured, '80 % less (70 % to 90 %)')
  })
})

describe('the command', () => {
  const run = promisify(execFile)
  const probe = (...flags: string[]) => run(process.execPath, [MAIN, 'codec', ...flags], { timeout: 60_000 })

  it('prints one JSON object as its last line', async () => {
    const { stdout } = await probe('--rounds', '5', '--no-peer', '--json')
    const result = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as CodecResult
    assert.equal(result.probe, 'codec')
    assert.deepEqual(
      result.claims.map(({ id }) => id),
      ['fix-size', 'fix-cost', 'rest-overhead'],
    )
    assert.equal(typeof result.environment.process.node, 'string')
  })

  it('ends with code 1 when a budget is broken, or its operation was not measured', async () => {
    const budget = (text: string) => ['--budget', text]
    const flags = [...budget('fix/executionReport/scan=1h'), ...budget('sbe/bookBatch/encode=1h')]
    await assert.rejects(
      probe('--rounds', '5', '--no-peer', '--json', ...flags),
      ({ code, stdout }: { code: number; stdout: string }) => {
        assert.equal(code, 1)
        const { budgets } = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '')
        assert.deepEqual(
          budgets.map(({ ok }: { ok: boolean }) => ok),
          [true, false],
        )
        return true
      },
    )
  })

  it('refuses a wrong flag in one sentence', async () => {
    await assert.rejects(probe('--budget', 'fix/scan=1us'), {
      code: 2,
      stderr: /^probe: --budget is 'fix\/scan=1us', not /,
    })
    await assert.rejects(probe('--rounds', '4'), (error: { code: number; stderr: string }) => {
      assert.equal(error.code, 2)
      assert.match(error.stderr, /^probe: --rounds is '4', not a whole number from 5 to 10000\n$/)
      return true
    })
  })
})
