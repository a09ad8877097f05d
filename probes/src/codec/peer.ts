/**
 * `jspurefix`, the FIX engine of the npm ecosystem, as a peer in the same run: its parser to a view and to an object,
 * its encoder. Loaded only when asked, because its dictionary takes seconds; a development dependency, so an
 * installation may lack it, and then its rows say so.
 *
 * It is driven as its own benchmark drives it: bytes in, `msg` event out, all in one synchronous call.
 */
import { createRequire } from 'node:module'
import type { FixSession } from './fix.ts'
import type { NewOrder } from './message.ts'

export interface FixPeer {
  readonly version: string
  /** Finds the fields of a message and its structure. @returns how many messages there were */
  parseView(message: Buffer): number
  /** All fields as an object. */
  parseObject(message: Buffer): unknown
  /** The same order, with the fields it insists on. @returns the message */
  encodeOrder(order: NewOrder): Buffer
}

/** What is used of it, so that the rest of its types need not be here. */
interface Module {
  readonly SessionContainer: new () => {
    registerGlobal(logs: unknown): void
    makeSystem(description: unknown): Promise<Container>
  }
  readonly EmptyLogFactory: new () => unknown
  readonly AsciiParser: new (config: Config, stream: null, buffer: unknown, maxLength: number) => Parser
  readonly DITokens: { readonly IJsFixConfig: symbol; readonly ParseBuffer: symbol; readonly MsgTransmitter: symbol }
}
interface Container {
  resolve(token: symbol): unknown
}
interface Config {
  delimiter: number
}
interface Parser {
  on(event: string, listener: (type: string, view: { toObject(): unknown }) => void): void
  parseBuffer(message: Buffer): void
}
interface Transmitter {
  readonly encoder: { trim(): Buffer; reset(): void }
  encodeMessage(type: string, fields: unknown): unknown
}

const SOH = 1
const MESSAGE_BYTES_MAX = 64 * 1024

/** @returns the reason when it cannot be had */
export async function loadPeer({ sender, target }: FixSession): Promise<FixPeer | string> {
  let module: Module
  let version: string
  try {
    const load = createRequire(import.meta.resolve('jspurefix'))
    // Its dependency injection needs this first; it does not load it itself.
    load('reflect-metadata')
    module = load('jspurefix') as Module
    version = (load('jspurefix/package.json') as { version: string }).version
  } catch (error) {
    return `jspurefix cannot be loaded: ${(error as NodeJS.ErrnoException).code ?? (error as Error).message}`
  }
  const system = new module.SessionContainer()
  system.registerGlobal(new module.EmptyLogFactory())
  const container = await system.makeSystem({
    application: {
      reconnectSeconds: 10,
      type: 'initiator',
      name: 'codec',
      // Never connected.
      tcp: { host: '127.0.0.1', port: 9 },
      protocol: 'ascii',
      dictionary: 'qf50sp2',
    },
    Username: '',
    Password: '',
    EncryptMethod: 0,
    ResetSeqNumFlag: true,
    HeartBtInt: 30,
    SenderCompId: sender,
    TargetCompID: target,
    BeginString: 'FIXT.1.1',
  })
  const config = container.resolve(module.DITokens.IJsFixConfig) as Config
  config.delimiter = SOH
  const createParser = (listener: (view: { toObject(): unknown }) => void) => {
    const buffer = container.resolve(module.DITokens.ParseBuffer)
    const parser = new module.AsciiParser(config, null, buffer, MESSAGE_BYTES_MAX)
    parser.on('msg', (_type, view) => listener(view))
    parser.on('error', () => {})
    return parser
  }
  let messages = 0
  let object: unknown
  const viewParser = createParser(() => messages++)
  const objectParser = createParser((view) => (object = view.toObject()))
  const transmitter = container.resolve(module.DITokens.MsgTransmitter) as Transmitter
  return {
    version,
    parseView(message) {
      viewParser.parseBuffer(message)
      return messages
    },
    parseObject(message) {
      objectParser.parseBuffer(message)
      return object
    },
    encodeOrder(order) {
      transmitter.encoder.reset()
      transmitter.encodeMessage('D', {
        ClOrdID: order.clientOrderId,
        ExecInst: order.postOnly ? '6' : undefined,
        OrderQtyData: { OrderQty: order.countHundredths / 100 },
        OrdType: '2',
        Price: order.priceTicks / 10_000,
        Side: order.side === 'bid' ? '1' : '2',
        Instrument: { Symbol: order.ticker },
        TimeInForce: { good_till_canceled: '1', immediate_or_cancel: '3', fill_or_kill: '4' }[order.timeInForce],
        ExDestination: String(order.exchangeIndex),
        SelfMatchPreventionInstruction: order.selfTradePrevention === 'taker_at_cross' ? 1 : 2,
      })
      return transmitter.encoder.trim()
    },
  }
}
