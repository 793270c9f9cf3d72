"""What the suites of the ports show, told at the end."""

from collections import Counter

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A table of what was held to each port's contract: ports × implementations × tests."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            parts = report.nodeid.split("::")
            if parts[0].startswith("tests/adapters/") and parts[1].startswith("Test"):
                key = (parts[0].split("/")[2], parts[1].removeprefix("Test"))
                if outcome != "passed" or report.when == "call":
                    counts.setdefault(key, Counter())[outcome] += 1
    if not counts:
        return
    terminalreporter.section("contracts: ports × implementations × tests")
    for (port, implementation), outcomes in sorted(counts.items()):
        told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
        terminalreporter.write_line(f"{port:<10} {implementation:<32} {told}")
