"""Families and the libraries behind them are imported when they are needed, and change nothing global: one fresh process."""

import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src"
STEPS = """
import random, sys
from pushforward.models import load
assert "pushforward.models.files.storage" in sys.modules
families = [name for name in sys.modules if name.startswith("pushforward.models.") and ".files" not in name]
assert families == [], families

import numpy as np, torch
from torch.distributions import Normal, transforms
import pushforward.networks.quantizer
from pushforward.dynamics.ode import integrate
from pushforward.networks import FlowSpec
libraries = {"torchdiffeq", "vector_quantize_pytorch", "zuko"}
assert not libraries & set(sys.modules), "imported before it was needed"

def facts():
    return (
        torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate(), torch.is_grad_enabled(),
        torch.get_default_dtype(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(),
        torch.distributions.Distribution._validate_args, sys.excepthook is sys.__excepthook__, np.geterr(),
        transforms._InverseTransform.__name__,
    )

before = facts()
integrate(lambda x, t: -x, torch.ones(1, 1), [0.0, 1.0])
assert "torchdiffeq" in sys.modules
assert facts() == before, "torchdiffeq"
import vector_quantize_pytorch
assert facts() == before, "vector_quantize_pytorch"
with torch.random.fork_rng():
    FlowSpec(width=4).build((2,), 0)(torch.zeros(1, 2))
assert "zuko" in sys.modules
assert facts() == before, "zuko"
try:
    Normal(0.0, -1.0)
except ValueError:
    print("checked")
"""


def test_a_fresh_process_imports_what_it_uses_and_keeps_its_global_state():
    ran = subprocess.run([sys.executable, "-c", STEPS], cwd=SOURCE, capture_output=True, text=True, check=False)
    assert ran.stdout.strip() == "checked", ran.stderr
