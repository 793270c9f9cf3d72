// A 2025-11-25 client with tasks, the official SDK's own: calls a tool as a task and prints, a line
// of JSON each, what it is told. `node task_client.mjs URL TOOL ARGUMENTS [cancel]`
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { CallToolResultSchema } from "@modelcontextprotocol/sdk/types.js";

const [url, tool, given, cancel] = process.argv.slice(2);
const show = (message) => console.log(JSON.stringify(message));

const client = new Client({ name: "tasks", version: "1" });
await client.connect(new StreamableHTTPClientTransport(new URL(url)));
show({ type: "capability", tasks: client.getServerCapabilities().tasks });
const { tools } = await client.listTools();
show({ type: "tool", execution: tools.find(({ name }) => name === tool)?.execution });

const call = { name: tool, arguments: JSON.parse(given) };
const options = { task: { ttl: 60_000 } };
for await (const message of client.experimental.tasks.callToolStream(
  call,
  CallToolResultSchema,
  options,
)) {
  const error = message.error && { code: message.error.code, message: message.error.message };
  show({ ...message, ...(error && { error }) });
  if (message.type === "taskCreated" && cancel) {
    const { taskId } = message.task;
    show({ type: "cancelled", task: await client.experimental.tasks.cancelTask(taskId) });
  }
}
await client.close();
