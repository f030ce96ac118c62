"""The page Model: everything that is known of one model."""

import pandas as pd
import streamlit as st

from edgebnn.records import Record

from .. import shell
from ..data.facts import artifact, headline, machine, newest, void
from ..data.store import Snapshot
from ..data.text import size, words
from .model_files import show_artifacts, show_commands, show_doctor, show_lineage
from .model_layers import show_layers
from .model_training import show_training

ABSENT = "\N{EN DASH}"
CONTEXT = ("protocol", "data", "epochs", "method", "runtime", "threads", "isa", "target", "resolution", "images")


def show() -> None:
    """Shows the page."""
    found = shell.snapshot()
    chosen = st.selectbox("Model", found.models, key="name", bind="query-params", help="Type a part of the name.")
    if chosen is None:
        return
    shell.title(chosen)
    records = [record for record in found.records if record.model == chosen]
    show_cards(found.table[found.table["model"] == chosen])
    names = ["Evaluations", "Layers", "Training", "Checks", "Files", "Records"]
    picked = st.segmented_control("Part", names, default=names[0], required=True, key="part", bind="query-params")
    show_part(picked or names[0], found, chosen, records)


def show_part(part: str, found: Snapshot, model: str, records: list[Record]) -> None:
    """Shows one part of the page."""
    if part == "Evaluations":
        show_evaluations(records)
        show_latencies(records)
    elif part == "Layers":
        show_layers(records)
    elif part == "Training":
        show_training(found, model)
    elif part == "Checks":
        show_parity(records)
        show_doctor(found, model)
    elif part == "Files":
        show_artifacts(found, model)
        show_lineage(found, model)
        show_commands(found, model)
    else:
        show_records(records)


def show_cards(rows: pd.DataFrame) -> None:
    """Shows the figures that one wants first."""
    sound = rows[rows["void"].isna() & rows["median_ms"].notna()].sort_values("median_ms")
    smallest = rows.dropna(subset=["bytes"]).sort_values("bytes")
    top1, ops = rows["top1"].max(), rows["ops"].max()
    checked = rows["parity"].dropna()
    with st.container(horizontal=True):
        _card("Top-1 accuracy", "" if pd.isna(top1) else f"{top1:.2f} %", "The best accuracy of the rows on Choose.")
        _card(
            "Fastest file",
            "" if sound.empty else f"{sound['median_ms'].iloc[0]:.3f} ms",
            "The least median latency of all files, devices and runtimes. Void times do not count.",
        )
        _card("Smallest file", "" if smallest.empty else size(smallest["bytes"].iloc[0]), "Bytes of the model file.")
        _card("OPs", "" if pd.isna(ops) else f"{ops / 1e6:.2f} M", "FLOPs + BOPs / 64 for one image.")
        _card(
            "Verified files",
            f"{(checked == 'passed').sum()} of {len(checked)}" if len(checked) else "",
            "Files that `edgebnn export verify` found equal to the trained network.",
        )


def _card(label: str, value: str, help: str) -> None:
    st.metric(label, value or ABSENT, help=help, border=True, width=165)


def show_evaluations(records: list[Record]) -> None:
    """Shows the accuracies, by protocol."""
    st.subheader("Accuracy", anchor=False)
    kinds = {"accuracy": "top1", "map": "map"}
    mine = [record for record in newest(records) if record.kind in kinds]
    if not mine:
        shell.note("No record holds an accuracy. `edgebnn train evaluate FILE --data DATA --record RUN` measures it.")
        return
    best = headline([record for record in mine if record.kind == "accuracy" and not artifact(record)])
    table = pd.DataFrame(
        [
            {
                "Protocol": words(record.context.get("protocol")),
                "Data": words(record.context.get("data")),
                "File": artifact(record) or None,
                "Top-1 %": record.values.get("top1"),
                "Top-5 %": record.values.get("top5"),
                "mAP %": record.values.get("map"),
                "Images": record.values.get("images", record.context.get("images")),
                "Epochs": words(record.context.get("epochs")) or None,
                "Method": words(record.context.get("method")) or None,
                "Measured (UTC)": record.created[:16].replace("T", " "),
                "On Choose": "yes" if record is best else "",
            }
            for record in reversed(mine)
        ]
    )
    _table(table, "Accuracies")
    st.caption("Compare accuracies of one protocol and one data set only. `On Choose` marks the one that Choose shows.")


def show_latencies(records: list[Record]) -> None:
    """Shows the newest latency of each file."""
    mine = [record for record in newest(records) if record.kind == "latency"]
    st.subheader("Latency", anchor=False)
    if not mine:
        shell.note("No record holds a latency. `edgebnn bench FILE --record RUN` measures it.", kind="info")
        return
    table = pd.DataFrame(
        [
            {
                "File": artifact(record),
                "Runtime": words(record.context.get("runtime")),
                "ISA": words(record.context.get("isa")) or None,
                "Threads": words(record.context.get("threads")),
                "Device": machine(record),
                "Median ms": record.values["median_ms"],
                "p10 ms": record.values["p10_ms"],
                "p90 ms": record.values["p90_ms"],
                "First run ms": record.values.get("first_ms"),
                "Load ms": record.values.get("init_ms"),
                "Void because": void(record) or None,
                "Measured (UTC)": record.created[:16].replace("T", " "),
            }
            for record in sorted(mine, key=lambda record: record.values["median_ms"])
        ]
    )
    _table(table, "Latencies")


def show_parity(records: list[Record]) -> None:
    """Shows whether the files equal the network."""
    st.subheader("Verification", anchor=False)
    mine = [record for record in newest(records) if record.kind == "parity"]
    if not mine:
        shell.note("No file was verified. `edgebnn export verify CHECKPOINT FILE --record RUN` does it.", kind="info")
        return
    table = pd.DataFrame(
        [
            {
                "File": artifact(record),
                "Verdict": "passed" if record.values["ok"] else "FAILED",
                "Same first class %": record.values.get("top1_agreement"),
                "Bits that differ %": record.values.get("bits_differing"),
                "Exact units": record.values.get("units_exact"),
                "Units": record.values.get("units"),
                "Largest logit difference": record.values.get("max_logit_difference"),
                "Images": record.values.get("images"),
                "Data": words(record.context.get("data")),
            }
            for record in mine
        ]
    )
    _table(table, "Verification")
    st.caption(
        "A unit is exact if it computes the right sums, given the same input. A few bits may differ between runtimes "
        "that round in another order."
    )


def show_records(records: list[Record]) -> None:
    """Shows all records, the newest first."""
    current = {id(record) for record in newest(records)}
    table = pd.DataFrame(
        [
            {
                "Kind": record.kind,
                "File": artifact(record) or None,
                "Values": words(dict(record.values)),
                "Circumstances": words({key: record.context[key] for key in CONTEXT if key in record.context}),
                "Device": machine(record) or None,
                "Measured (UTC)": record.created[:16].replace("T", " "),
                "Age": "newest" if id(record) in current else "older",
            }
            for record in reversed(records)
        ]
    )
    st.subheader(f"{len(records)} records", anchor=False)
    _table(table, "Records")


def _table(table: pd.DataFrame, name: str) -> None:
    shown = table.dropna(axis=1, how="all")
    st.dataframe(shown, hide_index=True, alt=name, placeholder=ABSENT)
