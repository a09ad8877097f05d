/** The FIX messages against an engine that is not ours, both ways. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { decodeOrder, FixReader, FixWriter } from '../../src/codec/fix.ts'
import { createMessages } from '../../src/codec/message.ts'
import { SESSION } from '../../src/codec/operations.ts'
import { loadPeer } from '../../src/codec/peer.ts'

const peer = await loadPeer(SESSION)

describe('jspurefix', { skip: typeof peer === 'string' ? peer : false }, () => {
  if (typeof peer === 'string') return
  const set = createMessages(16)
  const writer = new FixWriter(SESSION)
  const written = () => Buffer.from(writer.bytes.subarray(writer.start, writer.end))
  const parsed = () => peer.parseObject(written()) as Record<string, unknown>

  it('reads our orders, reports and book updates', () => {
    for (const [index, order] of set.orders.entries()) {
      writer.order(order, index + 1, Date.UTC(2026, 7, 1))
      const { ClOrdID, Price, Side, OrderQtyData, Instrument, StandardHeader } = parsed()
      assert.deepEqual(
        [ClOrdID, Price, Side, OrderQtyData, Instrument],
        [
          order.clientOrderId,
          order.priceTicks / 10_000,
          order.side === 'bid' ? '1' : '2',
          { OrderQty: order.countHundredths / 100 },
          { Symbol: order.ticker },
        ],
      )
      assert.partialDeepStrictEqual(StandardHeader, {
        MsgType: 'D',
        MsgSeqNum: index + 1,
        BodyLength: written().length - 24,
      })
    }
    for (const [index, report] of set.reports.entries()) {
      writer.report(report, index + 1, report.tsMs)
      const { OrderID, CumQty, LeavesQty, TransactTime } = parsed()
      assert.deepEqual(
        [OrderID, CumQty, LeavesQty, Number(new Date(TransactTime as Date))],
        [report.orderId, report.filledHundredths / 100, report.remainingHundredths / 100, report.tsMs],
      )
    }
    for (const update of set.updates) {
      writer.update(update)
      const { MDIncGrp } = parsed() as { MDIncGrp: { NoMDEntries: unknown[] } }
      assert.partialDeepStrictEqual(MDIncGrp.NoMDEntries, [
        { MDEntryPx: update.priceTicks / 10_000, MDEntrySize: update.changeHundredths / 100 },
      ])
    }
  })

  it('writes orders that we read as the same orders', () => {
    const reader = new FixReader()
    for (const order of set.orders) assert.deepEqual(decodeOrder(reader, peer.encodeOrder(order)), order)
  })

  it('counts the messages it saw', () => {
    writer.order(set.orders[0]!, 1, 0)
    const before = peer.parseView(written())
    assert.equal(peer.parseView(written()), before + 1)
  })
})
