"""A resumed run compares the files that it reads by content."""

import shutil
from pathlib import Path

import pytest
import torch

from edgebnn.errors import UserError
from edgebnn.files import sha256
from edgebnn.train.__main__ import main
from tests.train.conftest import WIDTH
from tests.train.runs import last, write_config


def test_the_teacher_is_compared_by_content(tmp_path: Path, teacher: str) -> None:
    config = write_config(tmp_path / "run.yaml", "Distill", student={"width": WIDTH}, teacher=teacher)
    options = ["fit", "--config", str(config)]
    main([*options, "--trainer.max_steps", "2"])
    resume = [*options, "--ckpt_path", str(tmp_path / "run/last.ckpt")]
    assert last(tmp_path / "run")["inputs"] == {"model.init_args.teacher": sha256(teacher)}
    moved = tmp_path / "moved.safetensors"
    shutil.copy(teacher, moved)
    main([*resume, "--trainer.max_steps", "3", "--model.teacher", str(moved)])
    assert last(tmp_path / "run")["global_step"] == 3
    # Other bytes under the same name, and under another name.
    content = bytearray(Path(teacher).read_bytes())
    content[-1] ^= 1
    moved.write_bytes(content)
    for path in (moved, tmp_path / "other.safetensors"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"another model.init_args.teacher \({path} is not the file"):
            main([*resume, "--model.teacher", str(path)])
    # A run of an older version stored no hash. Its paths are compared.
    state = torch.load(tmp_path / "run/last.ckpt", weights_only=True)
    del state["inputs"]
    torch.save(state, tmp_path / "run/last.ckpt")
    with pytest.raises(UserError, match=r"another model.init_args.teacher \(was .*moved.*, is .*teacher.safetensors"):
        main(resume)
