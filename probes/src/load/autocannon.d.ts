/** The part of autocannon 9.0.0 the cannon uses; it ships no types. Read in its `lib/httpClient.js` and `lib/run.js`. */
declare module 'autocannon' {
  import type { EventEmitter } from 'node:events'
  import type { Socket } from 'node:net'

  /** One connection: reconnects on its own, reads answers, and, left alone, sends again as soon as one is there. */
  interface Client extends EventEmitter {
    conn: Socket
    readonly secure: boolean
    readonly destroyed: boolean
    readonly parser: { reinitialize(type: string): void }
    readonly pipelinedRequests: { clear(): void }
    /** Writes the next request; called by autocannon after a connection was begun and after each answer. */
    _doRequest(): void
    _connect(): void
    _resetConnection(): void
  }

  interface Instance extends EventEmitter {
    stop(): void
  }

  function autocannon(
    options: {
      readonly url: string
      readonly connections: number
      /** Seconds. */
      readonly duration: number
      readonly timeout: number
      /** ms */
      readonly sampleInt: number
      readonly headers: { readonly [name: string]: string }
      readonly setupClient: (client: Client) => void
    },
    done: (error: Error | null) => void,
  ): Instance

  namespace autocannon {
    export type { Client, Instance }
  }
  export default autocannon
}
