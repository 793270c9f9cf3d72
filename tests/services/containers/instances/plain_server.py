"""An MCP server of the standard library alone, which starts at once; given to `python -c`.

The environment says how it is bad: SAY (written to stderr first), START_S (it takes so long to
start), EXIT (it ends at once with that code), BABBLE (it prints that and no MCP), DEAF (it ignores
SIGTERM).
"""

import json
import os
import signal
import sys
import threading
import time

count = 0
frozen = False
sleeping = 0
lock = threading.Lock()
kept = []


def call(name, arguments):
    global count, frozen, sleeping
    if name == "count":
        with lock:
            count += 1
            return {"count": count, "host": os.uname().nodename}
    if name == "remember":
        kept.append(arguments["text"])
        return {"kept": list(kept)}
    if name == "sleep":
        with lock:
            sleeping += 1
        time.sleep(arguments["s"])
        return {"slept": arguments["s"], "host": os.uname().nodename}
    if name == "exit":
        print(arguments.get("say", "leaving"), file=sys.stderr, flush=True)
        os._exit(arguments.get("code", 1))
    if name == "eat":
        kept.append(bytearray(os.urandom(1 << 20) * arguments["mb"]))
        return {"ate": arguments["mb"]}
    if name == "sleeping":
        return {"sleeping": sleeping}
    if name == "freeze":
        frozen = True
        return {}
    if name == "ask":
        return {"said": sys.stdin.name}
    raise KeyError(name)


def answer(message):
    method, params = message["method"], message.get("params") or {}
    if method == "initialize":
        result = {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "plain", "version": "1"},
        }
    elif method == "ping":
        result = {}
    elif method == "tools/list":
        result = {"tools": [{"name": "count", "inputSchema": {"type": "object"}}]}
    elif method == "tools/call":
        try:
            said = call(params["name"], params.get("arguments") or {})
        except KeyError as error:
            return {"error": {"code": -32602, "message": f"no tool {error}"}}
        result = {"content": [], "structuredContent": said}
    else:
        return {"error": {"code": -32601, "message": f"no {method}"}}
    return {"result": result}


def serve(message):
    line = json.dumps({"jsonrpc": "2.0", "id": message["id"], **answer(message)})
    with lock:
        print(line, flush=True)


if os.environ.get("SAY"):
    print(os.environ["SAY"], file=sys.stderr, flush=True)
if os.environ.get("DEAF"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
time.sleep(float(os.environ.get("START_S", "0")))
if "EXIT" in os.environ:
    sys.exit(int(os.environ["EXIT"]))
if "BABBLE" in os.environ:
    print(os.environ["BABBLE"], flush=True)
    time.sleep(3600)
for line in sys.stdin:
    message = json.loads(line)
    if "id" in message and "method" in message and not frozen:
        threading.Thread(target=serve, args=(message,), daemon=True).start()
