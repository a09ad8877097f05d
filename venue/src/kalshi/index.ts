/** The Kalshi wire: sign, encode, parse, call, listen. Nothing about strategies or metrics. */
export * from './decimal.ts'
export { WireError } from './error.ts'
export * from './market.ts'
export * from './message.ts'
export {
  BOOK_SIDES,
  type BookSide,
  bookSide,
  type CancelOrder,
  type CancelOrderResult,
  type CreateOrder,
  type CreateOrderResult,
  encodeCancelOrderResult,
  encodeCreateOrder,
  encodeCreateOrderResult,
  encodeFill,
  encodeOrder,
  encodePosition,
  type Fill,
  ORDER_STATUSES,
  type Order,
  type OrderStatus,
  OUTCOME_SIDES,
  type OutcomeSide,
  outcomeSide,
  type Page,
  type Position,
  parseCancelOrderResult,
  parseCreateOrder,
  parseCreateOrderResult,
  parseFill,
  parseOrder,
  parsePosition,
  SELF_TRADE_PREVENTIONS,
  type SelfTradePrevention,
  TIMES_IN_FORCE,
  type TimeInForce,
} from './order.ts'
export * from './sign.ts'
export * from './url.ts'
