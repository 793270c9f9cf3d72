"""Time from spawn to the first `tools/list` answer: `mcp-hub` against a bare `mcp` server.

Both speak stdio to the same thin client. The runs alternate (bare, hub, bare, hub, …), after one
of each that is not counted and leaves the files in the page cache and the byte code compiled;
the ratio is the median of the pairs' ratios, so that a slow moment of the machine hits both.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from stdio import BARE, StdioServer, hub_command

LIMIT = 1.3


def time_to_tools(command: Sequence[str]) -> float:
    """Seconds from before the spawn until the answer to `tools/list` is read."""
    began = time.perf_counter()
    with StdioServer(command) as server:
        server.initialize()
        server.request("tools/list")
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        hub = hub_command(Path(folder))
        time_to_tools(BARE)
        time_to_tools(hub)
        pairs = [(time_to_tools(BARE), time_to_tools(hub)) for _ in range(options.pairs)]
    result = {
        "ratio": median(with_hub / bare for bare, with_hub in pairs),
        "limit": LIMIT,
        "bare_ms": median(bare for bare, _ in pairs) * 1000,
        "hub_ms": median(with_hub for _, with_hub in pairs) * 1000,
        "pairs": options.pairs,
    }
    if options.json:
        print(json.dumps(result))
        return
    print("spawn → first tools/list answer, median of", options.pairs, "alternating pairs")
    print(f"  bare mcp server  {result['bare_ms']:7.0f} ms")
    print(f"  mcp-hub          {result['hub_ms']:7.0f} ms")
    print(f"  ratio            {result['ratio']:7.2f}    (at most {LIMIT})")


if __name__ == "__main__":
    main()
