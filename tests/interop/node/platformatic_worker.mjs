// @platformatic/kafka.

import './platform.mjs'
import { Consumer, Producer, stringSerializers } from '@platformatic/kafka'
import { batches, output, run } from './jobs.mjs'

const COMMIT_EVERY = 1000
const COMMIT_MS = 200

async function produce (job) {
  const producer = new Producer({
    clientId: 'interop',
    bootstrapBrokers: [job.bootstrap],
    serializers: stringSerializers,
    acks: job.acks === 'all' ? -1 : Number(job.acks),
    idempotent: job.idempotent,
    compression: job.codec
  })
  for (const batch of batches(job, 1000)) {
    await producer.send({ messages: batch.map(record => ({ topic: job.topic, ...record })) })
  }
  await producer.close()
}

async function consume (job) {
  const consumer = new Consumer({
    clientId: 'interop',
    bootstrapBrokers: [job.bootstrap],
    groupId: job.group
  })
  consumer.on('consumer:group:join', () => output.assigned())
  let stopping = false
  const stopped = new Promise(resolve => process.on('SIGTERM', () => { stopping = true; resolve() }))
  // Closing cuts off a join that is under way, which the client tells like any other failure.
  consumer.on('error', error => { if (!stopping) throw error })
  const stream = await consumer.consume({
    topics: [job.topic],
    autocommit: false,
    mode: 'committed',
    fallbackMode: 'earliest',
    sessionTimeout: 10000,
    heartbeatInterval: 1000,
    maxWaitTime: 200
  })

  // One commit at a time, of all that was processed before it began: while the group is rebalanced
  // the answer waits behind the client's own JoinGroup on the same connection, and a queue of
  // commits would fall far behind the stream, which goes on.
  let processed = new Map()
  let count = 0
  let commits = Promise.resolve()
  let waiting = false
  function commit () {
    if (!waiting) {
      waiting = true
      commits = commits.then(commitProcessed)
    }
    return commits
  }
  async function commitProcessed () {
    waiting = false
    count = 0
    output.flush()
    const offsets = [...processed].map(([partition, offset]) => {
      return { topic: job.topic, partition, offset: offset + 1n, leaderEpoch: -1 }
    })
    processed = new Map()
    if (offsets.length) {
      // A commit that a rebalance overtakes is refused, and the records come again.
      await consumer.commit({ offsets }).catch(() => output.assigned())
    }
  }

  const timer = setInterval(commit, COMMIT_MS)
  stream.on('data', message => {
    output.record(message.partition, message.offset, message.value)
    processed.set(message.partition, message.offset)
    if (++count >= COMMIT_EVERY) commit()
  })
  await stopped
  clearInterval(timer)
  await commit()
  await consumer.close(true)
  process.exit(0)
}

await run(produce, consume)
