"""Peers and judges of ``benchmarks/tables.py`` that need packages of their own; runs in their environment, by that script.

    python benchmarks/table_peers.py draw MODEL train.csv samples.csv ROWS SETTINGS
    python benchmarks/table_peers.py judge train.csv test.csv samples.csv taught.csv TARGET CATEGORIES

The models: ``copula`` (SDV's Gaussian copula), ``ctgan`` and ``tvae`` (SDV), ``arf`` (arfpy). The judge is XGBoost at its
default settings; detection is scored as in sdmetrics. Results are one line of JSON, the last one of the output.
"""

import json
import sys
import time
import warnings
from typing import Any

import numpy as np
import pandas as pd

ABSENT = "absent"


def read(path: str) -> pd.DataFrame:
    return pd.read_csv(path, keep_default_na=False, na_values=[""], low_memory=False)


def draw(name: str, train: str, samples: str, rows: str, settings: str) -> dict[str, Any]:
    data, options = read(train), json.loads(settings)
    most = options.pop("rows", len(data))
    data = data.sample(min(most, len(data)), random_state=0)
    drawn, begin = arf(data, int(rows), options) if name == "arf" else sdv(name, data, int(rows), options)
    seconds = time.process_time() - begin
    drawn[list(data.columns)].to_csv(samples, index=False)
    return {"seconds": seconds}


def sdv(name: str, data: pd.DataFrame, rows: int, options: dict[str, Any]) -> tuple[pd.DataFrame, float]:
    from sdv.metadata import Metadata
    from sdv.single_table import CTGANSynthesizer, GaussianCopulaSynthesizer, TVAESynthesizer

    kinds = {"copula": GaussianCopulaSynthesizer, "ctgan": CTGANSynthesizer, "tvae": TVAESynthesizer}
    metadata = Metadata()
    metadata.add_table("rows")
    for column in data:
        kind = "numerical" if pd.api.types.is_numeric_dtype(data[column]) else "categorical"
        metadata.add_column(column, table_name="rows", sdtype=kind)
    begin = time.process_time()
    model = kinds[name](metadata, **options)
    model.fit({"rows": data})
    drawn = model.sample(rows)
    return (drawn["rows"] if isinstance(drawn, dict) else drawn), begin


def arf(data: pd.DataFrame, rows: int, options: dict[str, Any]) -> tuple[pd.DataFrame, float]:
    from arfpy import arf as package

    text = [column for column in data if not pd.api.types.is_numeric_dtype(data[column])]
    complete = data.assign(**{column: data[column].fillna(ABSENT) for column in text}).dropna().reset_index(drop=True)
    np.in1d = np.isin  # noqa: NPY201 arfpy 0.1.1 calls a function that NumPy no longer has
    np.random.seed(0)  # noqa: NPY002 arfpy draws from the global generator
    begin = time.process_time()
    model = package.arf(x=complete, random_state=0, **options)
    model.forde()
    drawn = model.forge(n=rows)
    whole = [column for column in data if pd.api.types.is_integer_dtype(data[column])]
    columns = {column: drawn[column].astype(object).replace(ABSENT, None) for column in text}
    return drawn.assign(**columns, **{column: drawn[column].round().astype(int) for column in whole}), begin


def judge(train: str, test: str, samples: str, taught: str, target: str, categories: str) -> dict[str, Any]:
    import xgboost
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold

    parts = [read(path) for path in (train, test, samples, taught)]
    for column in json.loads(categories):
        levels = pd.Index(sorted({str(level) for part in parts for level in part[column].dropna()}))
        for part in parts:
            part[column] = pd.Categorical(part[column].astype(str).where(part[column].notna()), categories=levels)
    real, held, drawn, rows = parts

    def scores(X: pd.DataFrame, label: np.ndarray, fresh: pd.DataFrame) -> np.ndarray:
        model = xgboost.XGBClassifier(enable_categorical=True, n_jobs=1)
        return model.fit(X, label).predict_proba(fresh)[:, 1]

    n = min(len(real), len(drawn))
    pooled = pd.concat([drawn.sample(n, random_state=0), real.sample(n, random_state=0)], ignore_index=True)
    label, found = np.repeat([1, 0], n), []
    for inside, outside in StratifiedKFold(3, shuffle=True, random_state=0).split(pooled, label):
        found.append(roc_auc_score(label[outside], scores(pooled.iloc[inside], label[inside], pooled.iloc[outside])))
    figures = {"judge": f"XGBoost {xgboost.__version__}", "detection": float(np.mean(np.minimum(1, 2 - 2 * np.array(found))))}
    if target:
        rows, held = rows.dropna(subset=[target]), held.dropna(subset=[target])
        one = held[target].cat.categories[0]
        label, truth = rows[target] == one, held[target] == one
        certain = label.nunique() < 2
        predicted = np.zeros(len(held)) if certain else scores(rows.drop(columns=target), label, held.drop(columns=target))
        figures["auc"] = float(roc_auc_score(truth, predicted))
    return figures


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    verb, *arguments = sys.argv[1:]
    print(json.dumps({"draw": draw, "judge": judge}[verb](*arguments)))
