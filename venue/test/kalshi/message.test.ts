import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { encodeCommand, type FeedCommand, isMarketData, parseCommand, parseMessage } from '../../src/kalshi/index.ts'

/** What a message is, without fields that are undefined. */
function parsed(text: string): unknown {
  return JSON.parse(JSON.stringify(parseMessage(text)))
}

test('the documented delta is read with its signed change', () => {
  const text =
    '{"type":"orderbook_delta","sid":7,"seq":3,"msg":{"market_ticker":"KXX-1","market_id":"m","price_dollars":"0.9600","delta_fp":"-54.00","side":"yes","ts_ms":1780000000123}}\n'
  assert.deepEqual(parsed(text), {
    type: 'orderbook_delta',
    sid: 7,
    seq: 3,
    marketTicker: 'KXX-1',
    priceTicks: 9600,
    deltaHundredths: -5400,
    side: 'yes',
    tsMs: 1_780_000_000_123,
  })
  assert.ok(isMarketData(parseMessage(text)))
})

test('a delta from before ts_ms existed takes its time from ts', () => {
  const message = parseMessage(
    '{"type":"orderbook_delta","sid":1,"seq":1,"msg":{"market_ticker":"A","price_dollars":"0.5","delta_fp":"1","side":"no","ts":"2026-05-13T13:33:13.232911Z"}}',
  )
  assert.ok(message.type === 'orderbook_delta')
  assert.equal(message.tsMs, Date.parse('2026-05-13T13:33:13.232Z'))
})

test('a side missing from a snapshot is an empty side', () => {
  assert.deepEqual(
    parsed(
      '{"type":"orderbook_snapshot","sid":2,"seq":5,"id":9,"msg":{"market_ticker":"A","yes_dollars_fp":[["0.0010","1602.00"]]}}',
    ),
    {
      type: 'orderbook_snapshot',
      sid: 2,
      seq: 5,
      id: 9,
      marketTicker: 'A',
      yes: [{ priceTicks: 10, countHundredths: 160_200 }],
      no: [],
    },
  )
})

test('trades tell the side that took, in whichever of the three fields it comes', () => {
  const trade = (fields: string) =>
    parseMessage(
      `{"type":"trade","sid":3,"seq":1,"msg":{"trade_id":"t","market_ticker":"A","yes_price_dollars":"0.3600","no_price_dollars":"0.6400","count_fp":"1.50",${fields},"ts":1780000000,"ts_ms":1780000000123}}`,
    )
  for (const fields of ['"taker_book_side":"ask"', '"taker_outcome_side":"no"', '"taker_side":"no"']) {
    const message = trade(fields)
    assert.ok(message.type === 'trade')
    assert.deepEqual(
      [message.takerSide, message.yesPriceTicks, message.countHundredths, message.seq],
      ['ask', 3600, 150, 1],
    )
  }
})

test('fills, own orders and positions of the private channels are read', () => {
  assert.deepEqual(
    parsed(
      '{"type":"fill","sid":4,"msg":{"trade_id":"t","order_id":"o","client_order_id":"c","market_ticker":"A","exchange_index":0,"is_taker":true,"outcome_side":"yes","book_side":"bid","yes_price_dollars":"0.5200","count_fp":"1.00","fee_cost":"0.017500","post_position_fp":"-2.00","ts":1780000000,"ts_ms":1780000000123}}',
    ),
    {
      type: 'fill',
      sid: 4,
      tradeId: 't',
      orderId: 'o',
      clientOrderId: 'c',
      marketTicker: 'A',
      side: 'bid',
      isTaker: true,
      yesPriceTicks: 5200,
      countHundredths: 100,
      feeMicros: 17_500,
      postPositionHundredths: -200,
      tsMs: 1_780_000_000_123,
    },
  )
  const order = parseMessage(
    '{"type":"user_order","sid":5,"msg":{"order_id":"o","user_id":"u","ticker":"A","status":"canceled","outcome_side":"no","book_side":"ask","yes_price_dollars":"0.5200","initial_count_fp":"3.00","fill_count_fp":"1.00","remaining_count_fp":"0.00","client_order_id":"","last_update_reason":"SelfTradeCancel","created_ts_ms":1,"last_updated_ts_ms":2}}',
  )
  assert.ok(order.type === 'user_order')
  assert.deepEqual(
    [order.status, order.side, order.clientOrderId, order.lastUpdateReason, order.tsMs],
    ['canceled', 'ask', undefined, 'SelfTradeCancel', 2],
  )
  const position = parseMessage(
    '{"type":"market_position","sid":6,"msg":{"user_id":"u","market_ticker":"A","position_fp":"10.00","realized_pnl_dollars":"-1.5","fees_paid_dollars":"0.01"}}',
  )
  assert.ok(position.type === 'market_position')
  assert.deepEqual([position.positionHundredths, position.realizedPnlMicros], [1000, -1_500_000])
})

test('replies carry their ids, sids and sequence numbers', () => {
  assert.deepEqual(parsed('{"type":"subscribed","id":1,"msg":{"channel":"orderbook_delta","sid":7}}'), {
    type: 'subscribed',
    id: 1,
    channel: 'orderbook_delta',
    sid: 7,
  })
  assert.deepEqual(parsed('{"type":"ok","id":3,"sid":7,"seq":42,"msg":{"market_tickers":["A"]}}'), {
    type: 'ok',
    id: 3,
    sid: 7,
    seq: 42,
  })
  assert.deepEqual(parsed('{"type":"unsubscribed","id":2,"sid":7,"seq":43}'), {
    type: 'unsubscribed',
    id: 2,
    sid: 7,
    seq: 43,
  })
  assert.deepEqual(parsed('{"type":"error","id":3,"sid":7,"seq":44,"msg":{"code":14,"msg":"x","market_ticker":"A"}}'), {
    type: 'error',
    id: 3,
    code: 14,
    message: 'x',
    sid: 7,
    seq: 44,
    marketTicker: 'A',
  })
})

