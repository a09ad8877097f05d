/**
 * The worked examples of the FAST 1.1 specification (version 1.x.1, 2006-12-20), appendix 3, each both ways: what it
 * prints as input becomes the bytes it prints, and those bytes become the input again. Templates are in its own XML.
 *
 * A field alone is not a message: what precedes it here is a presence map (whose first bit is the template
 * identifier's) and, in the first message of a stream, the identifier 1 (0x81).
 *
 * Where the document contradicts itself the test says so and follows its normative text:
 * - 3.1.1.6 prints 0x73 0x3f 0xff for -8193, its own binary column beside it 01111111 …, which is 0x7f
 * - 3.1.5.8 the same for -8.193
 * - 3.2.3.2 encodes an absent optional copy without previous value as NULL; §6.3.5 makes a zero bit say so
 * - 3.2.6.3 increments the mantissa of an optional decimal in its first row (0xa4), not in its second; §10.5.1 makes it a
 *   mandatory integer
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { FastError, type FastErrorCode } from '../../src/codec/error.ts'
import {
  compileTemplates,
  FastDecoder,
  FastEncoder,
  type FastObject,
  fromObject,
  parseTemplates,
  toObject,
} from '../../src/codec/fast/index.ts'

const hex = (text: string) => Uint8Array.from(Buffer.from(text.replaceAll(/\s/g, ''), 'hex'))
const text = (bytes: Uint8Array) =>
  Buffer.from(bytes)
    .toString('hex')
    .replaceAll(/(..)(?!$)/g, '$1 ')

const templatesOf = (field: string) =>
  compileTemplates(parseTemplates(`<templates><template name="Example" id="1">${field}</template></templates>`))

/** @param messages fields by name, and the message's bytes behind the presence map and the template identifier */
function stream(field: string, messages: readonly (readonly [fields: FastObject, map: string, body: string])[]) {
  const templates = templatesOf(field)
  const encoder = new FastEncoder(templates)
  const decoder = new FastDecoder(templates)
  const into = new Uint8Array(64)
  for (const [index, [fields, map, body]] of messages.entries()) {
    // First bit: the template identifier, present in the first message only. Bits of the field follow it.
    const bits = `${index === 0 ? 1 : 0}${map}`
    const bytes = hex(
      `${(0x80 | Number.parseInt(bits.padEnd(7, '0'), 2)).toString(16)} ${index === 0 ? '81' : ''} ${body}`,
    )
    const end = encoder.encode(fromObject(templates, 1, fields), into)
    assert.equal(text(into.subarray(0, end)), text(bytes), `encoding message ${index}`)
    assert.deepEqual(toObject(templates, decoder.decode(bytes)), fields, `decoding message ${index}`)
    assert.equal(decoder.position, bytes.length)
  }
}

function refusesToEncode(field: string, fields: FastObject, code: FastErrorCode) {
  const templates = templatesOf(field)
  assert.throws(
    () => new FastEncoder(templates).encode(fromObject(templates, 1, fields), new Uint8Array(64)),
    (error) => error instanceof FastError && error.code === code,
  )
}

/** Fields without an operator: value and bytes, no bit of the presence map. */
const single = (field: string, value: FastObject[string] | undefined, body: string) =>
  stream(field, [[value === undefined ? {} : { Value: value }, '', body]])

const decimal = (mantissa: number, exponent: number) => ({ exponent, mantissa })

