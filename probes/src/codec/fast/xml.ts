/**
 * Reads FAST templates in the XML form exchanges publish them in (FAST 1.1, appendix 1): elements, attributes,
 * comments and the five predefined entities. No document type, no processing instruction but the first, no namespaces
 * beyond dropping a prefix, and no text: templates have none.
 */
import { FastError } from '../error.ts'
import {
  FAST_OPERATORS,
  type GroupDefinition,
  type InstructionDefinition,
  type OperatorDefinition,
  type SequenceDefinition,
  type TemplateDefinition,
} from './template.ts'
import { FAST_TYPES, type FastType } from './value.ts'

/** Longest text read, characters: the largest published sets have some hundred templates. */
const TEXT_MAX = 4 * 1024 * 1024
/** Deepest nesting read. */
const DEPTH_MAX = 32

interface Element {
  readonly tag: string
  readonly attributes: ReadonlyMap<string, string>
  readonly children: Element[]
}

/** @throws FastError `S1` when the text is not of that form */
export function parseTemplates(xml: string): TemplateDefinition[] {
  if (xml.length > TEXT_MAX) throw new FastError('LIMIT', '', `the templates are longer than ${TEXT_MAX} characters`)
  const root = parseElement(xml)
  if (root.tag === 'template') return [toTemplate(root, undefined)]
  if (root.tag !== 'templates') throw invalid(`<${root.tag.slice(0, 40)}> where templates were awaited`)
  return childrenOf(root, 'template').map((element) => toTemplate(element, root.attributes.get('dictionary')))
}

