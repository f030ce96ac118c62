"""What llvm-mca predicts for the inner loop of the NEON path: python -m docs.mca

Compiles edgebnn/kernels/arm/neon.cpp for 64-bit ARM, takes the loop that counts a whole tile out of the object file,
and prints cycles per 128-bit step and what they come to for ReActNet-A. Needs Debian's g++-aarch64-linux-gnu and llvm.
"""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from edgebnn.errors import check, exit_on_user_error
from edgebnn.graph.ops import count, reactnet_a, totals

KERNELS = Path(__file__).parent.parent / "edgebnn" / "kernels"
COMPILER, DISASSEMBLER = "aarch64-linux-gnu-g++", "aarch64-linux-gnu-objdump"
FLAGS = ["-std=c++20", "-O3", "-ffp-contract=off", "-fPIC"]
STEPS = 16
"""Vectors of 128 bits in a round of the loop: 4 pixels by 16 channels (neon.cpp)."""
CORES = {"cortex-a72": 1.5, "cortex-a76": 2.4}
"""Cores and their clocks in GHz: Raspberry Pi 4 and 5."""


def main() -> None:
    """Prints a line a core."""
    with exit_on_user_error():
        for tool in (COMPILER, DISASSEMBLER, "llvm-mca"):
            check(shutil.which(tool), f"{tool} is missing; apt-get install g++-aarch64-linux-gnu llvm")
        loop = inner_loop(disassemble())
        steps = totals(count(reactnet_a(), 224))["bops"] / 128
        for core, clock in CORES.items():
            cycles = predict(loop, core) / STEPS
            milliseconds = cycles * steps / clock / 1e6
            print(
                f"{core}: {cycles:.2f} cycles a step; ReActNet-A at {clock} GHz: {milliseconds:.0f} ms counting alone"
            )


def disassemble() -> list[tuple[int, str]]:
    """Address and text of each instruction of neon.cpp."""
    with tempfile.TemporaryDirectory() as folder:
        built = f"{folder}/neon.o"
        source = KERNELS / "arm" / "neon.cpp"
        subprocess.run([COMPILER, *FLAGS, "-I", KERNELS, "-c", source, "-o", built], check=True)  # noqa: S603
        listing = [DISASSEMBLER, "--disassemble", "--no-show-raw-insn", built]
        text = subprocess.run(listing, check=True, capture_output=True, text=True).stdout  # noqa: S603
    found = re.findall(r"^ +([0-9a-f]+):\s+([^<\n]+)", text, re.MULTILINE)
    return [(int(address, 16), instruction.strip()) for address, instruction in found]


def inner_loop(instructions: list[tuple[int, str]]) -> str:
    """The first loop without a branch inside that counts STEPS vectors and loads its weights."""
    index = {address: i for i, (address, _) in enumerate(instructions)}
    for end, (address, instruction) in enumerate(instructions):
        branch = re.match(r"b\.\w+\s+([0-9a-f]+)", instruction)
        start = index.get(int(branch[1], 16)) if branch else None
        if start is None or instructions[start][0] > address:
            continue
        body = [text for _, text in instructions[start:end]]
        counts = sum(text.startswith("cnt") for text in body)
        if counts == STEPS and any(text.startswith("ldp") for text in body) and not any(map(is_branch, body)):
            return "\n".join(body) + "\n"
    raise AssertionError("neon.cpp has no such loop any more")


def is_branch(text: str) -> bool:
    """Whether an instruction may leave the loop."""
    return re.match(r"b\b|b\.|cbn?z|tbn?z|ret", text) is not None


def predict(loop: str, core: str, rounds: int = 300) -> float:
    """Cycles a round."""
    command = ["llvm-mca", "-mtriple=aarch64", f"-mcpu={core}", f"-iterations={rounds}"]
    report = subprocess.run(command, input=loop, check=True, capture_output=True, text=True).stdout  # noqa: S603
    cycles = re.search(r"Total Cycles:\s+(\d+)", report)
    assert cycles, report
    return int(cycles[1]) / rounds


if __name__ == "__main__":
    main()
