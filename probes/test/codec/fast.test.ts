import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { FastError, type FastErrorCode } from '../../src/codec/error.ts'
import {
  compileTemplates,
  FAST_LIMITS,
  FastDecoder,
  FastEncoder,
  type FastMessage,
  type FastPrimitive,
  type FastValue,
  fromObject,
  type InstructionDefinition,
  type OperatorDefinition,
  parseTemplates,
  type TemplateDefinition,
  toObject,
} from '../../src/codec/fast/index.ts'

const hex = (text: string) => Uint8Array.from(Buffer.from(text.replaceAll(/\s/g, ''), 'hex'))
const refuses = (code: FastErrorCode, run: () => unknown) =>
  assert.throws(run, (error) => error instanceof FastError && error.code === code, code)

const templatesOf = (fields: string, attributes = '') =>
  compileTemplates(parseTemplates(`<template name="T" id="1" ${attributes}>${fields}</template>`))

/** Decodes messages of template 1, given as hex of everything. */
function decodeAll(fields: string, ...messages: string[]) {
  const templates = templatesOf(fields)
  const decoder = new FastDecoder(templates)
  return messages.map((message) => toObject(templates, decoder.decode(hex(message))))
}

const encodeOnce = (fields: string, object: Parameters<typeof fromObject>[2], bytes = 64) => {
  const templates = templatesOf(fields)
  return new FastEncoder(templates).encode(fromObject(templates, 1, object), new Uint8Array(bytes))
}

describe('FAST static errors', () => {
  const compile = (fields: string) => () => templatesOf(fields)

  it('refuses templates that are not well-formed or not in the schema (S1)', () => {
    for (const text of [
      '',
      'text',
      '<templates>',
      '<templates></template>',
      '<template name="T" id="1"><int32 name="A"/></template><template name="U" id="2"/>',
      '<template name="T"/>',
      '<template id="1"/>',
      '<template name="T" id="1"><int16 name="A"/></template>',
      '<template name="T" id="1"><int32 name="A" name="B"/></template>',
      '<template name="T" id="1"><int32 name="A" presence="maybe"/></template>',
      '<template name="T" id="1"><int32 name="A"><copy/><delta/></int32></template>',
      '<template name="T" id="1"><string name="A"><copy value="&nope;"/></string></template>',
      '<!DOCTYPE x [<!ENTITY a "b">]><template name="T" id="1"/>',
      `${'<group name="a">'.repeat(100)}`,
      '<templates><template name="T" id="1"/><template name="U" id="1"/></templates>',
      '<templates><template name="T" id="1"/><template name="T" id="2"/></templates>',
      '<templates><int32 name="A"/></templates>',
    ])
      refuses('S1', () => compileTemplates(parseTemplates(text)))
  })

  it('refuses operators that do not apply (S2)', () => {
    refuses('S2', compile('<string name="A"><increment/></string>'))
    refuses('S2', compile('<int32 name="A"><tail/></int32>'))
    refuses('S2', compile('<int32 name="A"><exponent><copy/></exponent></int32>'))
    refuses('S2', compile('<decimal name="A"><copy/><exponent><copy/></exponent></decimal>'))
  })

  it('refuses initial values that are not of the type (S3)', () => {
    refuses('S3', compile('<int32 name="A"><copy value="x"/></int32>'))
    refuses('S3', compile('<uInt32 name="A"><copy value="-1"/></uInt32>'))
    refuses('S3', compile('<int32 name="A"><copy value="2147483648"/></int32>'))
    refuses('S3', compile('<decimal name="A"><copy value="."/></decimal>'))
    refuses('S3', compile('<byteVector name="A"><copy value="123"/></byteVector>'))
    refuses('S3', compile('<string name="A"><copy value="ä"/></string>'))
  })

  it('refuses a constant (S4) and a mandatory default (S5) without a value, and endless references', () => {
    refuses('S4', compile('<int32 name="A"><constant/></int32>'))
    refuses('S5', compile('<int32 name="A"><default/></int32>'))
    refuses('LIMIT', compile('<templateRef name="T"/>'))
    refuses('D8', compile('<templateRef name="Nobody"/>'))
  })

  it('normalises initial decimals', () => {
    const [first] = decodeAll('<decimal name="A"><copy value=" -0012.500 "/></decimal>', 'c0 81')
    assert.deepEqual(first, { A: { exponent: -1, mantissa: -125 } })
  })
})

