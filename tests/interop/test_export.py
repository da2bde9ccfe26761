"""Exports, read back by the programs they are for: the same denoised, the same images."""

import json

import numpy as np
import pytest
import torch
from command_line import TINY, done, refused
from safetensors import safe_open

import pushforward as pf
from pushforward.interop import export
from pushforward.interop.export import _graph

QUICK = {"train_steps": 20, "random_state": 0, "device": "cpu"}


def made(kind):
    if kind == "images":
        model = pf.FlowMatching(network=pf.UNetSpec(width=8, levels=1), **QUICK)
        return model.fit("digits")
    if kind == "vectors":
        return pf.Diffusion(prediction="eps", network=pf.MLPSpec(width=8, depth=1), **QUICK).fit("moons", condition=False)
    return pf.Diffusion(prediction="eps", network=pf.UNetSpec(width=8, levels=1), **QUICK).fit("digits", condition=False)


@pytest.mark.parametrize("kind", [pytest.param("images", marks=pytest.mark.full), "vectors"])
def test_onnx_gives_the_same_denoised(kind, tmp_path, capfd):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = made(kind)
    path = export(model, tmp_path / "m.onnx", "onnx")
    assert capfd.readouterr() == ("", "")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for rows in (1, 6):
        x_t, t = torch.randn(rows, *model.space_.transform.shape), torch.linspace(1e-4, 1, rows)
        inputs = {"x_t": x_t.numpy(), "t": t.numpy()}
        condition = None
        if model.conditional:
            condition = model.space_.conditions.encode(["3"] * rows, rows)
            inputs["condition"] = condition.numpy()
        (denoised,) = session.run(["denoised"], inputs)
        expected = model.denoiser_(x_t, t, condition).detach().numpy()
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(denoised, expected, atol=1e-4)
    facts = json.loads(session.get_modelmeta().custom_metadata_map["pushforward"])
    assert facts["schedule"]["name"] == type(model.schedule_).__name__
    np.testing.assert_allclose(facts["transform"]["scale"], model.space_.transform.scale)


def made_map():
    teacher = pf.FlowMatching(network=pf.MLPSpec(width=8, depth=1), **QUICK).fit("moons")
    return pf.distill(teacher, pf.FlowMap(guidance=3.0, trajectories=32, **QUICK))


def test_the_graph_of_a_flow_map_draws_rows_of_any_number_from_noise():
    """What the exporter starts from; the graph itself needs onnxscript."""
    model = made_map()
    graph, inputs, output = _graph(model)
    batch = torch.export.Dim("batch", min=1, max=1 << 20)
    program = torch.export.export(graph, tuple(inputs.values()), dynamic_shapes={name: {0: batch} for name in inputs})
    assert (list(inputs), output) == (["noise", "condition", "guidance_scale"], "rows")
    z, condition, w = torch.randn(6, 2), model.space_.conditions.encode([0, 1] * 3, 6), torch.linspace(1, 3, 6)
    expected = model.denoiser_.sample(z, steps=1, condition=condition, scale=w)
    assert torch.allclose(program.module()(z, condition, w), expected, atol=1e-6)
    dtypes = {value.dtype for node in program.graph.nodes if isinstance(value := node.meta.get("val"), torch.Tensor)}
    assert torch.float64 not in dtypes  # of which runtimes know few functions


