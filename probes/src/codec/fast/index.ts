/** FAST 1.1: templates, encoder, decoder. */
export { FAST_LIMITS, FastDecoder } from './decoder.ts'
export { FastEncoder } from './encoder.ts'
export {
  compileTemplates,
  type FastMessage,
  type FastObject,
  type FastValue,
  fromObject,
  type InstructionDefinition,
  type OperatorDefinition,
  type TemplateDefinition,
  type Templates,
  toObject,
} from './template.ts'
export type { FastDecimal, FastInteger, FastPrimitive } from './value.ts'
export { parseTemplates } from './xml.ts'