describe('FAST dynamic and reportable errors', () => {
  it('D1: refuses a value that is not of the field’s type', () => {
    refuses('D1', () => encodeOnce('<int32 name="A"/>', { A: '1' }))
    refuses('D1', () => encodeOnce('<int32 name="A"/>', { A: 1.5 }))
    refuses('D1', () => encodeOnce('<int32 name="A"/>', { A: -0 }))
    refuses('D1', () => encodeOnce('<int64 name="A"/>', { A: 5n }))
    refuses('D1', () => encodeOnce('<string name="A"/>', { A: 1 }))
    refuses('D1', () => encodeOnce('<string charset="unicode" name="A"/>', { A: '\ud800' }))
    refuses('D1', () => encodeOnce('<byteVector name="A"/>', { A: 'AA' }))
    refuses('D1', () => encodeOnce('<decimal name="A"/>', { A: 1 }))
  })

  it('D2: refuses an integer outside its type', () => {
    refuses('D2', () => decodeAll('<uInt32 name="A"/>', 'c0 81 10 00 00 00 80'))
    refuses('D2', () => decodeAll('<int32 name="A"/>', 'c0 81 08 00 00 00 80'))
    refuses('D2', () => decodeAll('<int64 name="A"/>', 'c0 81 01 00 00 00 00 00 00 00 00 80'))
    refuses('D2', () => decodeAll('<uInt64 name="A"/>', `c0 81 ${'7f '.repeat(100)} ff`))
    refuses('D2', () => decodeAll('<byteVector name="A"/>', 'c0 81 10 00 00 00 80'))
  })

  it('D3: refuses a decimal that the operators of its parts cannot say', () => {
    const field = '<decimal name="A"><exponent><constant value="2"/></exponent></decimal>'
    assert.equal(encodeOnce(field, { A: { exponent: 2, mantissa: 1 } }), 3)
    refuses('D3', () => encodeOnce(field, { A: { exponent: -2, mantissa: 1 } }))
  })

  it('D4: refuses a previous value of another type', () => {
    const fields =
      '<int32 name="A"><copy key="k"/></int32><string name="B" presence="optional"><copy key="k"/></string>'
    refuses('D4', () => decodeAll(fields, 'e0 81 81'))
    refuses('D4', () => encodeOnce(fields, { A: 1 }))
  })

  it('D5, D6, D7: refuses mandatory fields with nothing to take a value from', () => {
    refuses('D5', () => decodeAll('<int32 name="A"><copy/></int32>', 'c0 81'))
    refuses('D5', () => decodeAll('<int32 name="A"><increment/></int32>', 'c0 81'))
    const emptied = (operator: string) =>
      `<string name="A" presence="optional"><copy key="k"/></string><string name="B"><${operator} key="k"/></string>`
    refuses('D6', () => decodeAll(emptied('copy'), 'e0 81 80'))
    refuses('D6', () => decodeAll(emptied('delta'), 'e0 81 80 80 80'))
    refuses('D6', () => encodeOnce(emptied('delta'), { B: 'x' }))
    refuses('D7', () => decodeAll(emptied('tail'), 'e0 81 80'))
    refuses('D6', () => decodeAll('<string name="A"><tail/></string>', 'c0 81'))
    refuses('D5', () => decodeAll('', '80'))
  })

  it('D7: refuses to subtract more than there is', () => {
    const field = '<string name="A"><delta value="ab"/></string>'
    assert.deepEqual(decodeAll(field, 'c0 81 82 c3'), [{ A: 'C' }])
    refuses('D7', () => decodeAll(field, 'c0 81 83 c3'))
    refuses('D7', () => decodeAll(field, 'c0 81 fc c3'))
    refuses('D7', () => decodeAll(field, 'c0 81 08 00 00 00 80 c3'))
    refuses('D7', () => decodeAll('<byteVector name="A"><delta/></byteVector>', 'c0 81 81 80'))
  })

  it('D9: refuses an unknown template', () => {
    refuses('D9', () => decodeAll('', 'c0 82'))
    refuses('D9', () => decodeAll('<templateRef/>', 'c0 81 c0 82'))
    refuses('D9', () => new FastEncoder(templatesOf('')).encode({ templateId: 7, values: [] }, new Uint8Array(8)))
  })

  it('R1: refuses decimals out of range', () => {
    refuses('R1', () => decodeAll('<decimal name="A"/>', 'c0 81 00 c0 81'))
    refuses('R1', () => decodeAll('<decimal name="A"/>', 'c0 81 80 01 00 00 00 00 00 00 00 00 80'))
    refuses('R1', () => decodeAll('<decimal name="A"><exponent><copy/></exponent></decimal>', 'e0 81 00 c0 81'))
    refuses('R1', () => decodeAll('<decimal name="A"><delta/></decimal>', 'c0 81 bf 81', '80 81 80'))
    refuses('R1', () => encodeOnce('<decimal name="A"/>', { A: { exponent: 64, mantissa: 1 } }))
  })

  it('R2, R3, R4: refuses bad UTF-8, text that is not ASCII, sums that do not fit', () => {
    refuses('R2', () => decodeAll('<string charset="unicode" name="A"/>', 'c0 81 81 ff'))
    const delta = '<string charset="unicode" name="A"><delta value="ä"/></string>'
    // ä and ö differ in their second byte only.
    assert.deepEqual(decodeAll(delta, 'c0 81 81 81 b6'), [{ A: 'ö' }])
    refuses('R2', () => decodeAll(delta, 'c0 81 81 80'))
    refuses('R3', () => encodeOnce('<string name="A"/>', { A: 'ä' }))
    refuses('R4', () => decodeAll('<uInt32 name="A"><delta/></uInt32>', 'c0 81 ff'))
    refuses('R4', () => decodeAll('<int32 name="A"><delta value="2147483647"/></int32>', 'c0 81 81'))
    refuses('R4', () => encodeOnce('<uInt32 name="A"/>', { A: -1 }))
  })

  it('R6, R7, R8, R9: refuses overlong integers, maps and strings, and maps with bits too many', () => {
    refuses('R6', () => decodeAll('<uInt32 name="A"/>', 'c0 81 00 81'))
    refuses('R6', () => decodeAll('<int32 name="A"/>', 'c0 81 00 81'))
    refuses('R6', () => decodeAll('<int32 name="A"/>', 'c0 81 7f c1'))
    assert.deepEqual(decodeAll('<int32 name="A"/>', 'c0 81 7f 81'), [{ A: -127 }])
    refuses('R7', () => decodeAll('', '40 80 81'))
    refuses('R8', () => decodeAll('', 'e0 81'))
    refuses('R8', () => decodeAll('', '40 81 81'))
    refuses('R9', () => decodeAll('<string name="A"/>', 'c0 81 00 c1'))
    refuses('R9', () => decodeAll('<string name="A" presence="optional"/>', 'c0 81 00 c1'))
    refuses('R9', () => decodeAll('<string name="A" presence="optional"/>', 'c0 81 00 00 c1'))
  })

  it('refuses every message cut short', () => {
    const fields = '<int64 name="A"/><string name="B"/><byteVector name="C"/><decimal name="D"/>'
    const whole = 'c0 81 01 00 00 00 00 00 80 41 c2 82 00 00 81 00 c0'
    assert.equal(decodeAll(fields, whole).length, 1)
    const bytes = hex(whole)
    for (let length = 0; length < bytes.length; length++)
      refuses('TRUNCATED', () => new FastDecoder(templatesOf(fields)).decode(bytes.subarray(0, length)))
  })

  it('refuses to encode into too small a buffer, at every size', () => {
    const fields = '<int64 name="A"/><string name="B"/><byteVector name="C"/>'
    const values = { A: 2n ** 60n, B: 'text', C: hex('00 01') }
    const size = encodeOnce(fields, values)
    for (let bytes = 0; bytes < size; bytes++) refuses('SPACE', () => encodeOnce(fields, values, bytes))
    assert.equal(encodeOnce(fields, values, size), size)
  })

  it('refuses further messages after an error until it is reset', () => {
    const templates = templatesOf('<int32 name="A"><delta/></int32>')
    const decoder = new FastDecoder(templates)
    const encoder = new FastEncoder(templates)
    refuses('TRUNCATED', () => decoder.decode(hex('c0 81')))
    refuses('BROKEN', () => decoder.decode(hex('c0 81 85')))
    decoder.reset()
    assert.deepEqual(decoder.decode(hex('c0 81 85')).values, [5])
    refuses('MISSING', () => encoder.encode({ templateId: 1, values: [] }, new Uint8Array(8)))
    refuses('BROKEN', () => encoder.encode({ templateId: 1, values: [5] }, new Uint8Array(8)))
    encoder.reset()
    assert.equal(encoder.encode({ templateId: 1, values: [5] }, new Uint8Array(8)), 3)
  })
})

