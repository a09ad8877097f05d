import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  formatCount,
  formatDollars,
  formatMicros,
  parseCount,
  parseDollars,
  parseMicros,
  WireError,
} from '../../src/kalshi/index.ts'

const FORMS = [
  { name: 'dollars', places: 4, parse: parseDollars, format: formatDollars },
  { name: 'count', places: 2, parse: parseCount, format: formatCount },
  { name: 'micros', places: 6, parse: parseMicros, format: formatMicros },
] as const

for (const { name, places, parse, format } of FORMS) {
  test(`${name}: every safe integer survives being written and read`, () => {
    fc.assert(
      fc.property(fc.maxSafeInteger(), (units) => {
        const text = format(units)
        assert.match(text, new RegExp(`^-?\\d+\\.\\d{${places}}$`))
        assert.equal(parse(text), units === 0 ? 0 : units)
      }),
    )
  })

  test(`${name}: agrees with arithmetic on whole numbers for any spelling with enough places`, () => {
    fc.assert(
      fc.property(
        fc.boolean(),
        fc.bigInt({ min: 0n, max: 2_000_000_000n }),
        fc.integer({ min: 0, max: places }),
        fc.nat(),
        (negative, whole, digits, seed) => {
          const fraction = String(seed).slice(-Math.max(digits, 1)).padStart(digits, '0')
          const text = `${negative ? '-' : ''}${whole}${digits === 0 ? '' : `.${fraction}`}`
          const scale = 10n ** BigInt(places)
          const units = whole * scale + (digits === 0 ? 0n : BigInt(fraction) * 10n ** BigInt(places - digits))
          const expected = Number(negative ? -units : units)
          assert.equal(parse(text), expected === 0 ? 0 : expected)
        },
      ),
    )
  })

  test(`${name}: text is read only if it is a plain decimal with at most ${places} places`, () => {
    const plain = new RegExp(`^-?(?:0|[1-9]\\d*)(?:\\.\\d{1,${places}})?$`)
    const nearMiss = fc.string({ unit: fc.constantFrom(...'0123456789.-+eE _,xX\n\u0660'), maxLength: 12 })
    fc.assert(
      fc.property(fc.oneof(nearMiss, fc.string()), (text) => {
        if (plain.test(text)) assert.equal(typeof parse(text), 'number')
        else assert.throws(() => parse(text), WireError)
      }),
      { numRuns: 1000 },
    )
  })
}

test('known prices and counts have their documented form', () => {
  assert.equal(parseDollars('0.5600'), 5600)
  assert.equal(formatDollars(5600), '0.5600')
  assert.equal(formatDollars(10_000), '1.0000')
  assert.equal(formatDollars(1), '0.0001')
  assert.equal(parseCount('10'), 1000)
  assert.equal(parseCount('-54.00'), -5400)
  assert.equal(formatCount(1000), '10.00')
  assert.equal(formatCount(-5), '-0.05')
  assert.equal(formatMicros(17_500), '0.017500')
})

test('minus zero is zero', () => {
  assert.ok(Object.is(parseCount('-0.00'), 0))
  assert.equal(formatCount(-0), '0.00')
})

test('numbers, blanks, exponents and magnitudes beyond safe integers are refused by name', () => {
  for (const bad of [0.56, 10, null, undefined, '', '-', '.', '.5', '5.', '05', '1e3', '+1', ' 1', '1 ', '0x1', '--1'])
    assert.throws(() => parseDollars(bad, 'price'), /^WireError: price is /)
  assert.throws(() => parseDollars('900719925474.0992'), WireError)
  assert.equal(parseDollars('900719925474.0991'), Number.MAX_SAFE_INTEGER)
  assert.throws(() => parseDollars('9'.repeat(1000)), WireError)
  assert.throws(() => parseDollars('0.56000'), /at most 4 places/)
  assert.throws(() => parseCount('1.001'), /at most 2 places/)
})

test('writing something that is no integer is our mistake', () => {
  for (const bad of [0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53])
    assert.throws(() => formatDollars(bad), RangeError)
})
