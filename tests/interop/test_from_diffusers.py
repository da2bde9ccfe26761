"""Networks of diffusers under our samplers: the same images as their own pipeline from the same noise."""

import pytest
import torch

import pushforward as pf
from pushforward.diffusion import DDPM, MMPS, Guided, Mask, observe
from pushforward.probability import noise as random

diffusers = pytest.importorskip("diffusers")

SHAPE = (1, 8, 8)


def unet(seed=0, **options):
    torch.manual_seed(seed)
    network = diffusers.UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=options.pop("out_channels", 1),
        layers_per_block=1,
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=4,
        **options,
    )
    return network.eval()


def ours(seed, rows, step):
    return random.normal(SHAPE, seed=seed, purpose="sampler", rows=rows, step=step)


@pytest.fixture
def injected(monkeypatch):
    """Let diffusers draw the noise of our sampler: the start, and then one draw per step."""
    start, steps = random.normal(SHAPE, seed=0, purpose="start", rows=2), iter(range(10_000))
    import diffusers.pipelines.ddpm.pipeline_ddpm as pipeline
    import diffusers.schedulers.scheduling_ddpm as scheduling

    monkeypatch.setattr(pipeline, "randn_tensor", lambda *_, **__: start.clone())
    monkeypatch.setattr(scheduling, "randn_tensor", lambda *_, **__: ours(0, 2, next(steps)))
    return start


@pytest.mark.parametrize(
    ("steps", "options", "variance"),
    [
        pytest.param(1000, {}, "beta-tilde", marks=pytest.mark.full),
        (100, {"beta_end": 0.2}, "beta-tilde"),
        (60, {"variance_type": "fixed_large", "prediction_type": "v_prediction", "beta_end": 0.3}, "beta"),
    ],
    ids=["1000 steps", "small variance", "v, large variance"],
)
def test_ancestral_steps_are_those_of_the_pipeline(steps, options, variance, injected):
    network, scheduler = unet(), diffusers.DDPMScheduler(num_train_timesteps=steps, **options)
    pipeline = diffusers.DDPMPipeline(network, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(batch_size=2, num_inference_steps=steps, output_type="np").images
    denoiser = pf.interop.from_diffusers(network, scheduler)
    x = DDPM(variance=variance).run(denoiser, injected, steps=steps, seed=0)
    mine = (x / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    assert theirs.std() > 0.05
    assert abs(mine - theirs).max() < 1e-4


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("schedule", ["linear", "scaled_linear"])
@pytest.mark.parametrize("k", [0, 10, 500, 999])
def test_denoised_is_what_the_scheduler_makes_of_the_output(kind, schedule, k):
    network = unet()
    scheduler = diffusers.DDPMScheduler(prediction_type=kind, beta_schedule=schedule, clip_sample_range=0.8)
    x_t = torch.randn(3, *SHAPE)
    with torch.no_grad():
        expected = scheduler.step(network(x_t, k).sample, k, x_t).pred_original_sample
        denoiser = pf.interop.from_diffusers(network, scheduler)
        for t in (torch.tensor((k + 1) / 1000, dtype=torch.float64), torch.full((3,), (k + 1) / 1000)):
            torch.testing.assert_close(denoiser(x_t, t), expected, atol=2e-4, rtol=1e-4)
    assert expected.abs().max() <= 0.8


def test_flow_matching_is_the_straight_line():
    network, scheduler = unet(), diffusers.FlowMatchEulerDiscreteScheduler()
    x_t, t = torch.randn(3, *SHAPE), torch.tensor(0.3, dtype=torch.float64)
    with torch.no_grad():
        expected = x_t - 0.3 * network(x_t, 300.0).sample
        torch.testing.assert_close(pf.interop.from_diffusers(network, scheduler)(x_t, t), expected)


def test_a_chain_that_ends_in_pure_noise():
    scheduler = diffusers.DDPMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True, clip_sample=False)
    denoiser = pf.interop.from_diffusers(unet(), scheduler)
    assert pf.DDIM().run(denoiser, torch.randn(2, *SHAPE), steps=10).isfinite().all()


def test_labels_guide_and_variances_are_left_out():
    network = unet(num_class_embeds=4, out_channels=2)
    denoiser = pf.interop.from_diffusers(network, diffusers.DDPMScheduler(clip_sample=False))
    x_t, t = torch.randn(2, *SHAPE), torch.tensor(0.5, dtype=torch.float64)
    label, null = torch.tensor([1, 2]), torch.tensor([3])
    with torch.no_grad():
        conditional, away = denoiser(x_t, t, label), denoiser(x_t, t, null.expand(2))
        guided = Guided(denoiser, 2.0, negative=null)(x_t, t, label)
    assert conditional.shape == x_t.shape
    torch.testing.assert_close(guided, away + 2 * (conditional - away), atol=1e-4, rtol=1e-4)


def test_inverse_problems_with_somebody_elses_network():
    denoiser = pf.interop.from_diffusers(unet(), diffusers.DDPMScheduler())
    seen = torch.zeros(SHAPE, dtype=torch.bool)
    seen[:, :4] = True
    y = torch.rand(SHAPE) * seen
    x = MMPS().run(denoiser, observe(Mask(seen), y, 0.05, SHAPE), torch.randn(2, *SHAPE), steps=3, seed=0)
    assert x.isfinite().all()
    assert x.shape == (2, *SHAPE)


def test_errors():
    network = unet()
    with pytest.raises(ValueError, match="uses dynamic thresholding, which is no denoiser"):
        pf.interop.from_diffusers(network, diffusers.DDPMScheduler(thresholding=True))
    with pytest.raises(ValueError, match="EDMEulerScheduler has no alphas_cumprod"):
        pf.interop.from_diffusers(network, diffusers.EDMEulerScheduler())

    class Plain(torch.nn.Module):
        def forward(self, x, t):
            return x

    denoiser = pf.interop.from_diffusers(Plain(), diffusers.DDPMScheduler())
    with pytest.raises(ValueError, match="Plain takes no condition; call it without one"):
        denoiser(torch.zeros(1, *SHAPE), torch.tensor(0.5), torch.zeros(1))