describe('FAST limits', () => {
  it('refuses endless sequences of elements that take no byte', () => {
    const empty = '<sequence name="S"><int32 name="A"><constant value="1"/></int32></sequence>'
    assert.deepEqual(decodeAll(empty, 'c0 81 82'), [{ S: [{ A: 1 }, { A: 1 }] }])
    refuses('LIMIT', () => decodeAll(empty, 'c0 81 0f 7f 7f 7f ff'))
    refuses('LIMIT', () => decodeAll(`<sequence name="R">${empty}</sequence>`, `c0 81 82 7f ff 7f ff`))
  })

  it('refuses messages nested without end', () => {
    const nested = (depth: number) => `c0 81 ${'80 '.repeat(depth)}`
    refuses('LIMIT', () => decodeAll('<templateRef/>', nested(FAST_LIMITS.nesting + 1)))
  })

  it('refuses text that deltas grow without end', () => {
    const templates = templatesOf('<string name="A"><delta/></string>')
    const decoder = new FastDecoder(templates)
    const chunk = Uint8Array.from([0x80, 0x80, ...new Uint8Array(8191).fill(0x41), 0xc1])
    decoder.decode(Uint8Array.from([0xc0, 0x81, ...chunk.subarray(1)]))
    refuses('LIMIT', () => {
      for (let messages = 0; messages < 9; messages++) decoder.decode(chunk)
    })
  })
})

