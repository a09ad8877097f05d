/** Which machine a URL names, as far as that decides what a probe may do to it. */

/** @param hostname as `URL` has it: IPv6 in brackets */
export function isLoopbackHost(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(hostname)
}
