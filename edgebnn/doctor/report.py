"""The doctor's report: its findings and its tables."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from edgebnn.doctor.analysis.convolutions import Convolution
from edgebnn.text import columns, printable

Severity = Literal["problem", "note"]
SHOWN_NAMES = 3
"""The number of operators or tensors that the text of a finding names."""


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        code: identifies the finding in programs.
        severity: "problem" if the file is slow, large or wrong because of it; "note" otherwise.
        what: what was found.
        remedy: what to do about it.
        where: names of the operators or tensors.
    """

    code: str
    severity: Severity
    what: str
    remedy: str
    where: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """The bytes of one part of the file."""

    name: str
    bytes: int


@dataclass(frozen=True)
class Uncounted:
    """The operators of one kind that are not counted as OPs.

    Attributes:
        kind: the operators' name.
        count: number of operators.
        values: number of values that they read and write for one image, without constants.
    """

    kind: str
    count: int
    values: int


@dataclass(frozen=True)
class Work:
    """The multiply-accumulates of one kind.

    Attributes:
        kind: "binary", "integer" or "float".
        macs: number of multiply-accumulates for one image.
        rate: multiply-accumulates per second on the core; 0 if it is not known.
        milliseconds: the least time on the core; None if the rate is not known.
    """

    kind: str
    macs: int
    rate: float
    milliseconds: float | None


@dataclass(frozen=True)
class Speed:
    """The roofline: the time of the multiply-accumulates alone on one core."""

    core: str
    work: tuple[Work, ...]
    remark: str

    @property
    def milliseconds(self) -> float:
        """The sum of the times that are known."""
        return sum(work.milliseconds or 0.0 for work in self.work)


@dataclass(frozen=True)
class DoctorReport:
    """The report on one file.

    Attributes:
        path, format: the file and its format.
        bytes: size of the file and of the external files that hold its weights.
        findings: findings about the file.
        environment: findings about this machine; empty if another core was named.
        convolutions: the file's convolutions and linear layers.
        parts: bytes by part. Their sum is `bytes`.
        uncounted: operators that take time but are not counted as OPs, most values first.
        speed: the roofline.
    """

    path: str
    format: str
    bytes: int
    findings: tuple[Finding, ...]
    environment: tuple[Finding, ...]
    convolutions: tuple[Convolution, ...]
    parts: tuple[Part, ...]
    uncounted: tuple[Uncounted, ...]
    speed: Speed

    @property
    def problems(self) -> int:
        """Number of problems, in the file and in the machine."""
        return sum(finding.severity == "problem" for finding in (*self.findings, *self.environment))

    def to_json(self) -> dict[str, Any]:
        """Returns the report as JSON data. The field names are part of the command's interface."""
        return asdict(self) | {"problems": self.problems}

    def to_text(self) -> str:
        """Returns the report as text for a terminal."""
        blocks = [f"{printable(self.path)}: {self.format}, {self.bytes / 1e6:.2f} MB"]
        found = (*self.findings, *self.environment)
        blocks += [_finding(finding) for finding in found] or ["nothing found"]
        blocks += [_convolutions(self.convolutions), _parts(self.parts, self.bytes)]
        if self.uncounted:
            blocks.append(_uncounted(self.uncounted))
        blocks.append(_speed(self.speed))
        return "\n\n".join(blocks)


def _finding(finding: Finding) -> str:
    names = printable(", ".join(finding.where[:SHOWN_NAMES]))
    more = f" and {len(finding.where) - SHOWN_NAMES} more" if len(finding.where) > SHOWN_NAMES else ""
    lines = [f"{finding.severity.upper()}  {finding.what}", f"  do: {finding.remedy}"]
    return "\n".join([*lines, *([f"  at: {names}{more}"] if names else [])])


def _convolutions(found: tuple[Convolution, ...]) -> str:
    groups: dict[tuple[str, ...], list[int]] = {}
    for each in found:
        kernel = f"{each.kernel}x{each.kernel}" + (f", stride {each.stride}" if each.stride > 1 else "")
        key = (
            each.kind,
            kernel if each.kernel else "",
            each.padding if each.kernel else "",
            "fell back" if each.fell_back else "",
        )
        count = groups.setdefault(key, [0, 0])
        count[0] += 1
        count[1] += each.macs
    rows = [(*key[:3], str(count), f"{macs / 1e6:,.2f}", key[3]) for key, (count, macs) in groups.items()]
    return columns([("convolutions", "kernel", "padding", "count", "million MACs", ""), *rows], "lllrrl")


def _parts(parts: tuple[Part, ...], size: int) -> str:
    rows = [(part.name, f"{part.bytes:,}", f"{part.bytes / max(size, 1):.1%}") for part in parts]
    return columns([("bytes by part", "bytes", "share"), *rows], "lrr")


def _uncounted(found: tuple[Uncounted, ...]) -> str:
    rows = [(printable(each.kind), str(each.count), f"{each.values / 1e6:,.3f}") for each in found]
    return columns([("operators that no OPs count", "count", "million values read and written"), *rows], "lrr")


def _speed(speed: Speed) -> str:
    rows = []
    for work in speed.work:
        known = work.milliseconds is not None
        figures = (f"{work.rate / 1e9:,.1f}", f"{work.milliseconds:.3f}") if known else ("?", "?")
        rows.append((work.kind, f"{work.macs / 1e6:,.2f}", *figures))
    rows.append(("at least", "", "", f"{speed.milliseconds:.3f}"))
    header = (f"roofline, one core: {speed.core}", "million MACs", "G MACs/s", "ms")
    return columns([header, *rows], "lrrr") + (f"\n{speed.remark}" if speed.remark else "")