describe('FAST structure', () => {
  it('gives each element of a sequence, and each group, the presence map it needs', () => {
    const fields = `
      <sequence name="Entries" presence="optional">
        <length name="NoEntries"><copy/></length>
        <decimal name="Price"><copy/></decimal>
        <uInt32 name="Size"/>
      </sequence>
      <group name="Extra" presence="optional"><string name="Note"/></group>`
    // Map: template, length, group. The second element's price is the first's; the second message's length the first's.
    assert.deepEqual(decodeAll(fields, 'f0 81 83 c0 fe 85 8a 80 8b c8', '80 c0 fe 86 8a 80 8b'), [
      {
        Entries: [
          { Price: { exponent: -2, mantissa: 5 }, Size: 10 },
          { Price: { exponent: -2, mantissa: 5 }, Size: 11 },
        ],
        Extra: { Note: 'H' },
      },
      {
        Entries: [
          { Price: { exponent: -2, mantissa: 6 }, Size: 10 },
          { Price: { exponent: -2, mantissa: 6 }, Size: 11 },
        ],
      },
    ])
  })

  it('keeps previous values by dictionary and key', () => {
    const definitions = parseTemplates(`
      <templates>
        <template name="A" id="1"><uInt32 name="X"><copy/></uInt32></template>
        <template name="B" id="2"><uInt32 name="X" presence="optional"><copy/></uInt32></template>
        <template name="C" id="3" dictionary="template"><uInt32 name="X" presence="optional"><copy/></uInt32></template>
        <template name="D" id="4"><typeRef name="Q"/><uInt32 name="X"><copy dictionary="type"/></uInt32></template>
        <template name="E" id="5"><typeRef name="Q"/><uInt32 name="Y"><copy dictionary="type" key="X"/></uInt32></template>
      </templates>`)
    const templates = compileTemplates(definitions)
    const decoder = new FastDecoder(templates)
    const decode = (bytes: string) => toObject(templates, decoder.decode(hex(bytes)))
    assert.deepEqual(decode('e0 81 87'), { X: 7 })
    assert.deepEqual(decode('c0 82'), { X: 7 }, 'the global dictionary is shared')
    assert.deepEqual(decode('c0 83'), {}, 'that of a template is not')
    assert.deepEqual(decode('e0 84 89'), { X: 9 })
    assert.deepEqual(decode('c0 85'), { Y: 9 }, 'that of a type is shared within the type')
    assert.deepEqual(decode('c0 81'), { X: 7 })
    decoder.reset()
    refuses('D5', () => decode('c0 81'))
  })

  it('puts a static reference’s fields in place and a dynamic one’s message inside', () => {
    const definitions = parseTemplates(`
      <templates>
        <template name="Header" id="1"><uInt32 name="Seq"><increment/></uInt32></template>
        <template name="Outer" id="2"><templateRef name="Header"/><templateRef/><string name="Text"/></template>
      </templates>`)
    const templates = compileTemplates(definitions)
    assert.deepEqual(toObject(templates, new FastDecoder(templates).decode(hex('e0 82 85 c0 81 c1'))), {
      Seq: 5,
      templateRef: { templateId: 1, Seq: 6 },
      Text: 'A',
    })
  })

  it('decodes a packet of several messages, into an earlier message when asked', () => {
    const templates = templatesOf('<sequence name="S"><uInt32 name="A"/></sequence>')
    const decoder = new FastDecoder(templates)
    const packet = hex('c0 81 82 81 82 80 81 83')
    const first = decoder.decode(packet)
    assert.deepEqual(first.values, [[[1], [2]]])
    const rows = first.values[0]
    const second = decoder.decode(packet, decoder.position, packet.length, first)
    assert.equal(second, first)
    assert.equal(second.values[0], rows)
    assert.deepEqual(second.values, [[[3]]])
    assert.equal(decoder.position, packet.length)
  })
})

