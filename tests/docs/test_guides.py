"""The page on other people's models: its blocks run here, for the site is built without diffusers."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

PAGE = Path(__file__).parents[2] / "docs/guides/pretrained.md"


def test_the_page_on_pretrained_models_runs(tmp_path, monkeypatch):
    pytest.importorskip("diffusers")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 8
    names = {}
    for block in blocks:
        # A thousand steps are tested elsewhere against the pipeline's own.
        exec(compile(block.replace("steps=1000", "steps=20"), PAGE.name, "exec"), names)
    assert names["x"].shape == names["filled"].shape == (2, 1, 8, 8)
    assert np.isfinite(names["result"].values).all()
    assert names["x_t"].shape == (4, 1, 8, 8)
    assert 0.1 < names["x_t"].std() < 3
    assert names["images"].shape[:3] == (2, 8, 8)
