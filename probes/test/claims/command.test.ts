import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { UserError } from '@tickscope/contract'
import { Command } from 'commander'
import { CLAIMS } from '../../src/claims/catalogue.ts'
import { addClaimsCommand, judged } from '../../src/claims/command.ts'
import { parseResult, readResults, runClaimProbe, runUndisturbed, saveResult } from '../../src/claims/results.ts'
import { claimsMarkdown, claimsText } from '../../src/claims/text.ts'

let folder: string
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'tickscope-claims-'))
})
after(() => rmSync(folder, { recursive: true }))

const PRICES = { asOf: '', items: new Map() }
const judgeAll = (results: ReturnType<typeof readResults>) =>
  CLAIMS.map((claim) => judged(claim, { results, prices: PRICES, numaNodes: 1 }, new Map()))

describe('saved results', () => {
  it('are what was kept of a run, with the machine they are of; the newest of a probe counts', () => {
    const notes: string[] = []
    const parts = [{ statement: 's', measured: 'm', holds: true }]
    writeFileSync(join(folder, 'notes.json'), 'no result\n')
    saveResult(folder, {
      probe: 'codec',
      from: 'this run',
      body: {
        probe: 'codec',
        startedAtMs: 5,
        environment: { host: 'rack-7' },
        claims: [{ id: 'fix-size', parts, note: '' }],
      },
    })
    const results = readResults(folder, (line) => notes.push(line))
    assert.equal(results.length, 1)
    assert.match(notes[0] ?? '', /notes\.json is no result/)
    const claim = judgeAll(results).find(({ id }) => id === 'fix-size')
    assert.equal(claim?.verdict, 'holds')
    assert.deepEqual(claim?.of, {
      from: join(folder, 'codec.json'),
      host: 'rack-7',
      startedAtMs: 5,
      contaminated: false,
      attempts: 1,
    })
  })

  it('may have a table before their last line', () => {
    assert.equal(parseResult('a table\n{"probe":"route","rows":[]}\n', 'x')?.probe, 'route')
    assert.equal(parseResult('{"pages":[]}', 'x')?.probe, 'start')
    for (const text of ['', '[]', '7', 'null', '{']) assert.equal(parseResult(text, 'x'), undefined)
  })

  it('in a folder that cannot be read are refused in a sentence', () => {
    assert.throws(
      () => readResults(join(folder, 'none'), () => {}),
      (error) => error instanceof UserError && /--results .* cannot be read: ENOENT/.test(error.message),
    )
  })
})

describe('the probes that answer claims', () => {
  it('run as processes, and what they print is the result', async () => {
    const { result, failure } = await runClaimProbe('codec', new AbortController().signal)
    assert.equal(failure, undefined)
    assert.equal(result?.probe, 'codec')
    const claims = judgeAll(result === undefined ? [] : [result])
    // Bytes do not depend on the machine.
    assert.ok(
      ['holds', 'holds in part', 'does not hold'].includes(claims.find((c) => c.id === 'fix-size')?.verdict ?? ''),
    )
  })
})

describe('a probe that is run again', () => {
  const signal = new AbortController().signal
  const runs = (...contaminated: (boolean | undefined)[]) => {
    let made = 0
    return async () => {
      const found = contaminated[made++]
      return found === undefined
        ? { failure: 'gone' }
        : { result: { probe: 'codec', from: 'this run', body: { contaminated: found, made } } }
    }
  }
  const bodyOf = async (attempts: number, run: ReturnType<typeof runs>) =>
    (await runUndisturbed('codec', attempts, signal, () => {}, run)).result?.body

  it('stops at the first whose controls kept still, and says which it was', async () => {
    assert.deepEqual(await bodyOf(3, runs(false, false)), { contaminated: false, made: 1, attempts: 1 })
    assert.deepEqual(await bodyOf(3, runs(true, false, false)), { contaminated: false, made: 2, attempts: 2 })
  })

  it('keeps the last when none did, and what it has when a later run fails', async () => {
    assert.deepEqual(await bodyOf(2, runs(true, true, false)), { contaminated: true, made: 2, attempts: 2 })
    assert.deepEqual(await bodyOf(3, runs(true, undefined)), { contaminated: true, made: 1, attempts: 1 })
    assert.deepEqual(await runUndisturbed('codec', 3, signal, () => {}, runs(undefined)), { failure: 'gone' })
  })
})

describe('the command', () => {
  const refuse = async (...args: string[]) => {
    const program = new Command('tickscope').exitOverride()
    addClaimsCommand(program, () => assert.fail('it ran'))
    return program.parseAsync(['claims', ...args], { from: 'user' }).then(
      () => assert.fail('it was not refused'),
      (error) => (error as Error).message,
    )
  }

  it('refuses flags that make no sense, in a sentence', async () => {
    assert.match(await refuse('--only', 'codec'), /--only chooses what --run runs/)
    assert.match(await refuse('--run', '--only', 'magic'), /'magic'; the probes it runs are runtime, bypass/)
    assert.match(await refuse('--json', '--markdown'), /exclude each other/)
    assert.match(await refuse('--monthly-gain', '-1'), /not USD from 0/)
  })

  it('refuses a folder of results that cannot be read before it runs anything', async () => {
    const file = join(folder, 'a file')
    writeFileSync(file, '')
    assert.match(await refuse('--run', '--only', 'codec', '--results', file), /cannot be read: ENOTDIR/)
  })
})

describe('the page of claims', () => {
  const page = readFileSync(new URL('../../../docs/claims.md', import.meta.url), 'utf8')

  it('has every claim of the catalogue, with its figures, its test and a verdict', () => {
    for (const { id, claim, how, command } of CLAIMS) {
      const section = new RegExp(`\n## ${id}\n([\\s\\S]*?)(?=\n## |$)`).exec(page)?.[1] ?? ''
      assert.ok(page.includes(`| [${id}](#${id}) |`), id)
      assert.ok(section.toLowerCase().includes(claim.toLowerCase()), id)
      assert.ok(section.includes(how), id)
      assert.ok(section.includes(command), id)
      assert.match(section, /\*\*(Holds|Holds in part|Does not hold|Open|Not measured|Cannot be measured here)\*\*/, id)
    }
  })

  it('is what --markdown prints', () => {
    const printed = claimsMarkdown(judgeAll([]), 'a machine')
    const headings = (text: string) => text.split('\n').filter((line) => line.startsWith('#'))
    assert.deepEqual(headings(page), headings(printed))
    assert.match(claimsText(judgeAll([]), process.stdout), /fpga {2,}not measured/)
  })
})