/** Initial values as a template writes them, few enough that streams repeat them. */
const POOL = {
  int32: ['0', '1', '-1', '64', '-64', '8191', '2147483647', '-2147483648'],
  uInt32: ['0', '1', '127', '128', '4294967295'],
  int64: ['0', '-1', '140737488355328', '-9223372036854775808', '9223372036854775807', '9007199254740993'],
  uInt64: ['0', '1', '281474976710656', '18446744073709551615', '9007199254740992'],
  decimal: ['0', '1.5', '-0.01', '1200', '922337203685477580.7'],
  ascii: ['', 'A', 'ABC', 'ABD', 'XBC', '\0', '\0A'],
  unicode: ['', 'a', 'ä', 'ö', 'äö', '漢'],
  byteVector: ['', '00', '80ff', '80fe', '0080ff'],
} as const
type Primitive = keyof typeof POOL

const primitive = fc.constantFrom(...(Object.keys(POOL) as Primitive[]))

function operatorFor(type: Primitive, optional: boolean): fc.Arbitrary<OperatorDefinition | undefined> {
  const integer = type.includes('nt')
  const text = type === 'ascii' || type === 'unicode' || type === 'byteVector'
  const names = ['constant', 'default', 'copy', 'delta', ...(integer ? ['increment'] : []), ...(text ? ['tail'] : [])]
  return fc.option(
    fc
      .record({
        operator: fc.constantFrom(...(names as OperatorDefinition['operator'][])),
        value: fc.option(fc.constantFrom(...POOL[type]), { nil: undefined }),
        // Keys by type: a clash of types is D4, which has its own test.
        key: fc.option(fc.constantFrom(`${type}-1`, `${type}-2`), { nil: undefined }),
        dictionary: fc.option(fc.constantFrom('global', 'template', 'other'), { nil: undefined }),
      })
      .map(({ operator, value, key, dictionary }) => ({
        operator,
        ...(value === undefined && (operator === 'constant' || (operator === 'default' && !optional))
          ? { value: POOL[type][0] }
          : value === undefined
            ? {}
            : { value }),
        ...(key === undefined ? {} : { key }),
        ...(dictionary === undefined ? {} : { dictionary }),
      })),
    { nil: undefined },
  )
}

