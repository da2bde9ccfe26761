"""Networks of others, from small files made here: the transformer is torch's own, and files that are something else are refused."""

import sys
import types

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pushforward.evaluation.pretrained_features import from_weights

WIDTH, DEPTH, PATCH = 128, 2, 32


def _weights(grid=7, scale=None, scaled=(1, 2)):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return 0.2 * torch.randn(*shape, generator=generator)

    found = {
        "cls_token": draw(1, 1, WIDTH),
        "pos_embed": draw(1, 1 + grid**2, WIDTH),
        "patch_embed.proj.weight": draw(WIDTH, 3, PATCH, PATCH) / 10,
        "patch_embed.proj.bias": draw(WIDTH),
        "norm.weight": 1 + draw(WIDTH),
        "norm.bias": draw(WIDTH),
    }
    for block in range(DEPTH):
        for name, shape in (
            ("norm1", (WIDTH,)),
            ("attn.qkv", (3 * WIDTH, WIDTH)),
            ("attn.proj", (WIDTH, WIDTH)),
            ("norm2", (WIDTH,)),
            ("mlp.fc1", (4 * WIDTH, WIDTH)),
            ("mlp.fc2", (WIDTH, 4 * WIDTH)),
        ):
            found[f"blocks.{block}.{name}.weight"] = draw(*shape)
            found[f"blocks.{block}.{name}.bias"] = draw(shape[0])
        if scale is not None:
            found |= {f"blocks.{block}.ls{i}.gamma": torch.full((WIDTH,), scale) for i in scaled}
    return found


def _by_torch(weights, x):
    """The same network from torch's encoder layers, for images (n, 3, 224, 224)."""
    x = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    patches = x.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    tokens = patches @ weights["patch_embed.proj.weight"].flatten(1).T + weights["patch_embed.proj.bias"]
    tokens = torch.cat([weights["cls_token"].expand(len(x), 1, WIDTH), tokens], 1) + weights["pos_embed"]
    names = {
        "norm1": "norm1", "norm2": "norm2", "linear1": "mlp.fc1", "linear2": "mlp.fc2", "self_attn.out_proj": "attn.proj"
    }  # fmt: skip
    for block in range(DEPTH):
        layer = nn.TransformerEncoderLayer(
            WIDTH, WIDTH // 64, 4 * WIDTH, 0.0, "gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
        )
        at = f"blocks.{block}."
        state = {
            f"{mine}.{kind}": weights[f"{at}{theirs}.{kind}"] for mine, theirs in names.items() for kind in ("weight", "bias")
        }
        state |= {f"self_attn.in_proj_{kind}": weights[f"{at}attn.qkv.{kind}"] for kind in ("weight", "bias")}
        layer.load_state_dict(state)
        tokens = layer(tokens)
    return nn.functional.layer_norm(tokens[:, 0], (WIDTH,), weights["norm.weight"], weights["norm.bias"], 1e-6)


def test_the_transformer_is_that_of_torch(tmp_path):
    weights = _weights()
    save_file(weights, tmp_path / "dino.safetensors")
    space = from_weights("dino", tmp_path / "dino.safetensors", white=1.0)
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        truth = _by_torch(weights, images)
    assert np.allclose(space(images.numpy()), truth.numpy(), atol=1e-4)
    assert space(images.numpy()).dtype == np.float32


def test_scales_of_blocks_change_what_is_added(tmp_path):
    for name, scale in (("none", None), ("one", 1.0), ("half", 0.5), ("zero", 0.0)):
        save_file(_weights(scale=scale), tmp_path / f"{name}.safetensors")
    rows = np.random.default_rng(0).integers(0, 256, (2, 28, 28), dtype=np.uint8)
    found = {name: from_weights("dino", tmp_path / f"{name}.safetensors")(rows) for name in ("none", "one", "half", "zero")}
    assert np.allclose(found["none"], found["one"], atol=1e-5)
    assert not np.allclose(found["none"], found["half"], atol=1e-2)
    for part in (1, 2):
        save_file(_weights(scale=0.5, scaled=(part,)), tmp_path / "part.safetensors")
        assert not np.allclose(found["none"], from_weights("dino", tmp_path / "part.safetensors")(rows), atol=1e-2)
    assert np.allclose(found["zero"][0], found["zero"][1], atol=1e-5)  # the class token alone, whatever the image


