"""Objects as plain data, recipes, overrides: round trips, and errors that name the place."""

import dataclasses
import json
from typing import get_type_hints

import pytest
import torch

import pushforward as pf
from pushforward.diffusion import FittedVariance
from pushforward.models.base.plan import plan
from pushforward.models.files import codec
from pushforward.models.recipe import assemble, merge, named_sampler, override, read_recipe, recipe_of
from pushforward.probability import Gaussian, GaussianMixture

OBJECTS = [
    pf.LinearBeta(0.2, 7.0),
    pf.DiscreteBeta((0.1, 0.2)),
    pf.DPMSolver(order=3, grid=pf.KarrasGrid(rho=5.0)),
    pf.AngleSolver(order=2, scale=1.0),
    pf.UniPC(order=2),
    pf.DEIS(order=4, grid=pf.VPGrid()),
    pf.StochasticDPMSolver(order=1),
    pf.PredictorCorrector(predictor=pf.DDIM(eta=0.5), snr=0.1),
    pf.ReverseSDE(eta=0.5, grid=pf.FixedGrid((1.0, 0.5, 0.0))),
    pf.DDPM(FittedVariance((0.0, 1.0), (0.1, 0.2))),
    pf.AnnealedLangevin(step=0.2, n_steps=7),
    pf.UNetSpec(width=8, levels=3),
    pf.TrainingSettings(betas=(0.8, 0.9), learning_rate=1e-4),
    pf.LogitNormalTimes(0.5, 2.0),
]


@pytest.mark.parametrize("value", OBJECTS, ids=repr)
def test_round_trip_through_json(value):
    assert codec.from_plain(json.loads(json.dumps(codec.to_plain(value)))) == value


def test_every_class_with_defaults_has_a_round_trip():
    required = {name for name, cls in codec.CLASSES.items() if any(map(_is_required, dataclasses.fields(cls)))}
    assert not {"LinearBeta", "DPMSolver", "UNetSpec", "TrainingSettings"} & required
    for name in codec.CLASSES.keys() - required:
        made = codec.CLASSES[name]()
        assert codec.from_plain(name) == made
        assert codec.from_plain(json.loads(json.dumps(codec.to_plain(made)))) == made


def _is_required(field):
    return field.default is field.default_factory is dataclasses.MISSING


def test_which_classes_a_file_may_name():
    """All that a model can be given, in the rooms' own names; and nothing that holds code: no module, no function."""
    schedules = {"LinearBeta", "DiscreteBeta", "Cosine", "StraightLine", "Exploding", "SubVP"}
    calibrated = {"CalibratedSampler", "Calibration", "FittedVariance"}
    samplers = {"Adaptive", "AngleSolver", "AnnealedLangevin", "DDIM", "DDPM", "DEIS", "DPMSolver", "Euler", "Heun", "RK4"}
    samplers |= {"PredictorCorrector", "ReverseSDE", "StochasticDPMSolver", "UniPC"} | calibrated
    grids = {
        "ChainGrid",
        "FixedGrid",
        "KarrasGrid",
        "LevelGrid",
        "LogSNRGrid",
        "PowerGrid",
        "SinhGrid",
        "UniformGrid",
        "VPGrid",
    }
    times = {"LogitNormalTimes", "UniformTimes"}
    networks = {"CoderSpec", "FlowSpec", "GANSpec", "MLPSpec", "TransformerSpec", "UNetSpec"}
    laws = {"Gaussian", "GaussianMixture"}
    assert schedules | samplers | grids | times | networks | laws | {"TrainingSettings"} <= codec.CLASSES.keys()
    for cls in codec.CLASSES.values():
        assert dataclasses.is_dataclass(cls)
        assert cls.__dataclass_params__.frozen
        assert not issubclass(cls, torch.nn.Module)
        assert cls.__module__.startswith("pushforward.")
        for hint in get_type_hints(cls).values():
            assert not any(word in repr(hint) for word in ("Callable", "ndarray", "Module", "Any")), (cls, hint)


