// kafkajs. It brings gzip; other codecs would be plug-ins.

import kafkajs from 'kafkajs'
import { batches, output, run } from './jobs.mjs'

const { CompressionTypes, Kafka, Partitioners, logLevel } = kafkajs
const CODECS = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP }

function client (job) {
  return new Kafka({ clientId: 'interop', brokers: [job.bootstrap], logLevel: logLevel.ERROR })
}

async function produce (job) {
  const producer = client(job).producer({
    createPartitioner: Partitioners.DefaultPartitioner,
    idempotent: job.idempotent,
    maxInFlightRequests: 1
  })
  await producer.connect()
  const acks = job.acks === 'all' ? -1 : Number(job.acks)
  for (const messages of batches(job, 1000)) {
    await producer.send({ topic: job.topic, acks, compression: CODECS[job.codec], messages })
  }
  await producer.disconnect()
}

async function consume (job) {
  const consumer = client(job).consumer({ groupId: job.group, sessionTimeout: 10000, heartbeatInterval: 500 })
  consumer.on(consumer.events.GROUP_JOIN, () => output.assigned())
  const stopped = new Promise(resolve => process.on('SIGTERM', resolve))
  await consumer.connect()
  await consumer.subscribe({ topic: job.topic, fromBeginning: true })
  await consumer.run({
    // Commits what was resolved when the function returns.
    eachBatch: async ({ batch, resolveOffset, heartbeat }) => {
      for (const message of batch.messages) {
        output.record(batch.partition, message.offset, message.value)
        resolveOffset(message.offset)
      }
      output.flush()
      await heartbeat()
    }
  })
  await stopped
  await consumer.disconnect()
  output.flush()
  process.exit(0)
}

await run(produce, consume)
