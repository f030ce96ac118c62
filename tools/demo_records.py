"""Copies what the dashboard shows of a finished `make demo` into app/demo: `python -m tools.demo_records`.

Records, configurations and training logs are copied, model files are not. `edgebnn app --demo` shows the copy.
"""

import argparse
import shutil
from pathlib import Path

from edgebnn.app.shell import DEMO

PATTERNS = ("records/*.json", "*/records/*.json", "*/config.yaml", "*/finished", "*/logs/csv/version_*/metrics.csv")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/demo"), help="default: runs/demo")
    run = parser.parse_args().run
    out = DEMO / run.name
    shutil.rmtree(DEMO, ignore_errors=True)
    files = sorted(path for pattern in PATTERNS for path in run.glob(pattern))
    for path in files:
        target = out / path.relative_to(run)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    total = sum(path.stat().st_size for path in files)
    print(f"{len(files)} files, {total / 1e3:.0f} kB in {out}")


if __name__ == "__main__":
    main()
