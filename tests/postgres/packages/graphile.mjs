// The real graphile-worker, doing what standard input says: {"connectionString", "steps"}. Answers one JSON list.
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const require = createRequire(process.env.CLIENTS + '/')
const text = await new Promise((resolve) => {
  let all = ''
  process.stdin.on('data', (part) => (all += part)).on('end', () => resolve(all))
})
const { connectionString, steps } = JSON.parse(text)
const { makeWorkerUtils, runOnce, Logger } = await import(pathToFileURL(require.resolve('graphile-worker')))
const logger = new Logger(() => () => {})
const utils = await makeWorkerUtils({ connectionString, logger })
await utils.migrate()
const answers = []
for (const { task, count = 1, delay = 0, work } of steps) {
  if (work) {
    let done = 0
    await runOnce({ connectionString, logger, taskList: { [work]: async () => { done++ } } })
    answers.push(done)
  }
  for (let index = 0; task && index < count; index++) {
    await utils.addJob(task, {}, delay ? { runAt: new Date(Date.now() + delay * 1000) } : {})
  }
}
process.stdout.write(JSON.stringify(answers))
await utils.release()
process.exit(0)