const TOKEN =
  /<!--[\s\S]*?-->|<\?xml[^>]*\?>|<(\/?)([A-Za-z_][\w.-]*(?::[\w.-]+)?)((?:\s+[\w.:-]+\s*=\s*(?:"[^"<]*"|'[^'<]*'))*)\s*(\/?)>/y
const ATTRIBUTE = /([\w.:-]+)\s*=\s*(?:"([^"]*)"|'([^']*)')/g
const ENTITIES: Readonly<Record<string, string>> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" }

function parseElement(xml: string): Element {
  const top: Element = { tag: '', attributes: new Map(), children: [] }
  const open = [top]
  let at = 0
  for (;;) {
    while (/\s/.test(xml[at] ?? '')) at++
    if (at === xml.length) break
    TOKEN.lastIndex = at
    const match = TOKEN.exec(xml)
    if (match === null) throw invalid(`text or markup that templates do not have, at character ${at}`)
    at = TOKEN.lastIndex
    const [, closing, name, attributes = '', empty] = match
    if (name === undefined) continue
    const tag = name.slice(name.indexOf(':') + 1)
    const parent = open.at(-1) as Element
    if (closing === '/') {
      if (open.length === 1 || parent.tag !== tag || attributes !== '') throw invalid(`</${tag}> ends no element`)
      open.pop()
    } else {
      const element = { tag, attributes: parseAttributes(attributes), children: [] }
      parent.children.push(element)
      if (empty === '/') continue
      open.push(element)
      if (open.length > DEPTH_MAX) throw invalid(`elements nested more than ${DEPTH_MAX} deep`)
    }
  }
  const [root, ...more] = top.children
  if (open.length > 1 || root === undefined || more.length > 0) throw invalid('not one whole element')
  return root
}

function parseAttributes(text: string): Map<string, string> {
  const attributes = new Map<string, string>()
  for (const [, name = '', double, single] of text.matchAll(ATTRIBUTE)) {
    if (attributes.has(name)) throw invalid(`attribute ${name} comes twice`)
    attributes.set(
      name,
      (double ?? single ?? '').replaceAll(/&(\w*);?/g, (entity, key: string) => {
        const character = entity.endsWith(';') ? ENTITIES[key] : undefined
        if (character === undefined) throw invalid(`unknown entity ${entity.slice(0, 40)}`)
        return character
      }),
    )
  }
  return attributes
}

function toTemplate(element: Element, inherited: string | undefined): TemplateDefinition {
  const dictionary = element.attributes.get('dictionary') ?? inherited
  const typeRef = element.children.find(({ tag }) => tag === 'typeRef')?.attributes.get('name')
  const id = element.attributes.get('id') ?? ''
  if (!/^\d{1,10}$/.test(id)) throw invalid(`template ${nameOf(element)} has no number as its id`)
  return {
    id: Number(id),
    name: nameOf(element),
    ...(dictionary === undefined ? {} : { dictionary }),
    ...(typeRef === undefined ? {} : { typeRef }),
    instructions: toInstructions(element),
  }
}

function toInstructions(parent: Element): InstructionDefinition[] {
  return parent.children.filter(({ tag }) => tag !== 'typeRef' && tag !== 'length').map(toInstruction)
}

function toInstruction(element: Element): InstructionDefinition {
  const { tag, attributes } = element
  if (tag === 'templateRef') {
    const name = attributes.get('name')
    return name === undefined ? { type: 'templateRef' } : { type: 'templateRef', name }
  }
  const presence = attributes.get('presence') ?? 'mandatory'
  if (presence !== 'mandatory' && presence !== 'optional') throw invalid(`presence '${presence.slice(0, 40)}'`)
  const common = { name: nameOf(element), optional: presence === 'optional' }
  if (tag === 'group' || tag === 'sequence') {
    const dictionary = attributes.get('dictionary')
    const length = tag === 'sequence' ? element.children.find((child) => child.tag === 'length') : undefined
    const definition: GroupDefinition | SequenceDefinition = {
      type: tag,
      ...common,
      ...(dictionary === undefined ? {} : { dictionary }),
      ...(length === undefined ? {} : { length: toLength(length) }),
      instructions: toInstructions(element),
    }
    return definition
  }
  const type = tag === 'string' ? (attributes.get('charset') ?? 'ascii') : tag
  if (!FAST_TYPES.includes(type as FastType) || (tag !== 'string' && (type === 'ascii' || type === 'unicode')))
    throw invalid(`<${type.slice(0, 40)}> is no field`)
  const part = (which: 'exponent' | 'mantissa') => {
    const child = element.children.find((candidate) => candidate.tag === which)
    const operator = child === undefined ? undefined : toOperator(child)
    return operator === undefined ? {} : { [which]: operator }
  }
  const operator = toOperator(element)
  return {
    type: type as FastType,
    ...common,
    ...(operator === undefined ? {} : { operator }),
    ...part('exponent'),
    ...part('mantissa'),
  }
}

function toLength(element: Element): NonNullable<SequenceDefinition['length']> {
  const name = element.attributes.get('name')
  const operator = toOperator(element)
  return { ...(name === undefined ? {} : { name }), ...(operator === undefined ? {} : { operator }) }
}

function toOperator(parent: Element): OperatorDefinition | undefined {
  const operators = parent.children.filter(({ tag }) => !['length', 'exponent', 'mantissa'].includes(tag))
  const [element] = operators
  if (element === undefined) return undefined
  const { tag, attributes } = element
  const operator = FAST_OPERATORS.find((candidate) => candidate !== 'none' && candidate === tag)
  if (operators.length > 1 || operator === undefined || operator === 'none')
    throw invalid(`<${tag.slice(0, 40)}> is no operator, or not the only one`)
  const value = attributes.get('value')
  const key = attributes.get('key')
  const dictionary = attributes.get('dictionary')
  return {
    operator,
    ...(value === undefined ? {} : { value }),
    ...(key === undefined ? {} : { key }),
    ...(dictionary === undefined ? {} : { dictionary }),
  }
}

function childrenOf({ tag, children }: Element, only: string): Element[] {
  const other = children.find((child) => child.tag !== only)
  if (other !== undefined) throw invalid(`<${other.tag.slice(0, 40)}> inside <${tag}>`)
  return children
}

function nameOf({ tag, attributes }: Element): string {
  const name = attributes.get('name')
  if (name === undefined || name === '') throw invalid(`<${tag}> has no name`)
  return name
}

function invalid(what: string): FastError {
  return new FastError('S1', '', `templates: ${what}`)
}
