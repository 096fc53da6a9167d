"""Runs ``millrace serve …`` or ``millrace worker …`` as it is documented, and stops it once it is up.

It listens on a free port instead of the documented one, and its end is SIGTERM, as in operation: so the
example shows that these options start a server, and that it stops as it should.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time

import httpx2 as httpx


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def main(arguments: list[str]) -> int:
    """Start it; return 0 when it said that it is up and stopped without an error."""
    kind, *rest = re.sub(r"--port[ =]\d+", "", "\0".join(arguments).replace("--port\0", "--port ")).split(
        "\0"
    )
    command = [sys.executable, "-m", "millrace.cli", kind, *(word for word in rest if word)]
    if kind == "serve":
        command += ["--port", "0"]
    # The reader's own directory of data, not that of the server which the other examples ask.
    environment = {name: value for name, value in os.environ.items() if name != "MILLRACE_URL"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        guard = threading.Timer(60.0, process.kill)
        guard.start()
        line = process.stdout.readline()
        while kind == "serve" and process.poll() is None and not _answers(line.rpartition(" on ")[2].strip()):
            time.sleep(0.02)
        process.terminate()
        code = process.wait()
        guard.cancel()
    print(line.strip())
    return code if line.startswith("millrace ") else code or 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
