"""Without the optional packages all modules import, in silence, and what needs one says what to type: one fresh process."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
OPTIONAL = {
    "diffusers": {"diffusers"},
    "hub": {"huggingface_hub"},
    "inception": {"torchmetrics", "torch_fidelity"},
    "onnx": {"onnx", "onnxruntime", "onnxscript"},
    "studio": {"nicegui"},
    "text": {"tokenizers"},
}
OF_DEVELOPERS = {"docs", "release", "test"}
NAMED_BY_USERS = {"cluster", "tensorboard"}  # joblib.parallel_config("dask"), tracker="tensorboard"
STEPS = """
import importlib, json, pkgutil, sys, warnings
warnings.simplefilter("error")
for name in json.loads(sys.argv[1]):
    sys.modules[name] = None  # an import of it fails
import pushforward as pf
for module in pkgutil.walk_packages(pf.__path__, "pushforward."):
    # These are imported when diffusers and nicegui are there.
    if not module.name.endswith(("__main__", ".to_diffusers")) and ".studio." not in module.name:
        importlib.import_module(module.name)

import torch
from safetensors.torch import save_file
from pushforward.evaluation.pretrained_features import from_weights
warnings.simplefilter("ignore")  # of models trained for one step
brief = {"training": pf.TrainingSettings(steps=1, batch_size=4), "device": "cpu"}
model = pf.FlowMatching(network=pf.MLPSpec(width=4, depth=1), **brief).fit([[0.0, 1.0], [1.0, 0.0], [2.0, 1.0]])
save_file({"x": torch.zeros(1)}, "weights.safetensors")
actions = {
    "diffusers": lambda: pf.interop.export(model, "pipeline", "diffusers"),
    "hub": lambda: pf.load("hf://owner/name"),
    "inception": lambda: from_weights("inception", "weights.safetensors"),
    "studio": lambda: importlib.import_module("pushforward.cli.studio").command(),
    "onnx": lambda: pf.interop.export(model, "graph.onnx", "onnx"),
    "text": lambda: pf.Autoregressive(text=pf.Text(tokens="bpe"), **brief).fit(["to be", "or not"] * 5),
}
said = {}
for extra, action in actions.items():
    try:
        action()
    except ImportError as error:
        said[extra] = str(error)
print(json.dumps(said))
"""


def test_what_an_optional_package_is_needed_for_says_what_to_type(tmp_path):
    blocked = json.dumps(sorted(set().union(*OPTIONAL.values())))
    ran = subprocess.run(
        [sys.executable, "-c", STEPS, blocked],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    said = json.loads(ran.stdout)
    assert set(said) == set(OPTIONAL)
    for extra, sentence in said.items():
        assert re.search(rf"needs .*; install (it|them): python -m pip install 'pushforward\[{extra}\]'$", sentence), sentence


def test_every_extra_for_users_is_named_where_it_is_needed():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = set()
    for path in (ROOT / "src").rglob("*.py"):
        named |= set(re.findall(r'raise lacking\(.*"(\w+)"\)', path.read_text(encoding="utf-8")))
    assert named == set(extras) - OF_DEVELOPERS - NAMED_BY_USERS
