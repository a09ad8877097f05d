/**
 * FAST 1.1 templates: how people write them, and what the codec makes of them once, before the first message.
 *
 * A message is its template's id and its values by position, in the order of the template; `toObject` and `fromObject`
 * translate to and from names. Position instead of name is what lets the decoder fill a plain array.
 *
 * Names may repeat in different templates; previous values are shared by (dictionary, key) as §6.3.1 says. Not here:
 * namespaces, types other than the application's one (`typeRef` only names a dictionary scope), conversion between
 * types (§8), and blocks (§10).
 */
import { FastError } from '../error.ts'
import { FAST_TYPES, type FastPrimitive, type FastType, parseInitialValue, TYPE } from './value.ts'

export const FAST_OPERATORS = ['none', 'constant', 'default', 'copy', 'increment', 'delta', 'tail'] as const
export type FastOperator = (typeof FAST_OPERATORS)[number]

/** Place of each operator in `FAST_OPERATORS`: what the codec switches on. */
export const OPERATOR = {
  none: 0,
  constant: 1,
  default: 2,
  copy: 3,
  increment: 4,
  delta: 5,
  tail: 6,
} as const satisfies Record<FastOperator, number>

export interface OperatorDefinition {
  readonly operator: Exclude<FastOperator, 'none'>
  /** Initial value, as a template writes it. */
  readonly value?: string
  /** Name of the previous value; the field's name when absent. */
  readonly key?: string
  /** `global`, `template`, `type` or a name; of the nearest enclosing instruction when absent. */
  readonly dictionary?: string
}

export interface FieldDefinition {
  readonly type: FastType
  readonly name: string
  readonly optional?: boolean
  readonly operator?: OperatorDefinition
  /** Decimals only, instead of `operator`: one for each part. */
  readonly exponent?: OperatorDefinition
  readonly mantissa?: OperatorDefinition
}

export interface SequenceDefinition {
  readonly type: 'sequence'
  readonly name: string
  readonly optional?: boolean
  readonly dictionary?: string
  readonly length?: { readonly name?: string; readonly operator?: OperatorDefinition }
  readonly instructions: readonly InstructionDefinition[]
}

export interface GroupDefinition {
  readonly type: 'group'
  readonly name: string
  readonly optional?: boolean
  readonly dictionary?: string
  readonly instructions: readonly InstructionDefinition[]
}

/** With a name: that template's instructions stand here. Without: a message of any template follows here. */
export interface TemplateReference {
  readonly type: 'templateRef'
  readonly name?: string
}

export type InstructionDefinition = FieldDefinition | SequenceDefinition | GroupDefinition | TemplateReference

export interface TemplateDefinition {
  readonly id: number
  readonly name: string
  readonly dictionary?: string
  /** Application type: the scope of the dictionary `type`. */
  readonly typeRef?: string
  readonly instructions: readonly InstructionDefinition[]
}

/** Values by position: primitives, rows of a sequence, values of a group, a message for a dynamic reference. */
export type FastValue = FastPrimitive | FastValue[] | FastValue[][] | FastMessage | undefined

export interface FastMessage {
  readonly templateId: number
  values: FastValue[]
}

/** Kinds of instruction. */
export const KIND = { field: 0, parts: 1, sequence: 2, group: 3, dynamic: 4 } as const

/** A primitive, or a part of one. Every compiled instruction is of this shape, so that the codec's loops stay fast. */
export interface Instruction {
  readonly kind: number
  readonly name: string
  readonly type: number
  readonly operator: number
  readonly optional: boolean
  /** Whether it uses a bit of the presence map itself. */
  readonly bit: boolean
  readonly initial: FastPrimitive | undefined
  /** Entry of its previous value; 0, the template identifier's, when it has none. */
  readonly slot: number
  /** Of `parts`: exponent and mantissa. Of `sequence`: the length first. */
  readonly first: Instruction | undefined
  readonly second: Instruction | undefined
  /** Of `sequence` and `group`. */
  readonly segment: Segment | undefined
}

export interface Segment {
  readonly instructions: readonly Instruction[]
  /** Longest presence map it can have, bytes; 0 when it has none. */
  readonly mapBytes: number
  /** As many absent values as instructions: copied, it is an array that never has to change its kind or grow. */
  readonly blank: readonly FastValue[]
}

export interface Template {
  readonly id: number
  readonly name: string
  readonly body: Segment
}

export interface Templates {
  readonly byId: ReadonlyMap<number, Template>
  readonly slots: number
}

/** Entry 0 belongs to the template identifier (§10). */
const TEMPLATE_ID_SLOT = 0

/** One literal for all instructions, so that the codec's loops see one shape. */
function createInstruction(given: Partial<Instruction> & Pick<Instruction, 'kind' | 'name'>): Instruction {
  return {
    kind: given.kind,
    name: given.name,
    type: given.type ?? TYPE.uInt32,
    operator: given.operator ?? OPERATOR.none,
    optional: given.optional ?? false,
    bit: given.bit ?? false,
    initial: given.initial,
    slot: given.slot ?? TEMPLATE_ID_SLOT,
    first: given.first,
    second: given.second,
    segment: given.segment,
  }
}

