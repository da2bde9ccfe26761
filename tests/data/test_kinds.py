"""A new kind of data is one class: registered, it trains, samples, is saved, loaded, written and evaluated like the others."""

from pathlib import Path

import numpy as np
import pytest
import torch

import pushforward as pf
from pushforward import plots
from pushforward.data import KINDS, Kind, Schema, open_data, register_kind, write_samples


@pytest.fixture
def angles():
    """Angles in radians (N, K): inside the library each is a point on the circle, (N, 2 K)."""

    @register_kind
    class Angles(Kind):
        name = "angles"
        noun = "angles"
        unit = "radians"
        has_columns = False
        ending = "npy"
        shown = 50
        followed = 10
        drawn_while_training = 20

        def recognizes(self, shape, integer):
            return False

        def channels(self, shape, container):
            if len(shape) != 2:
                raise ValueError(f"kind='angles' needs angles (N, K), not an array of shape {shape}")

        def internal_shape(self, row, channels):
            return (2 * row[0],)

        def inward(self, rows, channels):
            return torch.cat((rows.cos(), rows.sin()), 1)

        def outward(self, rows, row, channels):
            x, y = rows.chunk(2, 1)
            return torch.atan2(y, x)

        def describe(self, shape):
            return f"{shape[0] // 2} angles"

        def scaling(self, x, low, high, integer):
            return torch.zeros_like(low), torch.full_like(low, 0.5**0.5)

        def view(self, rows, channels):
            return rows if channels is None else np.arctan2(*np.split(rows, 2, axis=1)[::-1])

        def draw(self, rows, drawing):
            return plots.columns_grid(rows, drawing.beside)

        def check_file(self, path, row, dtype):
            if path.suffix == ".csv":
                raise ValueError(f"{path}: angles are written to .npy files")

    yield Angles
    del KINDS["angles"]


def some_angles(n=300):
    """Angles about 3 radians, where a mean of numbers would be wrong: half of them are just above -pi."""
    x = np.random.default_rng(0).normal([3.1, -3.0], 0.2, size=(n, 2))
    return np.arctan2(np.sin(x), np.cos(x))


@pytest.mark.usefixtures("blank")
def test_a_new_kind_is_one_class(angles, tmp_path):
    X = some_angles()
    settings = pf.TrainingSettings(steps=40, batch_size=64, learning_rate=0.02)
    model = pf.train(
        X,
        pf.FlowMatching(kind="angles", network=pf.MLPSpec(width=16, depth=1), training=settings, random_state=0),
        out=tmp_path / "run",
    )
    samples = model.sample(200, seed=1)
    assert samples.shape == (200, 2)
    assert np.abs(samples).max() <= np.pi
    resultant = np.abs(np.exp(1j * samples).mean(axis=0))  # 1 for equal angles, 0 for uniform ones
    assert (resultant > 0.8).all()
    assert (tmp_path / "run" / "samples.png").is_file()

    again = pf.load(tmp_path / "run")
    np.testing.assert_array_equal(again.sample(5, seed=1), samples[:5])
    assert again.space_.schema.kind == "angles"

    path = write_samples(tmp_path / "samples.npy", samples, model.space_.schema)
    np.testing.assert_array_equal(np.load(path), samples)
    with pytest.raises(ValueError, match=r"angles are written to \.npy files"):
        write_samples(tmp_path / "samples.csv", samples, model.space_.schema)

    evaluation = pf.evaluate(model, some_angles(40), X_train=X[:60], samples=20)
    assert not evaluation.failures
    assert evaluation.find("energy distance") is not None
    assert evaluation.arrays["neighbor_rows"].shape[1:] == (2,)
    assert evaluation.report(tmp_path / "report.html").stat().st_size > 10_000


def test_a_new_kind_opens_what_it_takes(angles):
    assert open_data(some_angles(), kind="angles").schema == Schema("angles", "numpy", (2,), ("float64",))
    with pytest.raises(ValueError, match=r"kind='angles' needs angles \(N, K\), not an array of shape \(4, 3, 2\)"):
        open_data(np.zeros((4, 3, 2)), kind="angles")


def test_rows_come_back_through_the_new_layout(angles):
    X = some_angles()
    schema = Schema.infer(X, "angles")
    np.testing.assert_allclose(schema.to_user(schema.to_internal(X)), X, atol=1e-12)


def test_no_module_outside_data_asks_for_the_kind():
    root = Path(pf.__file__).parent
    asking = [
        f"{path.relative_to(root)}:{number}"
        for path in sorted(root.rglob("*.py"))
        if path.relative_to(root).parts[0] != "data"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if any(pattern in line for pattern in ("kind ==", "kind !=", "kind in ", "is_frame"))
    ]
    assert asking == []
