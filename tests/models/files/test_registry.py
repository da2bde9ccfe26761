"""The families by name, from the metadata of installed packages."""

from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest

import pushforward as pf
from pushforward.models import MODELS
from pushforward.models.files import registry


@pytest.fixture
def installed(monkeypatch):
    """Set what packages list in the group of families, besides ours."""

    real = registry.entry_points

    def install(*theirs, ours=True):
        points = list(real(group="pushforward.models")) if ours else []
        for package, name, value in theirs:
            point = EntryPoint(name, value, "pushforward.models")
            vars(point).update(dist=SimpleNamespace(name=package))
            points.insert(0, point)
        monkeypatch.setattr(
            registry, "entry_points", lambda group: points if group == "pushforward.models" else real(group=group)
        )
        registry._installed.cache_clear()

    yield install
    monkeypatch.undo()
    registry._installed.cache_clear()


def test_the_names_and_the_classes():
    assert len(MODELS) == len(registry.family_names()) == 16
    for name, cls in MODELS.items():
        assert cls.__name__ == name
        assert getattr(pf, name) is cls
        assert registry.find(registry.family_name(cls)) is registry.find(name) is cls
        assert registry.is_family(cls)
    assert registry.find("sub-vp") == pf.Diffusion.sub_vp
    assert registry.find("flow") is pf.NormalizingFlow
    assert registry.find("nothing") is None


def test_of_two_with_one_name_ours_counts(installed):
    installed(("theirs", "vae", "theirs:Other"), ("theirs", "gmm-too", "theirs:GMM"), ("theirs", "new", "theirs:New"))
    with pytest.warns(UserWarning, match=r"(vae|gmm-too) = 'theirs:\w+' of the package theirs is ignored") as caught:
        names = registry.family_names()
    assert len(caught) == 2
    assert "new" in names
    assert "gmm-too" not in names
    assert MODELS["GMM"] is pf.GMM
    assert registry.find("vae") is pf.VAE


def test_a_package_that_is_not_there_is_named_and_takes_no_other_along(installed):
    installed(("theirs", "new", "nowhere:New"))
    with pytest.raises(ImportError, match=r"new = 'nowhere:New' of the package theirs cannot be imported: No module named"):
        registry.find("new")
    assert registry.find("gmm") is pf.GMM


def test_without_our_own_metadata_the_error_says_what_to_do(installed):
    installed(("theirs", "new", "theirs:New"), ours=False)
    with pytest.raises(ImportError, match=r"pushforward lists no pushforward\.models.*`python -m pip install -e \.`"):
        registry.family_names()
