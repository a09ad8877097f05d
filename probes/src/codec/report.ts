/** The codecs in the collector: medians of the last run, and sizes. */
import type { Agent } from '@tickscope/agent'
import { CODEC_MESSAGES } from '@tickscope/contract'
import type { CodecResult } from './run.ts'

export function reportCodec(agent: Agent, { rows, signing, messages }: CodecResult): void {
  for (const { codec, message, operation, nsPerOp } of rows)
    if (codec !== 'harness' && nsPerOp !== null)
      agent.set(agent.series('tickscope_codec_operation_seconds', { codec, message, operation }), nsPerOp.median / 1e9)
  for (const { name, nsPerOp } of signing)
    if (nsPerOp !== null)
      agent.set(agent.series('tickscope_codec_signature_seconds', { scheme: name }), nsPerOp.median / 1e9)
  for (const message of CODEC_MESSAGES)
    for (const [form, { bytes }] of Object.entries(messages[message]))
      agent.set(agent.series('tickscope_codec_message_bytes', { form, message }), bytes)
}
