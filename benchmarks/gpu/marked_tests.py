"""The tests marked `gpu`; without a GPU they are skipped, which is counted too."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

from section import parse

ROOT = Path(__file__).parents[2]


def main() -> None:
    section = parse(__doc__)
    with tempfile.TemporaryDirectory() as temporary:
        report = Path(temporary) / "report.xml"
        processes = 1 if section.smoke else min(8, os.cpu_count() or 1)
        # Warnings of libraries in versions that the tests were not written with are shown, and fail nothing.
        command = [sys.executable, "-m", "pytest", "tests/gpu", "-m", "gpu", "-v", "-p", "no:cacheprovider",
                   "-o", "filterwarnings=default", f"--junitxml={report}", "--tb=short", "--durations=8",
                   f"--basetemp={temporary}/tests", *(["-n", str(processes)] if processes > 1 else [])]  # fmt: skip
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=section.prepared_by - time.monotonic(),
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            output = (error.stdout or b"").decode(errors="replace")  # bytes here, also with text=True
            print(output[-12000:])
            counts = {name.lower(): output.count(f" {name} ") for name in ("PASSED", "FAILED", "SKIPPED")}
            section.row(**counts, error="not done in time")
            for line in output.splitlines():
                if " FAILED " in line:
                    section.row(test=line.split(" FAILED ")[1].split()[0], error="failed; see the log")
            return
        print(done.stdout[-12000:], done.stderr[-3000:])
        if not report.exists():
            section.row(error="pytest wrote no report", output=(done.stdout + done.stderr)[-3000:])
            return
        results: Counter[str] = Counter()
        for test in ET.parse(report).iter("testcase"):
            problem = next((test.find(kind) for kind in ("failure", "error") if test.find(kind) is not None), None)
            if problem is not None:
                results["failed"] += 1
                section.row(
                    test=f"{test.get('classname')}::{test.get('name')}", error=str(problem.get("message"))[:500],
                    where=(problem.text or "")[-2500:],
                )  # fmt: skip
            elif (skipped := test.find("skipped")) is not None:
                results["skipped"] += 1
                if not section.smoke:
                    section.row(test=str(test.get("name")), skipped=str(skipped.get("message"))[:200])
            else:
                results["passed"] += 1
        section.row(passed=results["passed"], failed=results["failed"], skipped=results["skipped"])


if __name__ == "__main__":
    main()
