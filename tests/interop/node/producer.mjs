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
const job = await queue.add("train", data, options);
let end;
try {
  end = { state: "completed", result: await job.waitUntilFinished(events, 60_000) };
} catch (error) {
  end = { state: "failed", reason: error.message };
}
console.log(JSON.stringify({ id: job.id, ...end }));
await events.close();
await queue.close();
