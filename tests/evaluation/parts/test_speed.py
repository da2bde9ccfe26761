"""Network calls against those of the samplers, memory against a known amount, time against a clock that is told."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import pushforward as pf
from pushforward.evaluation.parts import speed as module
from pushforward.evaluation.parts.speed import count_calls, peak_memory, speed

ROWS = np.random.default_rng(0).normal(size=(60, 2))
LABELS = np.arange(60) % 2
TINY = {"train_steps": 2, "random_state": 0}


@pytest.fixture(scope="module")
def model():
    return pf.FlowMatching(**TINY).fit(ROWS, condition=LABELS)


def calls(model, n=40, **options):
    with count_calls(model) as counted:
        model.sample(n, seed=0, **options)
    return counted() / n


@pytest.mark.parametrize("sampler", [pf.Euler(), pf.Heun(), pf.DPMSolver(order=2)], ids=["euler", "heun", "dpm"])
@pytest.mark.parametrize("batch_size", [256, 7])
def test_calls_are_those_that_the_sampler_names(model, sampler, batch_size):
    assert calls(model, steps=5, sampler=sampler, batch_size=batch_size) == sampler.nfe(5)


def test_guidance_calls_twice(model):
    assert calls(model, steps=5, sampler=pf.Euler(), condition=1, guidance=2.0) == 10


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: pf.GAN(**TINY), 1),
        (lambda: pf.VAE(**TINY), 1),
        (lambda: pf.HierarchicalVAE(**TINY), 1),
        (lambda: pf.NormalizingFlow(**TINY), 1),
        (lambda: pf.PPCA(random_state=0), 0),
    ],
    ids=["gan", "vae", "hierarchical", "flow", "ppca"],
)
def test_a_pass_through_every_part_is_one_call(build, expected):
    assert calls(build().fit(ROWS)) == pytest.approx(expected)


def test_the_parts_of_a_latent_model_are_counted_too():
    """A network that is called five times, and a decoder once, by their shares of the numbers."""
    prior = pf.FlowMatching(train_steps=2, sampler=pf.Euler())
    model = pf.Latent(pf.VAE(latent_dim=2, train_steps=2), prior, draws=1, random_state=0).fit(ROWS)

    def numbers(network):
        return sum(parameter.numel() for parameter in network.parameters())

    often, once = numbers(model.prior_.denoiser_), numbers(model.coder_.coder_.decoder)
    n = 5 * often + once
    with count_calls(model) as counted:
        codes = model.prior_.sample(8, steps=5, seed=0)
        model.coder_.inverse_transform(codes)
    assert counted() / 8 == pytest.approx(n / (often + once))
    assert calls(model) > 1


def test_parts_count_by_their_share_of_the_numbers():
    """A part of 6 numbers that is called three times and one of 2 that is called once: (3 * 6 + 2) / 8."""

    class Model:
        def __init__(self):
            self.network_ = nn.ModuleDict({"large": nn.Linear(2, 2), "small": nn.Linear(1, 1), "idle": nn.Linear(9, 9)})

    model = Model()
    with count_calls(model) as counted:
        assert counted() == 0
        for _ in range(3):
            model.network_["large"](torch.zeros(4, 2))
        model.network_["small"](torch.zeros(4, 1))
    assert counted() == pytest.approx(4 * (3 * 6 + 2) / 8)


def test_a_module_inside_another_and_one_under_two_names_count_once():
    class Model:
        def __init__(self):
            self.a = self.b = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))

    model = Model()
    with count_calls(model) as counted:
        model.a(torch.zeros(3, 2))
    assert counted() == 3


def test_what_a_network_does_inside_is_one_call():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.last = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            return self.last(self.inner(self.inner(x)))

    model = SimpleNamespace(network_=Twice())
    with count_calls(model) as counted:
        model.network_(torch.zeros(3, 2))
    assert counted() == 3


def test_nothing_of_the_counting_stays_behind_even_after_an_error(model):
    def hooks():
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.denoiser_.modules())

    before = hooks()
    with count_calls(model):
        assert hooks() > before
    assert hooks() == before
    with pytest.raises(ValueError, match="unknown"), count_calls(model):
        model.sample(2, condition="unknown")
    assert hooks() == before


@pytest.mark.parametrize("way", ["kernel", "looking"])
def test_memory_is_what_was_held_at_most(monkeypatch, way):
    if way == "looking":
        monkeypatch.setattr(module, "_reset_peak", lambda: False)
    elif not module._reset_peak():
        pytest.skip("this system keeps no record of the largest resident size")

    def action():
        held = torch.ones(20_000_000)
        time.sleep(0.1)
        del held
        torch.ones(1_000_000)

    for _ in range(2):  # a second time is not less, though the memory was used before
        assert 78e6 < peak_memory(action) < 95e6
    assert peak_memory(lambda: None) < 5e6


def test_seconds_are_the_median_of_six_with_the_extremes(monkeypatch):
    class Model:
        def __init__(self):
            self.drawn = []

        def sample(self, n, *, condition, seed, batch_size, **options):
            self.drawn.append((n, condition, seed, batch_size, options))

    model, times = Model(), iter([0.3, 0.1, 0.2, 0.9, 0.4, 0.5])
    monkeypatch.setattr(module, "_timed", lambda action, device: (action(), next(times))[1])
    found = speed(model, 50, condition=3, seed=4, batch_size=5, steps=6)
    assert found["seconds"] == pf_measure(7.0, 2.0, 18.0, 50)
    assert found["calls"].value == 0
    assert model.drawn == [(50, 3, 4, 5, {"steps": 6})] * 8


def pf_measure(value, low, high, n):
    from pushforward.metrics.measure import Measure

    return Measure(pytest.approx(value), pytest.approx(low), pytest.approx(high), n)


def test_time_is_taken_by_the_clock():
    assert 0.04 < module._timed(lambda: time.sleep(0.05), torch.device("cpu")) < 2


def test_a_model_that_does_not_sample_and_a_wrong_option_are_refused(model):
    with pytest.raises(TypeError, match="Autoencoder learns no law to draw from"):
        speed(pf.Autoencoder(**TINY).fit(ROWS))
    with pytest.raises(ValueError, match="n must be at least 1, but is 0"):
        speed(model, 0)
    with pytest.raises(TypeError, match="stepz"):
        speed(model, 2, stepz=3)