def test_places_are_resized_and_names_tell_weights_apart(tmp_path):
    torch.save(_weights(grid=9), tmp_path / "nine.pth")
    save_file(_weights(grid=9), tmp_path / "nine.safetensors")
    save_file(_weights(), tmp_path / "seven.safetensors")
    nine, again, seven = (
        from_weights("dino", tmp_path / name) for name in ("nine.pth", "nine.safetensors", "seven.safetensors")
    )
    assert nine.name == again.name != seven.name
    assert nine.name.startswith("dino (")
    grey = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    assert np.allclose(nine(grey), nine(np.repeat(grey[:, None], 3, axis=1)), atol=1e-5)
    assert nine(grey).shape == (3, WIDTH)


def test_inception_goes_through_torchmetrics(tmp_path, monkeypatch):
    calls = []

    class Network:
        def __init__(self, name, features_list, feature_extractor_weights_path):
            calls.append((name, features_list, feature_extractor_weights_path))

        def __call__(self, x):
            assert x.dtype == torch.uint8
            return x.float().mean((2, 3))

    module = types.ModuleType("torchmetrics.image.fid")
    module.NoTrainInceptionV3 = Network
    for name in ("torchmetrics", "torchmetrics.image"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", module)
    torch.save({"a": torch.ones(1)}, tmp_path / "inception.pth")
    space = from_weights("inception", tmp_path / "inception.pth", white=1.0)
    assert calls == [("inception-v3-compat", ["2048"], str(tmp_path / "inception.pth"))]
    assert space(np.array([[[0.0, 1.0], [2.0, -1.0]]])).tolist() == [[127.5] * 3]


def test_without_torchmetrics_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", None)
    torch.save({"a": torch.ones(1)}, tmp_path / "inception.pth")
    with pytest.raises(ImportError, match=r"pip install 'pushforward\[inception\]'"):
        from_weights("inception", tmp_path / "inception.pth")


class _Surprise:
    def __reduce__(self):
        return print, ("this ran",)


def test_files_that_are_something_else_are_refused(tmp_path, capsys):
    torch.save(_Surprise(), tmp_path / "code.pth")
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    (tmp_path / "text.safetensors").write_text("hello")
    torch.save({"a": torch.ones(1)}, tmp_path / "other.pth")
    for name, message in (
        ("code.pth", "does not hold tensors by name, and nothing else is read"),
        ("list.pth", r"save the state_dict\(\) of the network alone"),
        ("text.safetensors", "does not hold tensors by name"),
        ("other.pth", "this is not a vision transformer of DINO, since it lacks 'cls_token'"),
    ):
        with pytest.raises(ValueError, match=message):
            from_weights("dino", tmp_path / name)
    assert "this ran" not in capsys.readouterr().out
    with pytest.raises(ValueError, match="kind must be 'inception' or 'dino', not 'clip'"):
        from_weights("clip", tmp_path / "other.pth")
    with pytest.raises(ValueError, match="white must be positive and finite, but is 0"):
        from_weights("dino", tmp_path / "other.pth", white=0)


def test_rows_that_are_no_images_are_refused(tmp_path):
    save_file(_weights(), tmp_path / "dino.safetensors")
    space = from_weights("dino", tmp_path / "dino.safetensors")
    for rows in (np.zeros((2, 64)), np.zeros((2, 5, 8, 8))):
        with pytest.raises(ValueError, match=r"takes images \(n, H, W\) or \(n, 1 or 3 channels, H, W\)"):
            space(rows)
