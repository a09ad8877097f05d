/** The thread that `compactInWorker` starts: one compaction, one message, the end. */
import { parentPort, workerData } from 'node:worker_threads'
import { compact, type Task } from './compact.ts'

compact(workerData as Task)
parentPort?.postMessage('done')