const given = <K extends string, V>(key: K, value: V | undefined) =>
  (value === undefined ? {} : { [key]: value }) as { [key in K]?: V }

const field: fc.Arbitrary<InstructionDefinition> = fc
  .tuple(primitive, fc.boolean(), fc.boolean())
  .chain(([type, optional, split]): fc.Arbitrary<InstructionDefinition> => {
    const base = { type, name: '', optional }
    if (type === 'decimal' && split)
      return fc
        .tuple(operatorFor('int32', optional), operatorFor('int64', false))
        .filter(([exponent]) => exponent?.value === undefined || Math.abs(Number(exponent.value)) <= 63)
        .map(([exponent, mantissa]) => ({ ...base, ...given('exponent', exponent), ...given('mantissa', mantissa) }))
    return operatorFor(type, optional).map((operator) => ({ ...base, ...given('operator', operator) }))
  })

const instructions = (depth: number): fc.Arbitrary<InstructionDefinition[]> => {
  const nested = (type: 'group' | 'sequence') =>
    fc.tuple(instructions(depth - 1), fc.boolean(), operatorFor('uInt32', true)).map(
      ([inner, optional, operator]): InstructionDefinition => ({
        type,
        name: '',
        optional,
        instructions: inner,
        // A length that a dictionary implies must not be one of the pool's billions.
        ...(type === 'sequence' && operator !== undefined && operator.operator !== 'constant'
          ? { length: { operator: { operator: operator.operator === 'default' ? 'copy' : operator.operator } } }
          : {}),
      }),
    )
  const one = depth === 0 ? field : fc.oneof({ weight: 4, arbitrary: field }, nested('group'), nested('sequence'))
  return fc.array(one, { minLength: 0, maxLength: 6 })
}

/** Unique names, as an application type has them. */
function named(list: readonly InstructionDefinition[], prefix: string): InstructionDefinition[] {
  return list.map((instruction, index) => {
    const name = `${prefix}${index}`
    return 'instructions' in instruction
      ? { ...instruction, name, instructions: named(instruction.instructions, `${name}.`) }
      : { ...instruction, name }
  })
}

const template = (id: number) =>
  instructions(2).map((list): TemplateDefinition => ({ id, name: `T${id}`, instructions: named(list, `t${id}.`) }))

function initialOf(type: Primitive, value: string): FastPrimitive {
  const templates = compileTemplates([
    { id: 1, name: 'T', instructions: [{ type, name: 'v', operator: { operator: 'constant', value } }] },
  ])
  return new FastDecoder(templates).decode(hex('c0 81')).values[0] as FastPrimitive
}

const big = (min: bigint, max: bigint) =>
  fc
    .bigInt({ min, max })
    .map((value) => (Number.isSafeInteger(Number(value)) && BigInt(Number(value)) === value ? Number(value) : value))

const RANDOM: { [type in Primitive]: fc.Arbitrary<FastPrimitive> } = {
  int32: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
  uInt32: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  int64: big(-(2n ** 63n), 2n ** 63n - 1n),
  uInt64: big(0n, 2n ** 64n - 1n),
  decimal: fc.record(
    { exponent: fc.integer({ min: -63, max: 63 }), mantissa: big(-(2n ** 63n), 2n ** 63n - 1n) },
    { noNullPrototype: true },
  ),
  ascii: fc.string({ unit: 'binary-ascii', maxLength: 12 }),
  unicode: fc.string({ unit: 'grapheme', maxLength: 8 }),
  byteVector: fc.uint8Array({ maxLength: 12 }).map((bytes) => Uint8Array.from(bytes)),
}

