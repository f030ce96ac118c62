"""What the doctor says: findings, and the tables they stand beside."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from edgebnn.doctor.analysis.convolutions import Convolution
from edgebnn.text import columns, printable

Severity = Literal["problem", "note"]
NAMED = 3


@dataclass(frozen=True)
class Finding:
    """Something to know or to mend.

    Attributes:
        code: which finding it is, for programs.
        severity: "problem": the file is slow, large or wrong for it; "note": worth knowing.
        what: what was found.
        remedy: what to do.
        where: names of the operators or tensors.
    """

    code: str
    severity: Severity
    what: str
    remedy: str
    where: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """Bytes of a part of the file."""

    name: str
    bytes: int


@dataclass(frozen=True)
class Uncounted:
    """Operators of a kind that no count of OPs holds.

    Attributes:
        kind: their name.
        count: how many there are.
        values: what they read and write for one image, constants left out.
    """

    kind: str
    count: int
    values: int


@dataclass(frozen=True)
class Work:
    """Multiply-accumulates of a kind, and the least milliseconds a core takes for them; None if that is not known."""

    kind: str
    macs: int
    rate: float
    milliseconds: float | None


@dataclass(frozen=True)
class Speed:
    """The roofline: what the multiply-accumulates alone would take on one core."""

    core: str
    work: tuple[Work, ...]
    remark: str

    @property
    def milliseconds(self) -> float:
        """Of what is known."""
        return sum(work.milliseconds or 0.0 for work in self.work)


@dataclass(frozen=True)
class Report:
    """All of it.

    Attributes:
        path, format, bytes: the file; its bytes with those of files beside it that hold its weights.
        findings: about the file.
        environment: findings about this machine; none where another core was named.
        convolutions: each of the file's.
        parts: bytes by part, the sum being the file.
        uncounted: operators that take time without counting as OPs, most values first.
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
        return sum(finding.severity == "problem" for finding in (*self.findings, *self.environment))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self) | {"problems": self.problems}

    def to_text(self) -> str:
        """For people."""
        blocks = [f"{printable(self.path)}: {self.format}, {self.bytes / 1e6:.2f} MB"]
        found = (*self.findings, *self.environment)
        blocks += [_finding(finding) for finding in found] or ["nothing found"]
        blocks += [_convolutions(self.convolutions), _parts(self.parts, self.bytes)]
        if self.uncounted:
            blocks.append(_uncounted(self.uncounted))
        blocks.append(_speed(self.speed))
        return "\n\n".join(blocks)


def _finding(finding: Finding) -> str:
    names = printable(", ".join(finding.where[:NAMED]))
    more = f" and {len(finding.where) - NAMED} more" if len(finding.where) > NAMED else ""
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
