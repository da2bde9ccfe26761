"""Draw docs/images/noise-to-digits.png from a trained run.

pushforward train digits && python docs/make_readme_plot.py runs/digits
"""

import sys
from pathlib import Path

import numpy as np
import torch

import pushforward as pf
from pushforward import plots
from pushforward.diffusion import Guided
from pushforward.probability import noise


def main(run: str) -> None:
    """Draw one sample per class on its way from noise to data, a row each, eleven states."""
    model = pf.load(run)
    classes = model.space_.conditions.classes[:6]
    condition = model.space_.conditions.encode(list(classes), len(classes))
    states = []
    z = noise.normal(model.space_.transform.shape, seed=3, purpose="readme", rows=len(classes))
    times = np.linspace(1, 0, 11)
    model.sampler_.run(
        Guided(model.denoiser_, 2.0),
        z,
        times=times,
        condition=condition,
        on_step=lambda row, time, x, d: states.append(x.clone()),
    )
    frames = torch.stack([z, *states], dim=1).flatten(0, 1)
    images = frames.clamp(-1.6, 1.6)[:, 0].numpy()
    image = plots.image_grid(images, columns=frames.shape[0] // len(classes), scale=(-1.2, 1.2), width=960)
    plots.save(image, Path(__file__).parent / "images" / "noise-to-digits.png")


if __name__ == "__main__":
    main(sys.argv[1])
