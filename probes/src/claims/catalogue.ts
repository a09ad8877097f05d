/**
 * The claims this suite was built to test: those of an article on low-latency execution stacks for event contracts, in
 * our words, each with what can be said of it here. `judge.ts` turns results into verdicts; `docs/claims.md` is this list
 * with the verdicts of one machine.
 */

/** Rows of jitter with and without pinning. */
const PINNING_ROWS = [
  ...['quiet_unpinned', 'quiet_pinned', 'noisy_unpinned', 'noisy_pinned_away', 'isolated_pinned'],
  ...['crowded_unpinned', 'crowded_pinned', 'crowded_pinned_alone', 'node_noisy_unpinned', 'node_noisy_pinned_away'],
]

/** Probes whose results answer claims, and how they are run for it: short, and long enough for an interval. */
export const CLAIM_PROBES = {
  runtime: ['--rounds', '5', '--count', '40', '--rate', '50', '--warm-up', '50'],
  bypass: ['--rounds', '5', '--count', '5000', '--preload', 'onload'],
  jitter: ['--rounds', '20', '--count', '1500', '--scenarios', PINNING_ROWS.join(',')],
  codec: ['--rounds', '20', '--no-peer'],
} as const satisfies { readonly [probe: string]: readonly string[] }
export type ClaimProbe = keyof typeof CLAIM_PROBES | 'route'

export interface Claim {
  readonly id: string
  readonly claim: string
  readonly figures: string
  /** What a test can say, and how to have it. */
  readonly how: string
  /** The probe whose result answers it; null when no probe can. */
  readonly probe: ClaimProbe | null
  readonly command: string
}

const commandOf = (probe: keyof typeof CLAIM_PROBES) => `npx tickscope probe ${probe} ${CLAIM_PROBES[probe].join(' ')}`
const ROUTE = 'npx tickscope probe route --routes routes.json --import elsewhere.json'

export const CLAIMS: readonly Claim[] = [
  {
    id: 'rt-python',
    claim: "an optimised Python stack (asyncio with uvloop) places an order on Kalshi's REST API about as fast as C++",
    figures: 'Python 8–12 ms round trip, C++ 6–9 ms',
    how: "the client's share of an order, against a simulated venue: same bytes, each ecosystem's own signing; the venue's from a result of probe order, or http, beside it",
    probe: 'runtime',
    command: commandOf('runtime'),
  },
  {
    id: 'rt-pypy',
    claim: 'PyPy runs CPU-bound code several times faster than CPython at equal I/O latency',
    figures: '4–7 times',
    how: 'deciding, parsing and signing in hot loops, and the wait for the venue, apart',
    probe: 'runtime',
    command: commandOf('runtime'),
  },
  {
    id: 'aws-direct',
    claim: "Direct Connect with VPC endpoints shortens the path to the venues' APIs",
    figures: '50 ms to under 20 ms, 60 % less',
    how: 'routes labelled "public internet" and "Direct Connect" or "PrivateLink", measured from both',
    probe: 'route',
    command: ROUTE,
  },
  {
    id: 'aws-placement',
    claim: 'instances in a cluster placement group are very close to one another',
    figures: 'down to 0.1 ms',
    how: 'a route labelled "placement group" to a host in it: its edge RTT',
    probe: 'route',
    command: ROUTE,
  },
  {
    id: 'aws-region',
    claim: 'us-east-1 beats eu-west-1 for North American venue APIs',
    figures: 'by 15–25 ms',
    how: "routes with these regions; Kalshi's origin is us-east-2 and Polymarket's eu-west-2, both behind CDNs, so the edge RTT alone says nothing",
    probe: 'route',
    command: ROUTE,
  },
  {
    id: 'aws-accelerator',
    claim: 'Global Accelerator routes to the nearest region by live conditions',
    figures: 'none',
    how: 'routes labelled "public internet" and "Global Accelerator" to a host of one\'s own',
    probe: 'route',
    command: ROUTE,
  },
  {
    id: 'fpga',
    claim: 'FPGAs turn a tick into an order in nanoseconds, 1000 times faster than Python',
    figures: 'tick-to-trade 100–500 ns',
    how: 'simulated logic with a stated clock: a later part of this suite',
    probe: null,
    command: '',
  },
  {
    id: 'bypass-onload',
    claim: 'OpenOnload cuts network latency against the kernel stack',
    figures: '80–90 %; 100 µs to under 10 µs',
    how: 'the bypass ladder under onload, on a machine that has it; elsewhere its other rows',
    probe: 'bypass',
    command: commandOf('bypass'),
  },
  {
    id: 'bypass-dpdk',
    claim: 'DPDK gains about as much',
    figures: '8–12 µs for small packets',
    how: 'the DPDK rows of the bypass ladder, over a veth pair',
    probe: 'bypass',
    command: commandOf('bypass'),
  },
  {
    id: 'pinning',
    claim: 'pinning a trading thread to a core removes context-switch latency',
    figures: '95 % of it',
    how: 'time a thread is ready and does not run: pinned or not, alone and beside neighbours, from C and Node',
    probe: 'jitter',
    command: commandOf('jitter'),
  },
  {
    id: 'numa',
    claim: 'memory on another NUMA node costs extra latency',
    figures: 'none',
    how: 'only on a machine with two nodes',
    probe: null,
    command: 'npx tickscope probe jitter --plan',
  },
  {
    id: 'fix-size',
    claim: 'a FIX/FAST message is smaller than the equivalent REST request',
    figures: '80 % smaller; FIX order 50–100 bytes, REST 500–1000',
    how: 'bytes on the wire of the same order, headers and signature included',
    probe: 'codec',
    command: commandOf('codec'),
  },
  {
    id: 'fix-cost',
    claim: 'FIX/FAST is cheaper to process than JSON',
    figures: '60 % less; JSON 50–100 µs a message, FIX/FAST 10–20 µs (in Python)',
    how: 'the same messages encoded and decoded in each form, in Node',
    probe: 'codec',
    command: commandOf('codec'),
  },
  {
    id: 'rest-overhead',
    claim: 'HTTP headers add weight to each message',
    figures: '500–1000 bytes',
    how: 'counted on the wire',
    probe: 'codec',
    command: commandOf('codec'),
  },
  {
    id: 'tracing',
    claim: 'distributed tracing finds the bottlenecks before they hurt execution',
    figures: '90 % of them',
    how: 'a score on a matrix of injected causes: a later part of this suite',
    probe: null,
    command: '',
  },
  {
    id: 'budgets',
    claim: 'alert when API latency, processing delay or utilisation pass their limits; set limits from history',
    figures: '20 ms, 5 ms, 80 %',
    how: 'the alerts themselves on an injected fault, and the time until the page',
    probe: null,
    command: 'npx tickscope start --for 40s --fault api-delay=40ms@10s+10s --json',
  },
  {
    id: 'cost-cloud',
    claim: 'a tuned cloud stack matches an expensive own set-up',
    figures: '500–1,000 USD a month against over 100,000 USD in three years; 90 % saved',
    how: 'arithmetic on the prices, yours in prices.json; the latency saved a dollar comes from the route probe',
    probe: 'route',
    command: ROUTE,
  },
  {
    id: 'cost-roi',
    claim: 'both pay for themselves',
    figures: 'cloud in 6–12 months, own hardware in 24–36',
    how: 'arithmetic on the prices and what the latency earns a month, which only its user knows',
    probe: null,
    command: 'npx tickscope claims --monthly-gain 3000',
  },
]