export const TEMPLATE_ID = createInstruction({
  kind: KIND.field,
  name: 'template identifier',
  operator: OPERATOR.copy,
  bit: true,
})

/** Static references inside static references; more is a circle. */
const REFERENCE_DEPTH_MAX = 16

/** Types each operator can be used with (§6.3); the others take every type. */
const APPLICABLE: Partial<Record<FastOperator, readonly FastType[]>> = {
  increment: ['int32', 'uInt32', 'int64', 'uInt64'],
  tail: ['ascii', 'unicode', 'byteVector'],
}

/** @throws FastError `S2`, `S3`, `S4`, `S5` for what a template may not say, `D8` for a reference to no template */
export function compileTemplates(definitions: readonly TemplateDefinition[]): Templates {
  const compiler = new Compiler(definitions)
  const byId = new Map<number, Template>()
  for (const definition of definitions) {
    const { id, name } = definition
    if (!Number.isInteger(id) || id < 0 || id > 2 ** 32 - 1) throw new FastError('S1', name, `template id is ${id}`)
    if (byId.has(id)) throw new FastError('S1', name, `template id ${id} is taken`)
    byId.set(id, { id, name, body: compiler.message(definition) })
  }
  return { byId, slots: compiler.slots }
}

/** Where an instruction stands: what its operators inherit. */
interface Scope {
  readonly template: string
  readonly typeRef: string
  readonly dictionary: string
  readonly depth: number
}

class Compiler {
  readonly #byName = new Map<string, TemplateDefinition>()
  readonly #slots = new Map<string, number>()

  constructor(definitions: readonly TemplateDefinition[]) {
    for (const definition of definitions) {
      if (this.#byName.has(definition.name)) throw new FastError('S1', definition.name, 'two templates of this name')
      this.#byName.set(definition.name, definition)
    }
  }

  get slots(): number {
    return this.#slots.size + TEMPLATE_ID_SLOT + 1
  }

  message(definition: TemplateDefinition): Segment {
    // One bit more than the instructions use: the template identifier's.
    return this.#segment(this.#instructions(definition.instructions, scopeOf(definition, 0)), 1)
  }

  #instructions(definitions: readonly InstructionDefinition[], scope: Scope): Instruction[] {
    return definitions.flatMap((definition): Instruction[] => {
      switch (definition.type) {
        case 'sequence':
          return [this.#sequence(definition, scope)]
        case 'group':
          return [this.#group(definition, scope)]
        case 'templateRef':
          return this.#reference(definition, scope)
        default:
          return [this.#field(definition, scope)]
      }
    })
  }

  #segment(instructions: Instruction[], extraBits = 0): Segment {
    const bits = extraBits + instructions.reduce((sum, instruction) => sum + bitsOf(instruction), 0)
    return { instructions, mapBytes: Math.ceil(bits / 7), blank: instructions.map(() => undefined) }
  }

  #field(definition: FieldDefinition, scope: Scope): Instruction {
    const { type, name, optional = false, operator, exponent, mantissa } = definition
    if (exponent === undefined && mantissa === undefined)
      return this.#primitive(name, name, type, optional, operator, scope)
    if (type !== 'decimal' || operator !== undefined)
      throw new FastError('S2', name, 'only a decimal without an operator of its own has operators for its parts')
    // A name with a NUL cannot be written in a template: the parts' own keys never collide with a field's.
    const part = (which: string, partType: FastType, partOptional: boolean, partOperator?: OperatorDefinition) =>
      this.#primitive(name, `${name}\0${which}`, partType, partOptional, partOperator, scope)
    return createInstruction({
      kind: KIND.parts,
      name,
      optional,
      type: TYPE.decimal,
      first: part('exponent', 'int32', optional, exponent),
      second: part('mantissa', 'int64', false, mantissa),
    })
  }

  #primitive(
    name: string,
    defaultKey: string,
    typeName: FastType,
    optional: boolean,
    definition: OperatorDefinition | undefined,
    scope: Scope,
  ): Instruction {
    const operatorName = definition?.operator ?? 'none'
    const type = TYPE[typeName]
    const operator = OPERATOR[operatorName]
    if (type === undefined || operator === undefined)
      throw new FastError('S1', name, `unknown type ${typeName} or operator ${operatorName}`)
    const applicable = APPLICABLE[operatorName]
    if (applicable !== undefined && !applicable.includes(typeName))
      throw new FastError('S2', name, `operator ${operatorName} does not apply to ${typeName}`)
    const initial = definition?.value === undefined ? undefined : parseInitialValue(definition.value, type, name)
    if (initial === undefined && operator === OPERATOR.constant)
      throw new FastError('S4', name, 'a constant needs a value')
    if (initial === undefined && operator === OPERATOR.default && !optional)
      throw new FastError('S5', name, 'a mandatory default needs a value')
    return createInstruction({
      kind: KIND.field,
      name,
      optional,
      type,
      operator,
      initial,
      bit: operator === OPERATOR.constant ? optional : operator !== OPERATOR.none && operator !== OPERATOR.delta,
      slot: operator > OPERATOR.default ? this.#slot(definition, defaultKey, scope) : TEMPLATE_ID_SLOT,
    })
  }

