/** What the bot's own software costs, as the last runs of the codec and runtime probes left it. */
import { lines, type Panel } from '../panel.ts'
import { series } from '../query.ts'

export function softwareRow(): readonly Panel[] {
  return [
    lines({
      title: 'Order by runtime',
      description:
        'Average time of one order against a simulated venue on the same machine, over all runs the collector holds. client: the own work of the runtime, parsing, deciding, signing, encoding; io: from the write to the answer read, which all of them wait for alike.',
      unit: 's',
      width: 8,
      queries: ['client', 'io'].map((part) => ({
        expr: `sum by (runtime) (${series('tickscope_runtime_order_seconds', '_sum', { part })}) / sum by (runtime) (${series('tickscope_runtime_order_seconds', '_count', { part })})`,
        legend: `{{runtime}} ${part}`,
      })),
    }),
    lines({
      title: 'Messages: cost',
      description:
        'Median time to encode or decode one message, by codec, and to sign one request, by scheme, in the last run of the probe. One thread, messages in the cache: what the codec costs, not what waiting for it does.',
      unit: 's',
      width: 8,
      log: true,
      queries: [
        {
          expr: `max by (codec, message, operation) (${series('tickscope_codec_operation_seconds')})`,
          legend: '{{codec}} {{message}} {{operation}}',
        },
        {
          expr: `max by (scheme) (${series('tickscope_codec_signature_seconds')})`,
          legend: 'sign {{scheme}}',
        },
      ],
    }),
    lines({
      title: 'Messages: size',
      description:
        'Median size of a message on the wire by form, headers and signature included, TLS and below left out.',
      unit: 'bytes',
      width: 8,
      queries: [
        {
          expr: `max by (form, message) (${series('tickscope_codec_message_bytes')})`,
          legend: '{{form}} {{message}}',
        },
      ],
    }),
  ]
}
