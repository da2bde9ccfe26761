"""What a caller has set for the whole process or thread neither breaks a model nor changes it, and is kept."""

import threading

import numpy as np
import pytest
import torch

import pushforward as pf
from pushforward.interop import export

POINTS = np.random.default_rng(1).normal(size=(60, 2))
IMAGES = np.random.default_rng(0).integers(0, 3, (40, 6, 5)).astype(np.uint8)
LABELS = np.array(["a", "b"] * 30)
CODER, MLP = pf.CoderSpec(width=8, depth=1), pf.MLPSpec(width=8, depth=1)
TRANSFORMER = pf.TransformerSpec(width=8, depth=1, heads=2)
SMALL = {"train_steps": 3, "random_state": 0, "device": "cpu"}


class Own(torch.nn.Module):
    """A network of the user's own, made under the user's default dtype."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 2, bias=False)
        torch.nn.init.constant_(self.layer.weight, 0.25)

    def forward(self, x, t, condition=None):
        """Return a prediction."""
        return self.layer(torch.cat((x, t[:, None].to(x.dtype)), 1))


def full(name):
    return pytest.param(name, marks=pytest.mark.full)


FAMILIES = {
    "diffusion": lambda: (pf.Diffusion(loss="sliced", network=MLP, **SMALL), POINTS, LABELS),
    "cnf": lambda: (pf.CNF(network=MLP, matching_steps=2, **SMALL), POINTS, None),
    "vae": lambda: (pf.VAE(latent_dim=2, network=CODER, **SMALL), IMAGES, None),
    "own": lambda: (pf.FlowMatching(network=Own(), **SMALL), POINTS, None),
    "denoising": lambda: (pf.Diffusion(network=MLP, **SMALL), POINTS, None),
    "flow matching": lambda: (pf.FlowMatching(network=pf.UNetSpec(width=8, levels=1), **SMALL), IMAGES, None),
    "autoencoder": lambda: (pf.Autoencoder(latent_dim=2, network=CODER, **SMALL), IMAGES, None),
    "hierarchical": lambda: (pf.HierarchicalVAE(latent_dims=(1, 2), network=CODER, **SMALL), POINTS, None),
    "vqvae": lambda: (pf.VQVAE(tokens=2, codebook_size=32, network=CODER, prior=TRANSFORMER, **SMALL), IMAGES, None),
    "gan": lambda: (pf.GAN(latent_dim=2, network=pf.GANSpec(width=8, depth=1), **SMALL), IMAGES, None),
    "flow": lambda: (pf.NormalizingFlow(network=pf.FlowSpec(width=8, steps=2, bins=4), **SMALL), POINTS, None),
    "masked": lambda: (pf.MaskedDiffusion(network=TRANSFORMER, **SMALL), IMAGES, None),
    "ppca": lambda: (pf.PPCA(random_state=0), POINTS, None),
    "gmm": lambda: (pf.GMM(n_components=2, random_state=0), POINTS, None),
    "latent": lambda: (pf.Latent(pf.VAE(latent_dim=2, network=CODER), pf.FlowMatching(network=MLP), **SMALL), IMAGES, None),
}
QUICK = ("diffusion", "vae", "own")


def answers(name, folder):
    """Fit, store and load a model, and return what it answers: rows to the bit, densities in float64."""
    model, X, condition = FAMILIES[name]()
    model.fit(X, condition=condition).save(folder)
    loaded = pf.load(folder, parts={"network": Own()} if name == "own" else None)
    found = [[each.sample(4, seed=1)] if hasattr(each, "sample") else [each.transform(X[:4])] for each in (model, loaded)]
    if hasattr(model, "score_samples"):
        found[1].append(loaded.score_samples(X[:4]))
    if hasattr(model, "posterior"):
        observed = np.eye(X[0].size)[:1]
        found[1].append(loaded.posterior(observed, np.array([0.5]), 0.1, n=2, seed=1))
    return [np.asarray(value, dtype=np.float64) for value in (*found[0], *found[1])]


@pytest.mark.parametrize("name", [name if name in QUICK else full(name) for name in FAMILIES])
def test_a_default_dtype_or_a_thread_without_gradients_changes_nothing(name, tmp_path):
    usual = answers(name, tmp_path / "usual")
    torch.set_default_dtype(torch.float64)
    try:
        wide = answers(name, tmp_path / "wide")
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.inference_mode():
        without = answers(name, tmp_path / "without")
        assert torch.is_inference_mode_enabled()
    with torch.no_grad():
        FAMILIES[name]()[0].fit(FAMILIES[name]()[1], condition=FAMILIES[name]()[2])
        assert not torch.is_grad_enabled()
    for found in (wide, without):
        for value, expected in zip(found, usual, strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_a_model_loaded_in_inference_mode_can_be_trained_on_later(tmp_path):
    model, X, condition = FAMILIES["diffusion"]()
    model.fit(X, condition=condition).save(tmp_path)
    with torch.inference_mode():
        loaded = pf.load(tmp_path)
    loaded.fit_classifier(X, LABELS, training=pf.TrainingSettings(steps=2, batch_size=8))


@pytest.mark.parametrize("name", ["vqvae", full("diffusion")])
def test_fits_in_threads_are_those_of_one_after_the_other(name):
    """Modules are built, and the codebook moves unused codes, by torch's global generator."""
    model, X, condition = FAMILIES[name]()
    model.fit(X, condition=condition)
    torch.manual_seed(5)
    expected, state, fitted = model.sample(4, seed=1), torch.get_rng_state(), []

    def fit():
        mine, *data = FAMILIES[name]()
        fitted.append(mine.fit(data[0], condition=data[1]).sample(4, seed=1))

    threads = [threading.Thread(target=fit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(torch.get_rng_state(), state)
    for found in fitted:
        np.testing.assert_array_equal(found, expected)
    assert len(fitted) == 4


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"device": "gpu"}, ValueError, "device='gpu' is not allowed: there is no kind of device called 'gpu'; here there is"),
        ({"device": "meta"}, ValueError, "device='meta' is not allowed: device 'meta' cannot be used"),
        ({"max_time": float("inf")}, ValueError, "max_time=inf is not allowed: it should be a finite number"),
        ({"sampler": "heun"}, TypeError, "sampler='heun' is not allowed: it should be an instance of Sampler"),
    ],
)
def test_arguments_of_the_wrong_kind_are_named(arguments, error, message):
    with pytest.raises(error, match=f"FlowMatching: {message}"):
        pf.FlowMatching(**SMALL | arguments).fit(POINTS)


def test_verbs_name_arguments_of_the_wrong_kind(tmp_path):
    model = pf.FlowMatching(network=MLP, **SMALL).fit(POINTS)
    with pytest.raises(TypeError, match=r"sampler must be a sampler such as pushforward.Heun\(\), not 'heun'"):
        model.sample(2, sampler="heun")
    with pytest.raises(TypeError, match="seed must be an integer, got 'one'"):
        model.sample(2, seed="one")
    with pytest.raises(ValueError, match="device 'meta' cannot be used"):
        model.to("meta")
    with pytest.raises(TypeError, match="GMM has no denoiser to export; train a Diffusion or a FlowMatching"):
        export(pf.GMM(n_components=1, random_state=0).fit(POINTS), tmp_path / "x.onnx", "onnx")
    with pytest.raises(ValueError, match="not fitted"):
        export(pf.Diffusion(), tmp_path / "x.onnx", "onnx")
