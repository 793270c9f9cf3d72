"""pip, as it would decide under another Python: `pip_for.py MARKERS ARGUMENT…`.

`pip download` can be told another platform and version for the wheels it takes, but reads
environment markers (`; python_version < "3.11"`) as of the Python that runs it. This takes the
other's markers, a JSON object by PEP 508's names. It runs as a program of its own.
"""

import json
import sys

from pip._internal.cli.main import main
from pip._vendor.packaging import markers


def run() -> int:
    other = json.loads(sys.argv[1])
    markers.default_environment = lambda: other
    return main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(run())
