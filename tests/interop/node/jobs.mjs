// The twin of workers/jobs.py for node: the same command line, records and report.

const KEYS = 50

export function * records (job) {
  for (let number = 0; number < job.count; number++) {
    const key = `s${job.slice}-k${number % KEYS}`
    const size = number % 997 === 0 ? 20000 : 16 + ((number * 7919) % 500)
    yield { key, value: `${key}:${number}:`.padEnd(size, 'x') }
  }
}

export function * batches (job, size) {
  let batch = []
  for (const record of records(job)) {
    batch.push(record)
    if (batch.length === size) {
      yield batch
      batch = []
    }
  }
  if (batch.length) yield batch
}

export const output = {
  lines: [],
  assigned () {
    this.flush()
    process.stdout.write('R\n')
  },
  record (partition, offset, value) {
    const [key, number] = value.toString('latin1', 0, 64).split(':', 2)
    this.lines.push(`${partition} ${offset} ${key} ${number} ${value.length}\n`)
  },
  flush () {
    if (this.lines.length) process.stdout.write(this.lines.join(''))
    this.lines = []
  }
}

export async function run (produce, consume) {
  const [mode, text] = process.argv.slice(2)
  await (mode === 'produce' ? produce : consume)(JSON.parse(text))
}
