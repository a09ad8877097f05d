import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { UserError } from '@tickscope/contract'
import { PRICE_FILE, readPrices } from '../../src/route/price.ts'
import { readRoutes, viaText } from '../../src/route/routes.ts'

let folder: string
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'tickscope-routes-'))
})
after(() => rmSync(folder, { recursive: true }))

function write(text: string): string {
  const file = join(folder, 'file.json')
  writeFileSync(file, text)
  return file
}

const read = (text: string) => readRoutes(write(text), readPrices(PRICE_FILE))
const URL_FIELD = '"url":"http://h"'

describe('a routes file', () => {
  it('gives each route its labels, its way and its price', () => {
    const [route] = read(`[{"name":"a",${URL_FIELD},"region":"us-east-2","route":"PrivateLink",
      "via":{"relay":"[::1]:443"},"pricePerMonth":"privatelink"}]`)
    assert.equal(route?.region, 'us-east-2')
    assert.equal(route?.price?.usdPerMonth, 7.3)
    assert.match(route?.price?.source ?? '', /privatelink/)
    assert.equal(viaText(route?.via ?? null), 'relay [::1]:443')
    assert.match(route?.url.href ?? '', /^http:\/\/h\/trade-api/)
  })

  it('cannot call a relay with injected delay anything else', () => {
    const [route] = read(`[{"name":"a",${URL_FIELD},"route":"Direct Connect","via":{"injectDelayMs":3}}]`)
    assert.equal(route?.route, 'relay with injected delay')
  })

  for (const [text, message] of [
    ['{', /is not JSON/],
    ['[]', /a list of 1 to 16 routes/],
    ['[7]', /entry 0: it is not an object/],
    [`[{${URL_FIELD}}]`, /entry 0: name is missing/],
    ['[{"name":"a"}]', /url is missing/],
    [`[{"name":"a",${URL_FIELD},"vai":1}]`, /unknown field 'vai'/],
    [`[{"name":"a",${URL_FIELD}},{"name":"a",${URL_FIELD}}]`, /two routes are called 'a'/],
    [`[{"name":"a",${URL_FIELD},"via":{"localAddress":"x"}}]`, /via.localAddress is not an IP address/],
    [`[{"name":"a",${URL_FIELD},"via":{"namespace":"a b"}}]`, /neither a name of ip netns nor a path/],
    [`[{"name":"a",${URL_FIELD},"via":{"relay":"h"}}]`, /via.relay is 'h', not host:port/],
    [`[{"name":"a",${URL_FIELD},"via":{"relay":"h:70000"}}]`, /not host:port/],
    [`[{"name":"a",${URL_FIELD},"via":{"injectDelayMs":-1}}]`, /from 0 to 5000/],
    [`[{"name":"a",${URL_FIELD},"via":{"relay":"h:1","namespace":"x"}}]`, /via must have one of/],
    [
      `[{"name":"a",${URL_FIELD},"pricePerMonth":"gold"}]`,
      /neither USD nor an item of the price file \(public_internet/,
    ],
    [`[{"name":"a\\u0000",${URL_FIELD}}]`, /name must be text/],
  ] as const) {
    it(`is refused in a sentence: ${text.slice(0, 70)}`, () => {
      assert.throws(
        () => read(text),
        (error) => error instanceof UserError && message.test(error.message) && !error.message.includes('\n'),
      )
    })
  }
})

describe('a price file', () => {
  it('that ships is readable, and has the figures of the claims', () => {
    const { items } = readPrices(PRICE_FILE)
    for (const item of ['public_internet', 'privatelink', 'cloud_tuned', 'own_hardware'])
      assert.ok(items.has(item), item)
    for (const [item, { source }] of items)
      assert.match(source, /^https:\/\/|^third party, check at .*: https:|^example, edit me: /, item)
  })

  it('whose item names no source says so', () => {
    const { items } = readPrices(write('{"items":{"a":{"usdPerMonth":1}}}'))
    assert.deepEqual(items.get('a'), { usdPerMonth: 1, source: 'the price file names no source' })
  })

  for (const [text, message] of [
    ['x', /is not JSON/],
    ['{}', /has no items/],
    ['{"items":{"a":{"usdPerMonth":-1}}}', /a\.usdPerMonth is not a number/],
    ['{"items":{"a":null}}', /a\.usdPerMonth is not a number/],
  ] as const) {
    it(`is refused in a sentence: ${text}`, () => {
      assert.throws(
        () => readPrices(write(text)),
        (error) => error instanceof UserError && message.test(error.message),
      )
    })
  }
})
