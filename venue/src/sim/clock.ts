/**
 * The simulator's clocks. Delays and dues are instants of `performance.now()`; what the engine stamps on orders and
 * messages is epoch ms with a fraction, which never runs backwards and so may drift from the wall clock by what NTP
 * corrects during a run.
 */
export function epochMs(): number {
  return performance.timeOrigin + performance.now()
}
