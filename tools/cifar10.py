"""Trains one method on CIFAR-10, measures its network and its exported files, and keeps the results for the docs.

    python -m tools.cifar10 METHOD [--seed N] [--data FOLDER]

METHOD is `teacher`, `untrained`, a method of train/recipes/cifar10.yaml, or a row of BURN's ablation:
`burn-divergence`, `burn-similarity`, `burn-dynamic`. The students use the teacher in docs/results/cifar10, unless one
was trained here. An interrupted call resumes where it stopped. Records and curves go to docs/results/cifar10, and
`make results` writes the page from them.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from docs.results.keep import keep, restore_teacher
from edgebnn.errors import exit_on_user_error

BALANCE = {"burn-divergence": (1.0, 1.0), "burn-similarity": (0.2, 0.2), "burn-dynamic": (0.1, 0.3)}
"""Weight of the divergence at the first and the last step, for each one-stage row of BURN's ablation."""

EXPORTS = {"packed.onnx": ("onnx", "--packed"), "portable.onnx": ("onnx",), "lce.tflite": ("lce",)}


def main() -> None:
    """Runs the script."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("method")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", default="uoft-cs/cifar10", help="CIFAR-10: folder of Parquet files, or hub name")
    parser.add_argument("--epochs", type=int, help="epochs of each stage (default: the recipe's)")
    given = parser.parse_args()
    recipe, values, folder = recipe_of(given.method, given.seed)
    values += [f"data={given.data}"] + ([f"epochs={given.epochs}"] if given.epochs else [])
    run = Path("runs") / folder
    if given.method != "teacher":
        restore_teacher()
    edgebnn("train", "recipe", f"train/recipes/{recipe}.yaml", "--set", *values)
    if given.method not in ("teacher", "untrained"):
        export(run, given.data)
    for path in keep(run):
        print(f"kept {path}")


def recipe_of(method: str, seed: int) -> tuple[str, list[str], str]:
    """Returns the name of a method's recipe, the values to set in it, and the folder of its run."""
    if method == "teacher":
        return "cifar10-teacher", [], "cifar10-teacher"
    folder = f"cifar10-{method}-seed{seed}"
    if method == "untrained":
        return "cifar10-untrained", [f"seed={seed}"], folder
    if method in BALANCE:
        first, last = BALANCE[method]
        variant = method.removeprefix("burn-")
        return "cifar10-burn-ablation", [f"variant={variant}", f"first={first}", f"last={last}", f"seed={seed}"], folder
    return "cifar10", [f"method={method}", f"seed={seed}"], folder


def export(run: Path, data: str) -> None:
    """Exports the network with its linear classifier, and measures the checkpoint and each file on the test images."""
    checkpoint = run / "linear" / "model.safetensors"
    folder = run / "exports"
    for name, (format_, *options) in EXPORTS.items():
        if not (folder / name).exists():
            edgebnn("export", format_, checkpoint, folder / name, *options)
    if not (folder / "finished").exists():
        source = data if Path(data).is_dir() else f"hf:{data}"
        files = [checkpoint, *(folder / name for name in EXPORTS)]
        edgebnn("train", "evaluate", *files, "--data", source, "--record", folder, "--name", run.name)
        (folder / "finished").touch()


def edgebnn(*arguments: object) -> None:
    """Runs `edgebnn ARGUMENTS`, and stops the script with its exit code where it fails."""
    code = subprocess.run([sys.executable, "-m", "edgebnn", *map(str, arguments)]).returncode  # noqa: S603
    if code:
        sys.exit(code)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