describe('FAST 1.1 appendix 3.1, data types', () => {
  const int32 = (presence: string) => `<int32 id="1" presence="${presence}" name="Value"/>`
  const uInt32 = (presence: string) => `<uInt32 id="1" presence="${presence}" name="Value"/>`
  const string = (presence: string) => `<string id="1" presence="${presence}" name="Value"/>`
  const byteVector = (presence: string) => `<byteVector id="1" presence="${presence}" name="Value"/>`
  const decimals = (presence: string) => `<decimal id="1" presence="${presence}" name="Value"/>`
  const abc = hex('41 42 43')

  it('3.1.1 encodes signed integers', () => {
    single(int32('optional'), 942755, '39 45 a4')
    single(int32('mandatory'), 942755, '39 45 a3')
    single(int32('optional'), -942755, '46 3a dd')
    single(int32('mandatory'), -7942755, '7c 1b 1b 9d')
    single(int32('mandatory'), 8193, '00 40 81')
    single(int32('mandatory'), -8193, '7f 3f ff')
  })

  it('3.1.2 encodes unsigned integers', () => {
    single(uInt32('optional'), undefined, '80')
    single(uInt32('optional'), 0, '81')
    single(uInt32('optional'), 1, '82')
    single(uInt32('optional'), 942755, '39 45 a4')
    single(uInt32('mandatory'), 0, '80')
    single(uInt32('mandatory'), 1, '81')
    single(uInt32('mandatory'), 942755, '39 45 a3')
  })

  it('3.1.3 encodes ASCII strings', () => {
    single(string('optional'), undefined, '80')
    single(string('optional'), 'ABC', '41 42 c3')
    single(string('optional'), '', '00 80')
    single(string('mandatory'), 'ABC', '41 42 c3')
    single(string('mandatory'), '', '80')
  })

  it('3.1.4 encodes byte vectors', () => {
    single(byteVector('optional'), undefined, '80')
    single(byteVector('optional'), abc, '84 41 42 43')
    single(byteVector('optional'), hex(''), '81')
    single(byteVector('mandatory'), abc, '83 41 42 43')
    single(byteVector('mandatory'), hex(''), '80')
  })

  it('3.1.5 encodes decimals', () => {
    single(decimals('mandatory'), decimal(942755, 2), '82 39 45 a3')
    single(decimals('mandatory'), decimal(9427550, 1), '81 04 3f 34 de')
    single(decimals('optional'), decimal(942755, 2), '83 39 45 a3')
    single(decimals('optional'), decimal(9427550, 1), '82 04 3f 34 de')
    single(decimals('mandatory'), decimal(942755, -2), 'fe 39 45 a3')
    single(decimals('optional'), decimal(-942755, -2), 'fe 46 3a dd')
    stream('<decimal id="1" presence="optional" name="Value"> <copy/> </decimal>', [
      [{ Value: decimal(942755, -2) }, '1', 'fe 39 45 a3'],
    ])
    stream(
      `<decimal id="1" presence="optional" name="Value">
         <exponent> <copy/> </exponent>
         <mantissa> <delta/> </mantissa>
       </decimal>`,
      [[{ Value: decimal(942755, -2) }, '1', 'fe 39 45 a3']],
    )
    single(decimals('optional'), decimal(-8193, -3), 'fd 7f 3f ff')
  })
})

