"""Files, lineage, commands and the doctor's findings on the page Model."""

from pathlib import Path

import pandas as pd
import streamlit as st

from edgebnn.errors import UserError

from .. import shell
from ..data.lineage import artifacts, commands, stages
from ..data.store import Snapshot
from ..data.text import clean, size

LARGEST_DOWNLOAD = 200_000_000


def show_artifacts(found: Snapshot, model: str) -> None:
    """Lists the model's files with their digests, to download."""
    st.subheader("Files", anchor=False)
    files = artifacts(found, model)
    if not files:
        shell.note("The runs folder holds no file that a record of this model names.", kind="info")
        return
    rows = [{"File": file.name, "Size": size(file.bytes), "SHA-256": file.sha256} for file in files]
    st.dataframe(pd.DataFrame(rows), hide_index=True, alt="Files")
    with st.container(horizontal=True):
        for number, file in enumerate(files):
            if file.bytes <= LARGEST_DOWNLOAD:
                st.download_button(
                    f"Download file {number + 1}",
                    file.path.read_bytes,
                    file_name=file.name,
                    mime="application/octet-stream",
                    key=f"download_{file.sha256}_{number}",
                    icon=":material/download:",
                    help=f"Row {number + 1} of the table",
                    on_click="ignore",
                )


def show_lineage(found: Snapshot, model: str) -> None:
    """Lists the stages that trained the model."""
    st.subheader("Where it comes from", anchor=False)
    trained = stages(found, model)
    if not trained:
        shell.note(
            "The runs folder holds no configuration of this model. It was trained or exported elsewhere.", kind="info"
        )
        return
    rows = [
        {
            "Step": number,
            "Run folder": stage.name,
            "Model": stage.model,
            "Method": stage.method,
            "Epochs": stage.epochs,
            "Inputs": "; ".join(clean(f"{text} {file}") for text, file in stage.parents) or None,
        }
        for number, stage in enumerate(trained, start=1)
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True, alt="Stages", placeholder="\N{EN DASH}")
    with st.expander("Configurations", icon=":material/settings:"):
        for stage in trained:
            shell.plain(stage.name)
            st.json(stage.config, expanded=False)


def show_commands(found: Snapshot, model: str) -> None:
    """Lists the commands that make the model's records again."""
    st.subheader("Commands", anchor=False)
    lines = [f"# {what}\n{command}" for what, command in commands(found, model)]
    if lines:
        st.caption("They were put together from the records and configurations. Files without a folder lie in the run.")
        st.code("\n".join(lines), language="bash", wrap_lines=True)
    else:
        shell.note("No record tells how it was made.", kind="info")


def show_doctor(found: Snapshot, model: str) -> None:
    """Shows what `edgebnn doctor` says of a file. It runs an ONNX file once, so `shell.may_run` must allow it."""
    st.subheader("The doctor's findings", anchor=False)
    files = [file for file in artifacts(found, model) if file.path.suffix.lower() in (".onnx", ".tflite")]
    if not files:
        shell.note("The runs folder holds no ONNX or TFLite file of this model to examine.", kind="info")
        return
    if not shell.may_run():
        shell.note(shell.NO_RUNS)
        return
    by_name = {file.name: file for file in files}
    chosen = str(st.selectbox("File", list(by_name), key="doctor_file"))
    if not st.button("Examine", icon=":material/stethoscope:", help="Reads the file, and runs an ONNX file once."):
        return
    try:
        with st.spinner("Examining"):
            rows = findings(by_name[chosen].path)
    except UserError as error:
        shell.note(clean(str(error)))
        return
    if rows.empty:
        shell.note("The doctor found nothing wrong.", kind="info")
    else:
        st.dataframe(rows, hide_index=True, alt="Findings")


def findings(path: Path) -> pd.DataFrame:
    """Returns the doctor's findings about a file, and about this machine."""
    from edgebnn.doctor import examine

    report = examine(path)
    rows = [
        {"Severity": each.severity, "Finding": clean(each.what, 1000), "What to do": clean(each.remedy, 1000)}
        for each in (*report.findings, *report.environment)
    ]
    return pd.DataFrame(rows, columns=["Severity", "Finding", "What to do"])