test('an unknown type keeps its place in the sequence', () => {
  assert.deepEqual(parsed('{"type":"market_lifecycle_v2","sid":8,"seq":2,"msg":{"event_type":"created"}}'), {
    type: 'unknown',
    wireType: 'market_lifecycle_v2',
    sid: 8,
    seq: 2,
  })
})

test('a malformed message becomes a value that names the field and keeps sid and seq', () => {
  const message = parseMessage(
    '{"type":"orderbook_delta","sid":7,"seq":3,"msg":{"market_ticker":"A","price_dollars":0.96,"delta_fp":"1.00","side":"yes","ts_ms":1}}',
  )
  assert.ok(message.type === 'malformed')
  assert.deepEqual([message.sid, message.seq], [7, 3])
  assert.match(message.error.message, /^price_dollars is '0.96'/)
  const bad = [
    '',
    'null',
    '[]',
    '{}',
    '{"type":7}',
    '{"type":"ticker"}',
    '{"type":"ticker","msg":[]}',
    '{"type":"orderbook_snapshot","sid":1,"seq":1,"msg":{"market_ticker":"A","yes_dollars_fp":[["0.1","-1.00"]]}}',
    '{"type":"orderbook_snapshot","sid":1,"seq":1,"msg":{"market_ticker":"A","yes_dollars_fp":[["0.1"]]}}',
    '{"type":"orderbook_delta","sid":1,"seq":1.5,"msg":{"market_ticker":"A","price_dollars":"0.1","delta_fp":"1","side":"yes","ts_ms":1}}',
  ]
  for (const text of bad) assert.equal(parseMessage(text).type, 'malformed', text)
})

test('no text whatever makes the parsers throw', () => {
  const shaped = fc.record(
    {
      type: fc.constantFrom(
        'orderbook_delta',
        'orderbook_snapshot',
        'ticker',
        'trade',
        'fill',
        'user_order',
        'ok',
        'error',
      ),
      sid: fc.jsonValue(),
      seq: fc.jsonValue(),
      id: fc.jsonValue(),
      msg: fc.jsonValue(),
      cmd: fc.constantFrom('subscribe', 'unsubscribe', 'update_subscription', 'list_subscriptions', 'x'),
      params: fc.jsonValue(),
    },
    { requiredKeys: ['type'] },
  )
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.json(),
        shaped.map((value) => JSON.stringify(value)),
      ),
      (text) => {
        assert.equal(typeof parseMessage(text).type, 'string')
        assert.equal(typeof parseCommand(text).id, 'number')
      },
    ),
    { numRuns: 1000 },
  )
})

test('commands read back as written, and tickers are left out when there are none', () => {
  const commands: FeedCommand[] = [
    {
      id: 1,
      cmd: 'subscribe',
      channels: ['orderbook_delta', 'ticker'],
      marketTickers: ['A', 'B'],
      useYesPrice: false,
      sendInitialSnapshot: undefined,
    },
    { id: 2, cmd: 'unsubscribe', sids: [7] },
    { id: 3, cmd: 'update_subscription', sid: 7, action: 'get_snapshot', marketTickers: ['A'] },
    { id: 4, cmd: 'list_subscriptions' },
  ]
  for (const command of commands) assert.deepEqual(parseCommand(encodeCommand(command)), command)
  assert.equal(
    encodeCommand({ id: 5, cmd: 'subscribe', channels: ['fill'], marketTickers: [] }),
    '{"id":5,"cmd":"subscribe","params":{"channels":["fill"]}}',
  )
})

test('bad commands are answered with the code the venue uses', () => {
  const codeOf = (text: string) => {
    const command = parseCommand(text)
    return command.cmd === 'invalid' ? [command.id, command.code] : command
  }
  assert.deepEqual(codeOf('nonsense'), [0, 1])
  assert.deepEqual(codeOf('{"id":1,"cmd":"subscribe"}'), [1, 2])
  assert.deepEqual(codeOf('{"id":2,"cmd":"subscribe","params":{}}'), [2, 3])
  assert.deepEqual(codeOf('{"id":3,"cmd":"unsubscribe","params":{}}'), [3, 4])
  assert.deepEqual(codeOf('{"id":4,"cmd":"fly","params":{}}'), [4, 5])
  assert.deepEqual(codeOf('{"id":5,"cmd":"subscribe","params":{"channels":7}}'), [5, 11])
  assert.deepEqual(
    codeOf('{"id":6,"cmd":"update_subscription","params":{"sids":[1,2],"action":"get_snapshot"}}'),
    [6, 12],
  )
  assert.deepEqual(codeOf('{"id":7,"cmd":"update_subscription","params":{"sid":1,"action":"x"}}'), [7, 13])
  assert.deepEqual(codeOf('{"id":8,"cmd":"update_subscription","params":{"sid":1}}'), [8, 15])
})

test('a single ticker and a one-element list of sids are accepted', () => {
  const subscribe = parseCommand('{"id":1,"cmd":"subscribe","params":{"channels":["ticker"],"market_ticker":"A"}}')
  assert.ok(subscribe.cmd === 'subscribe')
  assert.deepEqual(subscribe.marketTickers, ['A'])
  const update = parseCommand(
    '{"id":1,"cmd":"update_subscription","params":{"sids":[9],"action":"add_markets","market_tickers":["B"]}}',
  )
  assert.ok(update.cmd === 'update_subscription')
  assert.equal(update.sid, 9)
})
