/** The vocabulary between the parts. Imports none of them; all may import it. */
export * from './batch.ts'
export * from './duration.ts'
export * from './generated.ts'
export * from './histogram.ts'
export * from './instant.ts'
export * from './metric.ts'
export * from './process.ts'
export * from './slo.ts'
