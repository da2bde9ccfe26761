"""Small runs of all families as they are stored by one version, which later versions must open: see docs/guides/formats.md.

    PYTHONPATH=src:tests/support python tests/support/stored_runs.py

writes those of this version to tests/models/files/fixtures/<version>/, a folder for each, with the samples of seed 0 and what they
were drawn with.
"""

import json
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mutations import made_models

import pushforward as pf

FIXTURES = Path(__file__).parents[1] / "models" / "files" / "fixtures"
SEED, ROWS = 0, 6


def machine() -> dict[str, Any]:
    """Return what the bits of a sample depend on, besides the model and the seed."""
    return {
        "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "numpy": np.__version__,
    }


def models() -> dict[str, tuple[Any, Any, Any]]:
    """Return small unfitted models of all families, with data and conditions; further kinds of data among them."""
    brief = pf.TrainingSettings(steps=3, batch_size=8)
    made = made_models(brief)
    for name in ("run", "run of two"):  # like others, with checkpoints
        del made[name]
    rng = np.random.default_rng(1)
    table = pd.DataFrame(
        {
            "age": rng.integers(18, 80, 60),
            "income": np.where(rng.random(60) < 0.3, 0.0, rng.lognormal(size=60)),
            "job": rng.choice(["clerk", "cook", None], 60),
            "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, 60), unit="D"),
        }
    )
    common = {"training": brief, "random_state": 0, "device": "cpu"}
    law = pf.TransformerSpec(width=8, depth=1, heads=2)
    tones = rng.normal(size=(24, 16, 1)).astype(np.float32)
    clouds = rng.normal(size=(24, 5, 2))
    return made | {
        "circuit": (pf.Circuit(n_states=2, n_trees=1, shrinkage=1.0, random_state=0), table, None),
        "autoregressive": (
            pf.Autoregressive(network=law, text=pf.Text(block=8), **common),
            ["to be or not", "to see or so"] * 10,
            None,
        ),
        "signals": (
            pf.FlowMatching(network=pf.UNet1dSpec(width=4, levels=1), kind="signals", rate=8, **common),
            tones,
            None,
        ),
        "sets": (pf.FlowMatching(network=pf.SetSpec(width=8, depth=1, heads=2), kind="sets", **common), clouds, None),
    }


def drawn(model: Any, data: Any) -> np.ndarray:
    """Return samples of a model as an array without objects: a table as its CSV; of a model without samples the codes of data."""
    rows = model.sample(ROWS, seed=SEED) if hasattr(model, "sample") else model.transform(data)[:ROWS]
    found = np.asarray(rows.to_csv(index=False, float_format="%.17g") if isinstance(rows, pd.DataFrame) else rows)
    return found.astype(str) if found.dtype == object else found


def main() -> None:
    """Write the runs of this version."""
    where = FIXTURES / pf.__version__
    shutil.rmtree(where, ignore_errors=True)
    for name, (model, X, condition) in models().items():
        folder = where / name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that three steps of training make poor models
            model.fit(X, condition=condition).save(folder)
            np.save(folder / "samples.npy", drawn(pf.load(folder), X))
    (where / "machine.json").write_text(json.dumps(machine(), indent=1) + "\n")
    size = sum(path.stat().st_size for path in where.rglob("*") if path.is_file())
    sys.stdout.write(f"{where}: {size:,} bytes\n")


if __name__ == "__main__":
    main()