describe('FAST 1.1 appendix 3.2, operators', () => {
  it('3.2.1 never transfers a constant', () => {
    const mandatory = '<uInt32 id="1" presence="mandatory" name="Flag"> <constant value="0"/> </uInt32>'
    stream(mandatory, [[{ Flag: 0 }, '', '']])
    refusesToEncode(mandatory, { Flag: 99 }, 'CONSTANT')
    refusesToEncode(mandatory, {}, 'MISSING')
    stream('<uInt32 id="1" presence="optional" name="Flag"> <constant value="0"/> </uInt32>', [
      [{ Flag: 0 }, '1', ''],
      [{}, '0', ''],
    ])
  })

  it('3.2.2 leaves a default out of the stream', () => {
    stream('<uInt32 id="1" presence="mandatory" name="Flag"> <default value="0"/> </uInt32>', [
      [{ Flag: 0 }, '0', ''],
      [{ Flag: 1 }, '1', '81'],
    ])
    stream('<uInt32 id="1" presence="optional" name="Flag"> <default/> </uInt32>', [[{}, '0', '']])
  })

  it('3.2.3 copies the previous value', () => {
    stream('<string id="1" presence="mandatory" name="Flag"> <copy/> </string>', [
      [{ Flag: 'CME' }, '1', '43 4d c5'],
      [{ Flag: 'CME' }, '0', ''],
      [{ Flag: 'ISE' }, '1', '49 53 c5'],
    ])
    const optional = '<string id="1" presence="optional" name="Flag"> <copy/> </string>'
    stream(optional, [
      [{}, '0', ''],
      [{}, '0', ''],
      [{ Flag: 'CME' }, '1', '43 4d c5'],
      [{}, '1', '80'],
      [{}, '0', ''],
    ])
    // As printed, with an explicit NULL first: an encoder may say so, a decoder must understand it.
    const templates = templatesOf(optional)
    const decoder = new FastDecoder(templates)
    const decoded = ['e0 81 80', '80', 'a0 43 4d c5'].map((bytes) => toObject(templates, decoder.decode(hex(bytes))))
    assert.deepEqual(decoded, [{}, {}, { Flag: 'CME' }])
  })

  it('3.2.4 increments the previous value', () => {
    stream('<uInt32 id="1" presence="mandatory" name="Flag"> <increment value="1"/> </uInt32>', [
      [{ Flag: 1 }, '0', ''],
      [{ Flag: 2 }, '0', ''],
      [{ Flag: 4 }, '1', '84'],
      [{ Flag: 5 }, '0', ''],
    ])
  })

  it('3.2.5 sends the difference to the previous value', () => {
    stream('<int32 id="1" presence="mandatory" name="Price"> <delta/> </int32>', [
      [{ Price: 942755 }, '', '39 45 a3'],
      [{ Price: 942750 }, '', 'fb'],
      [{ Price: 942745 }, '', 'fb'],
      [{ Price: 942745 }, '', '80'],
    ])
    stream('<decimal id="1" presence="mandatory" name="Price"> <delta/> </decimal>', [
      [{ Price: decimal(942755, -2) }, '', 'fe 39 45 a3'],
      [{ Price: decimal(942751, -2) }, '', '80 fc'],
      [{ Price: decimal(942746, -2) }, '', '80 fb'],
    ])
    stream('<decimal id="1" presence="mandatory" name="Price"> <delta value="12000"/> </decimal>', [
      [{ Price: decimal(1210, 1) }, '', 'fe 09 ae'],
      [{ Price: decimal(1215, 1) }, '', '80 85'],
      [{ Price: decimal(1220, 1) }, '', '80 85'],
    ])
    stream('<string id="1" presence="mandatory" name="Security"> <delta/> </string>', [
      [{ Security: 'GEH6' }, '', '80 47 45 48 b6'],
      [{ Security: 'GEM6' }, '', '82 4d b6'],
      [{ Security: 'ESM6' }, '', 'fd 45 d3'],
      [{ Security: 'RSESM6' }, '', 'ff 52 d3'],
    ])
  })

  it('3.2.6 gives exponent and mantissa a bit each, the mantissa only when there is an exponent', () => {
    stream(
      `<decimal id="1" presence="optional" name="Value">
         <exponent> <copy/> </exponent>
         <mantissa> <copy/> </mantissa>
       </decimal>`,
      [
        [{ Value: decimal(942755, -2) }, '11', 'fe 39 45 a3'],
        [{ Value: decimal(942760, -2) }, '01', '39 45 a8'],
        [{}, '1', '80'],
      ],
    )
  })
})

describe('FAST 1.1 section 10, further figures of the text', () => {
  it('10.6.1 lets a nullable integer need one bit more than its type', () => {
    single('<uInt32 presence="optional" name="Value"/>', 4294967295, '10 00 00 00 80')
    single('<uInt64 presence="optional" name="Value"/>', 2n ** 64n - 1n, '02 00 00 00 00 00 00 00 00 80')
  })

  it('10.6.1.1 extends the sign of 64', () => {
    single('<int32 name="Value"/>', 64, '00 c0')
    single('<int32 name="Value"/>', -64, 'c0')
    single('<int64 name="Value"/>', -(2n ** 63n), '7f 00 00 00 00 00 00 00 00 80')
    single('<int64 name="Value"/>', 2n ** 63n - 1n, '00 7f 7f 7f 7f 7f 7f 7f 7f ff')
  })

  it('10.6.3 tells empty, NULL and NUL apart by zero-preambles', () => {
    single('<string name="Value"/>', '', '80')
    single('<string name="Value"/>', '\0', '00 80')
    single('<string name="Value" presence="optional"/>', undefined, '80')
    single('<string name="Value" presence="optional"/>', '', '00 80')
    single('<string name="Value" presence="optional"/>', '\0', '00 00 80')
  })

  it('6.3.7.1 needs a delta wider than its field', () => {
    stream('<uInt32 name="Value"><delta/></uInt32>', [
      [{ Value: 4294967295 }, '', '0f 7f 7f 7f ff'],
      [{ Value: 17 }, '', '70 00 00 00 92'],
    ])
  })

  it('6.3.8 sends the tail that differs (the document has no example of it)', () => {
    stream('<string name="ISIN"><tail value="US001"/></string>', [
      [{ ISIN: 'US001' }, '0', ''],
      [{ ISIN: 'US025' }, '1', '32 b5'],
      [{ ISIN: 'US165' }, '1', '31 36 b5'],
      [{ ISIN: 'UK0001' }, '1', '55 4b 30 30 30 b1'],
    ])
    refusesToEncode('<string name="ISIN"><tail value="US001"/></string>', { ISIN: 'US' }, 'D3')
  })
})
