// Adds the job on standard input, waits for its end and prints it.
// Usage: producer.mjs REDIS_URL QUEUE < {"data": …, "options": …}
import { Queue, QueueEvents } from "bullmq";
import { text } from "node:stream/consumers";

const [url, name] = process.argv.slice(2);
const connection = { url };
const { data, options } = JSON.parse(await text(process.stdin));

const queue = new Queue(name, { connection });
const events = new QueueEvents(name, { connection });
await events.waitUntilReady();
// Listened for from before the job is there: one that fails at once is gone at once.
const ends = new Map();
let look = () => {};
const ended = (id, end) => {
  ends.set(id, end);
  look();
};
events.on("completed", ({ jobId, returnvalue }) =>
  ended(jobId, { state: "completed", result: returnvalue }),
);
events.on("failed", ({ jobId, failedReason }) =>
  ended(jobId, { state: "failed", reason: failedReason }),
);
const job = await queue.add("train", data, options);
const late = setTimeout(() => process.exit(1), 60_000);
while (!ends.has(job.id)) await new Promise((resolve) => (look = resolve));
clearTimeout(late);
const end = ends.get(job.id);
console.log(JSON.stringify({ id: job.id, ...end }));
await events.close();
await queue.close();
