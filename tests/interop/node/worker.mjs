// Works on the hub's jobs until its standard input ends, and prints what it takes.
// Usage: worker.mjs REDIS_URL QUEUE; what becomes of a job is its config's `outside`.
import { Worker } from "bullmq";

const [url, name] = process.argv.slice(2);

const outcomes = {
  succeed: (job) => ({ metrics: { accuracy: 0.75, loss: 0.5, note: "no number" }, seen: job.data }),
  fail: () => {
    throw new Error("The data will not do.");
  },
  hang: () => new Promise(() => {}),
  giveBack: async (job, token) => {
    await job.moveToDelayed(Date.now() + 50, token);
    const { DelayedError } = await import("bullmq");
    throw new DelayedError();
  },
};

const worker = new Worker(
  name,
  async (job, token) => {
    console.log(JSON.stringify({ id: job.id, name: job.name, data: job.data }));
    return outcomes[job.data.config.flag ?? "succeed"](job, token);
  },
  { connection: { url }, name: "node-1", concurrency: 1, lockDuration: 1000, stalledInterval: 500 },
);
await worker.waitUntilReady();
console.log(JSON.stringify({ ready: true }));
process.stdin.resume();
process.stdin.on("end", () => process.exit());