@pytest.mark.full  # its graph is exported above, and the graph of a model of the same kind is run by the runtime
def test_onnx_of_a_flow_map_draws_the_same_rows(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = made_map()
    session = runtime.InferenceSession(export(model, tmp_path / "m.onnx", "onnx"), providers=["CPUExecutionProvider"])
    z, condition, w = torch.randn(6, 2), model.space_.conditions.encode([0, 1] * 3, 6), torch.linspace(1, 3, 6)
    given = {"noise": z.numpy(), "condition": condition.numpy(), "guidance_scale": w.numpy()}
    expected = model.denoiser_.sample(z, steps=1, condition=condition, scale=w)
    np.testing.assert_allclose(session.run(["rows"], given)[0], expected.numpy(), atol=1e-5)


def test_safetensors_hold_weights_and_scaling(tmp_path):
    model = made("vectors")
    with safe_open(export(model, tmp_path / "m.safetensors", "safetensors"), "pt") as file:
        facts = json.loads(file.metadata()["pushforward"])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
    network = pf.MLPSpec(width=8, depth=1).build((2,), 0)
    network.load_state_dict({n.removeprefix("network."): v for n, v in weights.items() if n.startswith("network.")})
    scales = {"prediction": facts["prediction"], "data_std": facts["data_std"]}
    denoiser = pf.Denoiser(network, pf.LinearBeta(), **scales, bounds=(weights["bounds.low"], weights["bounds.high"]))
    x_t, t = torch.randn(3, 2), torch.tensor(0.4)
    assert torch.equal(denoiser(x_t, t), model.denoiser_(x_t, t))
    assert torch.equal(weights["transform.scale"], model.space_.transform.scale)


@pytest.mark.parametrize("kind", ["images", "unconditional"])
def test_a_pipeline_of_diffusers_draws_our_images(kind, tmp_path, monkeypatch):
    """Ancestral steps of the loaded pipeline from the same noise are ours on its chain, and its denoised is ours."""
    diffusers = pytest.importorskip("diffusers")
    model = made(kind)
    pipeline = diffusers.DDPMPipeline.from_pretrained(export(model, tmp_path / "pipe", "diffusers"))
    pipeline.set_progress_bar_config(disable=True)
    shape, k = model.space_.transform.shape, 400
    x_t, t = torch.randn(3, *shape), torch.tensor((k + 1) / 1000, dtype=torch.float64)
    root = (model.schedule_.alpha(t) ** 2 + model.schedule_.sigma(t) ** 2).sqrt().float()
    with torch.no_grad():
        noisiest = model.denoiser_(x_t, torch.ones(()))
        torch.testing.assert_close(pipeline.unet(x_t, 999).sample, noisiest, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(pipeline.unet(x_t / root, k).sample, model.denoiser_(x_t, t), atol=1e-5, rtol=1e-5)
        if model.conditional:
            labels = torch.tensor([1, 5, 9])
            expected = model.denoiser_(x_t, t, model.space_.conditions.encode([1, 5, 9], 3))
            torch.testing.assert_close(
                pipeline.unet(x_t / root, k, labels, return_dict=False)[0], expected, atol=1e-5, rtol=1e-5
            )
    kept = pipeline.scheduler.alphas_cumprod[k].double()
    torch.testing.assert_close((kept / (1 - kept)).log(), model.schedule_.log_snr(t), atol=1e-3, rtol=1e-4)
    images = pipeline(batch_size=2, num_inference_steps=5, output_type="np").images
    assert images.shape == (2, *shape[1:], shape[0]) or images.shape == (2, *shape[1:])
    again = pf.interop.from_diffusers(pipeline.unet, pipeline.scheduler)
    with torch.no_grad():
        torch.testing.assert_close(again(x_t / root, t), model.denoiser_(x_t, t), atol=1e-4, rtol=1e-4)


def test_what_cannot_be_exported_is_refused(tmp_path):
    model = made("vectors")
    with pytest.raises(ValueError, match="there is no format 'gguf'; use one of onnx, safetensors, diffusers"):
        export(model, tmp_path / "m", "gguf")
    pytest.importorskip("diffusers")
    with pytest.raises(ValueError, match="a pipeline of diffusers draws images, but this model was trained on vectors"):
        export(model, tmp_path / "m", "diffusers")
    images = made("unconditional")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(ValueError, match="full holds something already; name a new folder"):
        export(images, tmp_path / "full", "diffusers")


def test_command(tmp_path):
    done("train", "moons", "--set", "train_steps=3", *TINY, at=tmp_path)
    assert (
        done("export", "runs/moons", "--to", "safetensors", at=tmp_path) == "safetensors in runs/moons/denoiser.safetensors\n"
    )
    assert (tmp_path / "runs/moons/denoiser.safetensors").is_file()
    said = done("export", "runs/moons", "--to", "safetensors", "--out", "a/m.safetensors", at=tmp_path)
    assert said == "safetensors in a/m.safetensors\n"
    assert (tmp_path / "a/m.safetensors").is_file()
    assert "there is no format 'gguf'" in refused("export", "runs/moons", "--to", "gguf", at=tmp_path)
