"""Interpolated and mixed rows have the codes that they should have."""

import numpy as np
import pandas as pd
import pytest

import pushforward as pf

DIGITS = pf.open_data("digits").values
FLOW = {"network": pf.FlowSpec(width=8, steps=2), "train_steps": 3, "random_state": 0}


@pytest.fixture(scope="module")
def flow():
    X = pf.open_data("moons").values[:200].astype(np.float64)
    return pf.NormalizingFlow(**FLOW).fit(X), X


def test_interpolated_codes_lie_on_the_arc_between_the_ends(flow):
    model, X = flow
    a, b = model.transform(X[:2])
    rows = pf.interpolate(model, X[0], X[1], 5)
    angle = np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    s = np.linspace(0, 1, 5)[:, None]
    arc = (np.sin((1 - s) * angle) * a + np.sin(s * angle) * b) / np.sin(angle)
    np.testing.assert_allclose(model.transform(rows), arc, atol=1e-5)
    line = pf.interpolate(model, X[:1], X[1:2], 5, straight=True)
    np.testing.assert_allclose(model.transform(line), (1 - s) * a + s * b, atol=1e-5)
    np.testing.assert_allclose(rows[[0, 4]], X[:2], atol=1e-5)


def test_mixed_rows_have_the_chosen_elements_of_the_other_codes(flow):
    model, X = flow
    mixed = model.transform(pf.mix(model, X[:4], X[4:8], [1]))
    np.testing.assert_allclose(mixed[:, 0], model.transform(X[:4])[:, 0], atol=1e-5)
    np.testing.assert_allclose(mixed[:, 1], model.transform(X[4:8])[:, 1], atol=1e-5)
    one = pf.mix(model, X[:4], X[4], slice(1, 2))
    np.testing.assert_allclose(model.transform(one)[:, 1], np.repeat(model.transform(X[4:5])[:, 1], 4), atol=1e-5)


def test_images_and_frames_come_back_as_they_are():
    images = pf.PPCA(n_components=4, random_state=0).fit(DIGITS[:300])
    walk = pf.interpolate(images, DIGITS[0], DIGITS[13], 4)
    assert (walk.shape, walk.dtype) == ((4, 8, 8), DIGITS.dtype)
    frame = pd.DataFrame({"x": np.arange(9.0) ** 2, "y": np.arange(9.0)[::-1] ** 3})
    table = pf.PPCA(n_components=1, random_state=0).fit(frame)
    assert list(pf.interpolate(table, frame.iloc[0], frame.iloc[3], 3).columns) == ["x", "y"]
    assert len(pf.mix(table, frame[:3], frame[3:4], [0])) == 3


def test_what_cannot_be_walked_says_why():
    model = pf.PPCA(n_components=2, random_state=0).fit(DIGITS[:100])
    with pytest.raises(ValueError, match="one row a and one row b, but got 2 and 1"):
        pf.interpolate(model, DIGITS[:2], DIGITS[3])
    with pytest.raises(ValueError, match="of the 2 elements of a code"):
        pf.mix(model, DIGITS[:2], DIGITS[2:4], [5])
    with pytest.raises(ValueError, match="one row or as many as a, 2, not 3"):
        pf.mix(model, DIGITS[:2], DIGITS[2:5], [0])
    with pytest.raises(ValueError, match="GMM has no codes"):
        pf.interpolate(pf.GMM(n_components=1, random_state=0).fit(DIGITS[:100, 0, :2].astype(float)), [0.0, 1.0], [1.0, 0.0])
    words = pf.VQVAE(tokens=2, codebook_size=2, network=pf.CoderSpec(width=4, depth=1), train_steps=1, random_state=0)
    with pytest.raises(ValueError, match="integers, which cannot be interpolated"):
        pf.interpolate(words.fit(np.eye(8)), np.eye(8)[0], np.eye(8)[1])
