"""Tables of Hugging Face data sets: loads them, and finds the columns of images and class numbers."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgebnn.errors import UserError, check

if TYPE_CHECKING:
    from datasets import Dataset


def load_split(path: str, split: str, config: str | None = None) -> "Dataset":
    """Returns a split or a slice of a split as a table. Its rows are read from disk.

    Args:
        path: as for `HuggingFace`.
        split: the split in the notation of the `datasets` library.
        config: the configuration, for a data set that has several.

    Raises:
        UserError: the library is missing, the data cannot be found or read, or there is no such split.
    """
    try:
        import datasets
        from huggingface_hub.utils import logging
    except ImportError:
        raise UserError("data.class_path HuggingFace needs the datasets library; pip install datasets") from None
    # Errors are reported below in one line. Progress bars are for terminals only.
    logging.set_verbosity_error()
    datasets.utils.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        if any((Path(path) / name).is_file() for name in ("state.json", "dataset_dict.json")):
            return _saved_split(path, split)
        once = datasets.DownloadConfig(max_retries=0)
        return datasets.load_dataset(path, config, split=split, download_config=once)
    except ConnectionError:
        raise UserError(
            f"data set {path} is no folder here, and Hugging Face's hub cannot be reached; give the folder of its "
            "Parquet files with data.path, or connect this machine"
        ) from None
    except Exception as error:  # the library raises many kinds of errors for a wrong file or name
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(
            f"data set {path}, {split}: {reason}; check data.path, data.train_split and data.val_split"
        ) from None


def _saved_split(path: str, split: str) -> "Dataset":
    from datasets import ReadInstruction, load_from_disk

    saved = load_from_disk(path)
    parts = saved if isinstance(saved, dict) else {"train": saved}
    name, _, _ = split.partition("[")
    check(name in parts, f"it has the splits {', '.join(parts)}, not {name}")
    sizes = {key: len(part) for key, part in parts.items()}
    absolute = ReadInstruction.from_spec(split).to_absolute(sizes)
    check(len(absolute) == 1, "give one split")
    return parts[name].select(range(absolute[0].from_ or 0, sizes[name] if absolute[0].to is None else absolute[0].to))


def source_name(path: str) -> str:
    """Returns the name of the data in records: the name on the hub, or the last part of the folder."""
    return Path(path).resolve().name if Path(path).exists() else path


def image_column(table: "Dataset", what: str) -> str:
    """Returns the name of the only column that can hold images.

    Args:
        table: the table.
        what: the table and the key that sets the column, for messages.

    Raises:
        UserError: no column can hold images, or several can.
    """
    return _only(table, _may_be_image, what)


def label_column(table: "Dataset", what: str) -> str:
    """Returns the name of the only column that can hold class numbers. The rest is as for `image_column`."""
    return _only(table, _may_be_label, what)


def _only(table: "Dataset", fits: Callable[[Any], bool], what: str) -> str:
    found = [name for name, feature in table.features.items() if fits(feature)]
    check(len(found) == 1, f"{what} is not clear from the columns {', '.join(table.column_names)}; name one")
    return found[0]


def _may_be_image(feature: Any) -> bool:
    import datasets

    binary = getattr(feature, "dtype", None) in ("binary", "large_binary")
    return isinstance(feature, datasets.Image) or binary


def _may_be_label(feature: Any) -> bool:
    import datasets

    return isinstance(feature, datasets.ClassLabel) or "int" in str(getattr(feature, "dtype", ""))