@pytest.mark.parametrize("name", ["Denoiser", "Linear", "EnergyLaw", "LogProb", "Sampler", "Dataset", "Path", "os.system"])
def test_a_file_cannot_name_other_classes(name):
    with pytest.raises(ValueError, match=f"there is no '{name}'"):
        codec.from_plain({"name": name})


def test_a_class_of_the_same_name_is_no_class_of_the_library():
    twin = dataclasses.make_dataclass("Cosine", [], frozen=True)
    assert codec.to_plain(twin()) == {"part": "Cosine"}
    assert codec.to_plain(pf.Cosine()) == {"name": "Cosine"}


def test_laws_keep_every_bit():
    law = GaussianMixture([0.1, 0.9], [[1 / 3, 0.0], [1.0, 2.0]], [0.7, 0.1])
    back = codec.from_plain(json.loads(json.dumps(codec.to_plain(law))))
    for name in ("weights", "means", "covs"):
        assert torch.equal(getattr(back, name), getattr(law, name))
    assert torch.equal(
        codec.from_plain(codec.to_plain(Gaussian([1 / 7], 0.3))).mean, torch.tensor([1 / 7], dtype=torch.float64)
    )


def test_what_is_not_of_the_library_becomes_a_part():
    assert codec.to_plain(torch.nn.Linear(1, 1)) == {"part": "Linear"}
    assert codec.is_part({"part": "Linear"})


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"name": "LinearBta"}, r"schedule: there is no 'LinearBta'.*Did you mean 'LinearBeta'\?"),
        (
            {"name": "LinearBeta", "beta_mx": 1},
            r"schedule \(LinearBeta\) has no 'beta_mx'; it has beta_min, beta_max. Did you mean 'beta_max'\?",
        ),
        ({"name": "LinearBeta", "beta_max": "much"}, r"schedule.beta_max='much': input should be a valid number"),
        ({"name": "LinearBeta", "beta_max": -1.0}, r"0 < beta_min < beta_max"),
        ({"beta_max": 1.0}, r"schedule needs the name of its class: add a line `name: ...`"),
    ],
)
def test_errors_of_plain_data(plain, message):
    with pytest.raises(ValueError, match=message):
        codec.from_plain(plain, where="schedule")


def test_overrides():
    assert override("training.learning_rate=1e-3") == {"training": {"learning_rate": 0.001}}
    assert override("times.mean=-0.5") == {"times": {"mean": -0.5}}
    assert override("held_out=0") == {"held_out": 0}
    with pytest.raises(ValueError, match=r"has the form argument=value"):
        override("network.width")


def test_merge_goes_into_objects_of_one_class_only():
    base = {"network": {"name": "UNetSpec", "width": 64, "levels": 2}, "steps": 1}
    assert merge(base, {"network": {"width": 8}}) == {"network": {"name": "UNetSpec", "width": 8, "levels": 2}, "steps": 1}
    assert merge(base, {"network": {"name": "MLPSpec"}})["network"] == {"name": "MLPSpec"}
    assert base["network"]["width"] == 64


def test_a_recipe_changes_single_fields_of_the_defaults():
    dataset = pf.open_data("digits")
    recipe = {"model": "diffusion", "schedule": "Cosine", "network": {"width": 32}, "training": {"learning_rate": "1e-4"}}
    model = assemble(recipe, dataset)
    assert isinstance(model, pf.Diffusion)
    default = plan(dataset, pf.Diffusion()).model
    assert model.schedule == pf.Cosine()
    assert model.network == type(default.network_)(**{**vars(default.network_), "width": 32})
    assert model.training.learning_rate == 1e-4
    assert model.training.batch_size == default.training_.batch_size


def test_the_recipe_of_a_model_makes_the_same_model():
    dataset = pf.open_data("moons")
    first = plan(dataset, assemble({"random_state": 3, "network": {"width": 16}}, dataset)).model
    again = plan(dataset, assemble(recipe_of(first), dataset)).model
    assert recipe_of(again) == recipe_of(first)
    assert again.network_.width == 16


