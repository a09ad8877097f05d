/** Entry of the agent's thread: the pipeline, and the messages to and from the bot's thread. */
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import type { FromWorker, ToWorker } from './message.ts'
import { Pipeline, type PipelineOptions } from './pipeline.ts'

const port = parentPort
if (port === null) throw new Error('worker.ts is the entry of a worker thread')

const say = (message: FromWorker) => port.postMessage(message)
let watched = false

const pipeline = new Pipeline(workerData as PipelineOptions, {
  inline: false,
  log: (message) => say({ type: 'log', message }),
  breached: (breaches) => {
    if (watched) say({ type: 'breaches', breaches })
  },
  definitions: () => {
    for (let next = receiveMessageOnPort(port); next !== undefined; next = receiveMessageOnPort(port)) {
      hear(next.message as ToWorker)
    }
  },
})

function hear(message: ToWorker): void {
  switch (message.type) {
    case 'define':
      pipeline.define(message.id, message.metric, message.labels)
      break
    case 'watch':
      watched = true
      break
    case 'stop':
      pipeline.stop(message.timeoutMs, message.open).then((result) => say({ type: 'stopped', result }))
      break
  }
}

port.on('message', hear)
say({ type: 'ready' })
void pipeline.prepare()