  #slot(definition: OperatorDefinition | undefined, defaultKey: string, scope: Scope): number {
    const dictionary = definition?.dictionary ?? scope.dictionary
    const owner = dictionary === 'template' ? scope.template : dictionary === 'type' ? scope.typeRef : ''
    const entry = JSON.stringify([dictionary, owner, definition?.key ?? defaultKey])
    const known = this.#slots.get(entry)
    if (known !== undefined) return known
    const slot = this.slots
    this.#slots.set(entry, slot)
    return slot
  }

  #sequence(definition: SequenceDefinition, scope: Scope): Instruction {
    const { name, optional = false, length } = definition
    const inner = { ...scope, dictionary: definition.dictionary ?? scope.dictionary }
    const lengthKey = length?.name ?? `${name}\0length`
    return createInstruction({
      kind: KIND.sequence,
      name,
      optional,
      first: this.#primitive(length?.name ?? name, lengthKey, 'uInt32', optional, length?.operator, inner),
      segment: this.#segment(this.#instructions(definition.instructions, inner)),
    })
  }

  #group(definition: GroupDefinition, scope: Scope): Instruction {
    const { name, optional = false } = definition
    const inner = { ...scope, dictionary: definition.dictionary ?? scope.dictionary }
    return createInstruction({
      kind: KIND.group,
      name,
      optional,
      bit: optional,
      segment: this.#segment(this.#instructions(definition.instructions, inner)),
    })
  }

  #reference({ name }: TemplateReference, scope: Scope): Instruction[] {
    if (name === undefined) return [createInstruction({ kind: KIND.dynamic, name: 'templateRef' })]
    const definition = this.#byName.get(name)
    if (definition === undefined) throw new FastError('D8', name, 'no template of this name')
    if (scope.depth >= REFERENCE_DEPTH_MAX)
      throw new FastError('LIMIT', name, `templates refer to each other more than ${REFERENCE_DEPTH_MAX} deep`)
    return this.#instructions(definition.instructions, scopeOf(definition, scope.depth + 1))
  }
}

function scopeOf({ name, typeRef = 'any', dictionary = 'global' }: TemplateDefinition, depth: number): Scope {
  return { template: name, typeRef, dictionary, depth }
}

/** Bits an instruction can use in the presence map of its own segment. */
function bitsOf({ kind, bit, first, second }: Instruction): number {
  const inner = kind === KIND.parts || kind === KIND.sequence
  return Number(bit) + (inner && first !== undefined ? bitsOf(first) : 0) + (second === undefined ? 0 : bitsOf(second))
}

/** Fields of a message by name; absent ones are left out. */
export interface FastObject {
  [name: string]: FastPrimitive | FastObject | FastObject[]
}

/** For people and tests: values by name. A dynamic reference appears as `templateRef` with its `templateId`. */
export function toObject(templates: Templates, message: FastMessage): FastObject {
  return namesOf(templates, templateOf(templates, message.templateId).body, message.values)
}

function namesOf(templates: Templates, { instructions }: Segment, values: readonly FastValue[]): FastObject {
  const object: FastObject = {}
  for (const [index, { kind, name, segment }] of instructions.entries()) {
    const value = values[index]
    if (value === undefined) continue
    if (kind === KIND.sequence)
      object[name] = (value as FastValue[][]).map((row) => namesOf(templates, segment as Segment, row))
    else if (kind === KIND.group) object[name] = namesOf(templates, segment as Segment, value as FastValue[])
    else if (kind === KIND.dynamic) {
      const inner = value as FastMessage
      object[name] = { templateId: inner.templateId, ...toObject(templates, inner) }
    } else object[name] = value as FastPrimitive
  }
  return object
}

/** The reverse of `toObject`; names that are in no instruction are ignored. */
export function fromObject(templates: Templates, templateId: number, object: FastObject): FastMessage {
  return { templateId, values: valuesOf(templates, templateOf(templates, templateId).body, object) }
}

function valuesOf(templates: Templates, { instructions }: Segment, object: FastObject): FastValue[] {
  return instructions.map(({ kind, name, segment }): FastValue => {
    const value = object[name]
    if (value === undefined) return undefined
    if (kind === KIND.sequence)
      return (value as FastObject[]).map((row) => valuesOf(templates, segment as Segment, row))
    if (kind === KIND.group) return valuesOf(templates, segment as Segment, value as FastObject)
    if (kind === KIND.dynamic) {
      const { templateId, ...fields } = value as FastObject
      return fromObject(templates, templateId as number, fields)
    }
    return value as FastPrimitive
  })
}

export function templateOf({ byId }: Templates, id: number): Template {
  const template = byId.get(id)
  if (template === undefined) throw new FastError('D9', '', `no template has the identifier ${id}`)
  return template
}

/** Name of a compiled type, for messages. */
export function typeName(type: number): FastType {
  return FAST_TYPES[type] as FastType
}