@pytest.mark.parametrize(
    ("recipe", "error", "message"),
    [
        (
            {"model": "flow-maching"},
            ValueError,
            r"no model 'flow-maching'; use one of .*, flow-matching, .*. Did you mean 'flow-matching'\?",
        ),
        ({"trainsteps": 3}, ValueError, r"FlowMatching has no argument 'trainsteps'.*Did you mean 'train_steps'\?"),
        ({"train_steps": 0}, ValueError, r"train_steps=0 is not allowed: it should be greater than or equal to 1"),
        ({"train_steps": "many"}, TypeError, r"train_steps='many' is not allowed: it should be a valid integer"),
        ({"prediction": "noise"}, ValueError, r"prediction='noise' is not allowed: it should be 'edm', 'denoised', 'eps'"),
        ({"network": {"widht": 3}}, ValueError, r"network \(MLPSpec\) has no 'widht'"),
        ({"coupling": {"x": 1}}, ValueError, r"coupling of FlowMatching is not an object"),
        ({"schedule": "UNetSpec"}, TypeError, r"schedule=UNetSpec\(.*\) is not allowed: it should be an instance of Schedule"),
    ],
)
def test_errors_of_recipes(recipe, error, message):
    with pytest.raises(error, match=message):
        assemble(recipe, pf.open_data("moons"))


def test_recipe_files(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("model: diffusion\nnetwork: {width: 32}\n")
    assert read_recipe(path) == {"model": "diffusion", "network": {"width": 32}}
    path.write_text("just text")
    with pytest.raises(ValueError, match=r"must hold `argument: value` lines"):
        read_recipe(path)
    path.write_text("a: [1")
    with pytest.raises(ValueError, match=r"is not valid YAML"):
        read_recipe(path)
    with pytest.raises(FileNotFoundError, match=r"there is no recipe"):
        read_recipe(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "sampler"),
    [
        ("ddim", pf.DDIM()),
        ("DDIM:eta=0.5", pf.DDIM(eta=0.5)),
        ("dpm-solver:order=3,grid=KarrasGrid", pf.DPMSolver(order=3, grid=pf.KarrasGrid())),
        ("ddpm:variance=beta", pf.DDPM("beta")),
        ("euler:grid.name=PowerGrid,grid.power=3", pf.Euler(grid=pf.PowerGrid(3.0))),
    ],
)
def test_samplers_by_name(text, sampler):
    assert named_sampler(text) == sampler


def test_errors_of_samplers_by_name():
    with pytest.raises(ValueError, match=r"no sampler 'dimm'; use one of A.*DDIM, DDPM.*Did you mean 'DDIM'\?"):
        named_sampler("dimm")
    with pytest.raises(ValueError, match=r"sampler \(DDIM\) has no 'order'"):
        named_sampler("ddim:order=2")


def test_model_names():
    for name in ("flow-matching", "FlowMatching", "flow_matching"):
        assert type(assemble({"model": name}, pf.open_data("moons"))) is pf.FlowMatching


def test_classical_models_by_name():
    """A preset is a family with some arguments fixed: it can be written out, and added to."""
    data = pf.open_data("moons")
    for name, made in {
        "ddpm": pf.Diffusion(schedule=pf.DiscreteBeta(), weight="eps"),
        "vp": pf.Diffusion(schedule=pf.LinearBeta(), weight="eps"),
        "sub-vp": pf.Diffusion(schedule=pf.SubVP(), weight="eps"),
        "ve": pf.Diffusion(schedule=pf.Exploding(), weight="eps"),
    }.items():
        assert assemble({"model": name}, data).get_params() == made.get_params()
    changed = assemble({"model": "VE", "schedule": {"sigma_max": 9.0}, "prediction": "eps", "train_steps": 7}, data)
    assert (
        changed.get_params() == pf.Diffusion.ve(schedule=pf.Exploding(0.01, 9.0), prediction="eps", train_steps=7).get_params()
    )
    with pytest.raises(TypeError, match="unexpected keyword argument 'shedule'"):
        pf.Diffusion.vp(shedule=pf.SubVP())
    with pytest.raises(ValueError, match=r"there is no model 'ddmp'; use one of .*Did you mean 'ddpm'\?"):
        assemble({"model": "ddmp"}, data)
