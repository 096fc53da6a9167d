"""How quick the dashboard stays: first paint, long tasks and bytes of its pages, in a real Chromium.

Runs a server of its own, gives it a job of ten thousand items that takes a while, and looks at the job's
page while it runs, and at the other pages. Paint and long tasks are the browser's own figures
(PerformanceObserver); a long task is one of more than 50 ms.

    python benchmarks/dashboard.py [--items 10000]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.e2e.browser import CHROMIUM, chromium
from tests.live import LiveServer, probe_path

WATCH = """
window.tasks = [];
new PerformanceObserver(list => window.tasks.push(...list.getEntries().map(e => e.duration)))
  .observe({type: 'longtask', buffered: true});
"""
FIGURES = """() => ({
  paint: performance.getEntriesByName('first-contentful-paint')[0]?.startTime,
  loaded: performance.getEntriesByType('navigation')[0].loadEventEnd,
  tasks: window.tasks,
  elements: document.querySelectorAll('*').length,
  bytes: [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
    .reduce((sum, entry) => sum + entry.transferSize, 0),
})"""
SECONDS = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=10_000)
    asked = parser.parse_args()
    if CHROMIUM is None:
        sys.exit("Chromium is not there: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        server = LiveServer(home / "server", path=probe_path(home))
        with server, chromium() as browser:
            measure(server, browser, asked.items)


def measure(server: LiveServer, browser, items: int) -> None:
    inputs = [{"fail": "as it was told"} if n % 500 == 7 else {} for n in range(items)]
    # A chunk of quick items, then pauses: the job goes on for as long as it is looked at.
    inputs += [{"sleep": 0.05} for _ in range(2_000)]
    body = {"kind": "probe", "label": "ten thousand", "items": [{"input": each} for each in inputs]}
    started = time.perf_counter()
    job = server.client.post("/jobs", json=body).raise_for_status().json()["job_id"]
    print(f"{'page':<34}{'paint':>9}{'loaded':>9}{'longest task':>14}{'over 50 ms':>12}", end="")
    print(f"{'elements':>10}{'bytes':>10}")
    for name, address, watched in (
        ("the job, while it runs", f"/ui/jobs/{job}", SECONDS),
        ("the job again, files kept", f"/ui/jobs/{job}", 1.0),
        ("the job's failures", f"/ui/jobs/{job}?show=failed", 1.0),
        ("now", "/", SECONDS),
        ("jobs", "/ui/jobs", 1.0),
        ("new", "/ui/new?kind=probe", 1.0),
        ("system", "/ui/system", 1.0),
    ):
        if "again" not in name:
            context = browser.new_context(viewport={"width": 1280, "height": 800})
            context.add_init_script(WATCH)
            page = context.new_page()
        page.goto(server.url + address)
        page.wait_for_timeout(watched * 1000)
        found = page.evaluate(FIGURES)
        long = max(found["tasks"], default=0.0)
        print(
            f"{name:<34}{found['paint']:>6.0f} ms{found['loaded']:>6.0f} ms{long:>11.0f} ms"
            f"{len(found['tasks']):>12}{found['elements']:>10}{found['bytes'] / 1000:>7.0f} KB"
        )
    row = server.client.get(f"/jobs/{job}").json()
    done = row["counts"]["total"] - row["counts"]["queued"] - row["counts"]["running"]
    print(f"{done:,} of {row['counts']['total']:,} items were done in {time.perf_counter() - started:.0f} s")
    server.client.delete(f"/jobs/{job}")


if __name__ == "__main__":
    main()
