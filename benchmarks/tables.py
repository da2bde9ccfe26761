r"""Models of tables under one protocol: train on a table, draw as many rows, and compare with it.

    python benchmarks/tables.py --train adult_train.csv --test adult_test.csv --target income \
        --models real,independent,GMM,copula --peers-python peers/bin/python --out figures

Shape and Trend are sdmetrics' means over columns and over all pairs, of samples against training rows. Detection is sdmetrics'
score with boosted trees: 1 if samples cannot be told from training rows. AUC is that of boosted trees that predict the target,
trained on samples, on the test rows. *Nearer* is the share of samples nearer to training than to held-out rows, by a model that
was trained on one half of the training rows and compared with the other; .5 is ideal. CPU seconds are those of training on all
rows and drawing.

Models are separated by commas: ``real`` (the test rows in place of samples, which is what perfect samples reach; its AUC is
that of the training rows), ``independent`` (each column drawn by itself), families of pushforward by name, and peers:
``copula``, ``ctgan``, ``tvae`` (SDV), ``arf`` (arfpy). ``NAME:key=value:key=value`` gives settings; ``rows=8000`` cuts the
training rows of a peer. Each is trained in a process of its own. Empty cells are gaps; columns of text are categories, and so
are those in ``--categories``. ``--peers-python`` is the Python of an environment with the peers and xgboost; without it the
judge is scikit-learn's histogram boosting. ``FOLDER/tables.json`` keeps the figures: what was measured before is not measured
again.
"""

import argparse
import ast
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

PEERS = ("copula", "ctgan", "tvae", "arf")
HEADER = ("model", "CPU s", "Shape", "Trend", "detection", "AUC", "nearer")


def main() -> None:
    """Measure what is asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--target", default="", help="a column of two levels")
    parser.add_argument("--models", default="real,independent")
    parser.add_argument("--categories", default="", help="columns of numbers that are categories")
    parser.add_argument("--peers-python", default="")
    parser.add_argument("--out", type=Path, default=Path("figures"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / "tables.json"
    found: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.is_file() else {}
    models = options.models.split(",")
    for model in models:
        if model not in found:
            found[model] = measured(model, options)
            kept.write_text(json.dumps(found, indent=1))
            print(line(model, found[model]), flush=True)
    judges = sorted({found[model]["judge"] for model in models})
    print(f"\n{options.train.name}, judged by {' and '.join(judges)}\n")
    print("| " + " | ".join(HEADER) + " |\n" + "|---" * len(HEADER) + "|")
    print("\n".join(line(model, found[model]) for model in models))


def measured(model: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train a model on all rows and on a half, and return its figures."""
    train, test = read(options.train), read(options.test)
    categories = [c for c in train if c in options.categories.split(",") or not pd.api.types.is_numeric_dtype(train[c])]
    order = np.random.default_rng(0).permutation(len(train))
    half, rest = (train.iloc[np.sort(part)] for part in np.array_split(order, 2))
    with tempfile.TemporaryDirectory() as folder:
        seconds, samples = drawn(model, train, test, Path(folder), options)
        _, halved = drawn(model, half, test, Path(folder), options)
        taught = train if model == "real" else samples
        figures = {"seconds": seconds} | judged(train, test, samples, taught, categories, Path(folder), options)
    return figures | {"nearer": nearer(halved, half, rest, categories)}


def drawn(
    model: str, train: pd.DataFrame, test: pd.DataFrame, folder: Path, options: argparse.Namespace
) -> tuple[float, pd.DataFrame]:
    """Return CPU seconds and as many samples as training rows."""
    if model == "real":
        return 0.0, test
    if model == "independent":
        generator = np.random.default_rng(0)
        columns = {c: train[c].to_numpy()[generator.integers(0, len(train), len(train))] for c in train}
        return 0.0, pd.DataFrame(columns)
    name, settings = parsed(model)
    given, wanted = folder / "train.csv", folder / "samples.csv"
    train.to_csv(given, index=False)
    if name in PEERS:
        if not options.peers_python:
            raise SystemExit(f"{name} needs --peers-python, the Python of an environment where it is installed")
        script = [options.peers_python, str(Path(__file__).with_name("table_peers.py")), "draw", name, str(given), str(wanted)]
        answer = last_line([*script, str(len(train)), json.dumps(settings)])
    else:
        code = "import sys, tables; tables.train_family(*sys.argv[1:])"
        answer = last_line([sys.executable, "-c", code, name, json.dumps(settings), str(given), str(wanted)])
    return answer["seconds"], read(wanted)