function arbitraryOf(definition: InstructionDefinition): fc.Arbitrary<FastValue> {
  if (definition.type === 'templateRef') throw new Error('not generated')
  const { type, optional = false } = definition
  const absent = <T extends FastValue>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<FastValue> =>
    optional ? fc.option(arbitrary, { nil: undefined, freq: 3 }) : arbitrary
  if (type === 'group') return absent(rowOf(definition.instructions))
  if (type === 'sequence') return absent(fc.array(rowOf(definition.instructions), { maxLength: 3 }))
  const { operator } = definition
  if (operator?.operator === 'constant') return absent(fc.constant(initialOf(type, operator.value as string)))
  const pool = fc.constantFrom(...POOL[type].map((text) => initialOf(type, text)))
  return absent(fc.oneof(pool, RANDOM[type]))
}

const rowOf = (list: readonly InstructionDefinition[]) =>
  fc.tuple(...list.map(arbitraryOf)) as fc.Arbitrary<FastValue[]>

/** Two templates and a stream of their messages, some of them preceded by a reset. */
const streams = fc.tuple(template(1), template(2)).chain(([one, two]) =>
  fc.record({
    definitions: fc.constant([one, two]),
    messages: fc.array(
      fc.record({
        reset: fc.boolean(),
        message: fc.oneof(
          ...[one, two].map(({ id, instructions: list }) =>
            rowOf(list).map((values): FastMessage => ({ templateId: id, values })),
          ),
        ),
      }),
      { minLength: 1, maxLength: 8 },
    ),
  }),
)

describe('FAST properties', () => {
  it('decodes to what was encoded, whatever the templates and the stream', () => {
    let decoded = 0
    let refused = 0
    fc.assert(
      fc.property(streams, ({ definitions, messages }) => {
        const templates = compileTemplates(definitions)
        const encoder = new FastEncoder(templates)
        const decoder = new FastDecoder(templates)
        const into = new Uint8Array(16_384)
        let reuse: FastMessage | undefined
        for (const { reset, message } of messages) {
          if (reset) {
            encoder.reset()
            decoder.reset()
          }
          let end: number
          try {
            end = encoder.encode(message, into, 3)
          } catch (error) {
            // What the operators cannot say: a shorter tail, a delta on an emptied value, a part that is constant.
            assert(error instanceof FastError)
            assert(['D3', 'D6'].includes(error.code), error.message)
            encoder.reset()
            decoder.reset()
            refused++
            continue
          }
          reuse = decoder.decode(into, 3, end, reuse)
          assert.equal(decoder.position, end)
          assert.deepEqual(toObject(templates, reuse), toObject(templates, message))
          decoded++
        }
      }),
      { numRuns: 1_500 },
    )
    assert(decoded > 3 * refused, `${decoded} decoded, ${refused} refused`)
  })

  it('answers hostile bytes with a message or a typed error, within the limits', () => {
    fc.assert(
      fc.property(
        streams,
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }),
        fc.uint8Array(),
        (stream, changes, noise) => {
          const templates = compileTemplates(stream.definitions)
          const encoder = new FastEncoder(templates)
          const decoder = new FastDecoder(templates)
          const into = new Uint8Array(16_384)
          const attempt = (bytes: Uint8Array) => {
            try {
              const message = decoder.decode(bytes)
              assert(decoder.position <= bytes.length)
              toObject(templates, message)
            } catch (error) {
              assert(error instanceof FastError, String(error))
              decoder.reset()
            }
          }
          for (const { message } of stream.messages) {
            try {
              const bytes = into.slice(0, encoder.encode(message, into))
              for (const [place, byte] of changes) bytes[place % bytes.length] = byte
              attempt(bytes)
            } catch (error) {
              assert(error instanceof FastError, String(error))
              encoder.reset()
            }
          }
          attempt(noise)
          attempt(Uint8Array.from([0xc0, 0x81, ...noise]))
          attempt(Uint8Array.from([0xff, 0x82, ...noise]))
        },
      ),
      { numRuns: 1_500 },
    )
  })
})
