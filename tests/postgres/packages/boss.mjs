// The real pg-boss, of any major, doing what a plan in PLAN or on standard input says: {"major", "connection", "schema", "steps"}. Answers one JSON list.
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const require = createRequire(process.env.CLIENTS + '/')
const text = process.env.PLAN ?? await new Promise((resolve) => {
  let all = ''
  process.stdin.on('data', (part) => (all += part)).on('end', () => resolve(all))
})
const plan = JSON.parse(text)
const old = plan.major < 10

async function open (more = {}) {
  const found = await import(pathToFileURL(require.resolve(`pg-boss-${plan.major}`)))
  const Boss = found.PgBoss ?? found.default
  const quiet = old ? { noSupervisor: true, noScheduling: true } : { supervise: false, schedule: false }
  const boss = new Boss({ ...plan.connection, schema: plan.schema, max: 2, ...quiet, ...more })
  boss.on('error', (error) => console.error(error))
  await boss.start()
  return boss
}

const boss = await open()

const steps = {
  // A queue must be there before anything is sent to it, from 10 on.
  async create ({ queue, options = {} }) { if (!old) await boss.createQueue(queue, options) },
  async send ({ queue, data = {}, options = {}, count = 1 }) {
    const ids = []
    for (let index = 0; index < count; index++) ids.push(await boss.send(queue, data, options))
    return ids
  },
  async insert ({ queue, count }) {
    const rows = Array.from({ length: count }, (_, index) => ({ name: queue, data: { index } }))
    return plan.major < 11 ? boss.insert(rows) : boss.insert(queue, rows.map(({ name, ...row }) => row))
  },
  async fetch ({ queue, count }) {
    const found = old ? await boss.fetch(queue, count) : await boss.fetch(queue, { batchSize: count })
    return (found ?? []).map((job) => job.id)
  },
  async complete ({ queue, ids }) { await (old ? boss.complete(ids) : boss.complete(queue, ids)) },
  async fail ({ queue, ids }) { await (old ? boss.fail(ids) : boss.fail(queue, ids)) },
  // Its own answer to how much there is.
  async size ({ queue }) {
    if (boss.getQueueSize) return boss.getQueueSize(queue)
    return [].concat(await boss.getQueueStats(queue, { force: true }))[0].queuedCount
  },
  // As a worker in a Job does: takes what there is, at most so much, one after another; tells how many it did.
  async drain ({ queue, most = 1e9 }) {
    let done = 0
    while (done < most) {
      const [id] = await steps.fetch({ queue, count: 1 })
      if (!id) break
      await steps.complete({ queue, ids: [id] })
      done++
    }
    return done
  }
}

const answers = []
for (const { do: what, ...how } of plan.steps) answers.push((await steps[what](how)) ?? null)
process.stdout.write(JSON.stringify(answers))
await boss.stop({ graceful: false, timeout: 1000, close: true, destroy: true })
process.exit(0)