def train_family(name: str, settings: str, given: str, wanted: str) -> None:
    """Train a family of pushforward, write as many samples, and print the CPU seconds; a process of its own runs this."""
    import pushforward as pf

    train = read(Path(given))
    begin = time.process_time()
    model = getattr(pf, name)(**{"random_state": 0} | json.loads(settings)).fit(train)
    samples = model.sample(len(train), seed=0)
    seconds = time.process_time() - begin
    pd.DataFrame(samples, columns=train.columns).to_csv(wanted, index=False)
    print(json.dumps({"seconds": seconds}))


def parsed(model: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the settings of NAME:key=value:key=value."""
    name, *pairs = model.split(":")
    settings: dict[str, Any] = {}
    for key, value in (pair.split("=", 1) for pair in pairs):
        try:
            settings[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            settings[key] = value
    return name, settings


def judged(
    train: pd.DataFrame,
    test: pd.DataFrame,
    samples: pd.DataFrame,
    taught: pd.DataFrame,
    categories: list[str],
    folder: Path,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Return Shape, Trend and detection of samples, and AUC after training on the rows that are taught."""
    from pushforward.metrics.mixed.detection import detection
    from pushforward.metrics.mixed.shapes import column_shapes
    from pushforward.metrics.mixed.trends import pair_trends
    from pushforward.metrics.mixed.utility import utility

    domains, (P, Q, held, rows) = mixed([samples, train, test, taught], categories)
    figures: dict[str, Any] = {
        "Shape": column_shapes(P, Q, domains).mean.value,
        "Trend": pair_trends(P, Q, domains).mean.value,
    }
    if options.peers_python:
        paths = [folder / name for name in ("real.csv", "test.csv", "drawn.csv", "taught.csv")]
        for table, path in zip((train, test, samples, taught), paths, strict=True):
            table.to_csv(path, index=False)
        script = [options.peers_python, str(Path(__file__).with_name("table_peers.py")), "judge", *map(str, paths)]
        return figures | last_line([*script, options.target, json.dumps(categories)])
    figures |= {"judge": "histogram boosting", "detection": detection(P, Q, domains).score.value}
    if options.target:
        target = list(train.columns).index(options.target)
        figures["auc"] = utility(rows, Q, held, domains, target).synthetic.value
    return figures


def nearer(samples: pd.DataFrame, half: pd.DataFrame, rest: pd.DataFrame, categories: list[str]) -> float:
    """Return the share of samples nearer to the half that was trained on."""
    from pushforward.metrics.mixed.closest import closest_records

    domains, parts = mixed([samples, half, rest], categories)
    return closest_records(*parts, domains).nearer.value


def mixed(tables: list[pd.DataFrame], categories: list[str]) -> tuple[tuple[Any, ...], list[np.ndarray]]:
    """Return the domains of the columns and each table as mixed rows."""
    from pushforward.probability.domain import Domain

    domains, columns = [], []
    for name in tables[0].columns:
        if name not in categories:
            domains.append(Domain("real"))
            columns.append([table[name].to_numpy(dtype=float) for table in tables])
            continue
        levels = sorted({str(level) for table in tables for level in table[name].dropna()})
        number = {level: float(place) for place, level in enumerate(levels)}
        domains.append(Domain("category", 0, max(len(levels) - 1, 0)))
        columns.append([table[name].astype(str).where(table[name].notna()).map(number).to_numpy(float) for table in tables])
    return tuple(domains), [np.stack(part, axis=1) for part in zip(*columns, strict=True)]


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, keep_default_na=False, na_values=[""], low_memory=False)


def last_line(command: list[str]) -> dict[str, Any]:
    """Run a process in the folder of this script and return the JSON that ends its output."""
    result = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent, check=False)
    if result.returncode:
        raise SystemExit(f"{' '.join(command[:3])} ended with {result.returncode}:\n{result.stderr[-3000:]}")
    answer: dict[str, Any] = json.loads(result.stdout.strip().splitlines()[-1])
    return answer


def line(model: str, figures: dict[str, Any]) -> str:
    """Return the row of a table."""
    shares = [
        format(figures[key], ".3f").lstrip("0") if key in figures else "" for key in ("Shape", "Trend", "detection", "auc")
    ]
    return "| " + " | ".join([model, f"{figures['seconds']:.1f}", *shares, f"{figures['nearer']:.3f}".lstrip("0")]) + " |"


if __name__ == "__main__":
    main()
