"""``pushforward inpaint``: redraw a masked part of an image."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pushforward.cli.device import check_device
from pushforward.cli.guidance import By, Interval, Negative, guided_by
from pushforward.cli.help import help_text
from pushforward.cli.impute import numbered
from pushforward.cli.options import given_to

__all__ = ["HELP", "command"]

HELP = help_text(
    "Redraw the part of an image that is bright in a mask, given the rest of the image, with the model in RUN.",
    "All other pixels are unchanged. Image and mask have the size of the training images.",
    examples=[
        "pushforward inpaint runs/digits seven.png --mask mask.png",
        "pushforward inpaint runs/digits seven.png --mask mask.png -n 4 --seed 1",
    ],
)


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run on images.")],
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image like the training data.")],
    mask: Annotated[Path, typer.Option(metavar="IMAGE", help="Bright where the image is to be redrawn.")],
    out: Annotated[
        Path | None, typer.Option(metavar="PATH", help="A .png. Default: IMAGE with -filled in its name.", show_default=False)
    ] = None,
    n: Annotated[int, typer.Option("-n", metavar="N", help="Number of images; several are written to numbered files.")] = 1,
    condition: Annotated[str, typer.Option(metavar="VALUE", help="A label, or the numbers of a vector.")] = "",
    guidance_scale: Annotated[
        float | None, typer.Option(metavar="W", help="As for sample; needs a condition.", show_default=False)
    ] = None,
    guidance_interval: Interval = "",
    negative: Negative = "",
    guidance: By = "condition",
    steps: Annotated[
        int | None, typer.Option(metavar="N", help="Steps of the sampler. Default: 20.", show_default=False)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Seed of the images. Default: a new one, which is printed.")
    ] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, ... Default: cuda if there is one.")] = "",
) -> None:
    """Redraw the masked part and write the image."""
    import numpy as np
    import torch
    from PIL import Image

    from pushforward.data.images import decode_images
    from pushforward.models import load
    from pushforward.probability.noise import fresh_seed

    check_device(device)
    guided = guided_by(guidance_scale, guidance_interval, negative, guidance)
    model: Any = load(run)
    _check_model(model, run)
    target = out or image.with_name(f"{image.stem}-filled.png")
    if target.suffix.lower() != ".png":
        raise ValueError(f"{target} must end in .png, which keeps every pixel as it is")
    pixels, covered = decode_images([(image.name, image)], str(image)), _covered(mask)
    if covered.shape != pixels.shape[1:3]:
        sizes = [f"{shape[1]}×{shape[0]}" for shape in (covered.shape, pixels.shape[1:3])]
        raise ValueError(f"the mask {mask} is {sizes[0]} (width×height), but {image} is {sizes[1]}")
    if model.space_.schema.channels == "first":
        raise ValueError(
            f"{run} was trained on tensors with their channels first; fill images from Python, model.impute(X, mask=...)"
        )
    pixels = pixels[..., None] if pixels.ndim == 3 and len(model.space_.schema.row_shape) == 3 else pixels
    known = np.broadcast_to(~covered.reshape(1, *covered.shape, *[1] * (pixels.ndim - 3)), pixels.shape)
    seed = fresh_seed() if seed is None else seed
    model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    how = given_to(model.impute, {"guidance": guided, "steps": steps})
    made = model.impute(pixels, mask=known, n=n, condition=condition or None, seed=seed, **how)
    target.parent.mkdir(parents=True, exist_ok=True)
    for number, filled in enumerate(made if n > 1 else [made], 1):
        path = numbered(target, number, n)
        Image.fromarray(np.asarray(filled[0]).squeeze()).save(path)
        typer.echo(f"{int(covered.sum()):,} pixels drawn anew in {path} (seed {seed})")


def _check_model(model: Any, run: Path) -> None:
    if model.space_.kind.structure != "grid":
        raise ValueError(f"{run} was trained on vectors; fill the gaps of a table with `pushforward impute`")
    if not hasattr(model, "impute"):
        raise ValueError(f"{run} holds a model that cannot fill gaps: its source is not independent Gaussian noise")
    if model.space_.schema.dtypes[0] not in ("uint8", "uint16"):
        raise ValueError(
            f"{run} was trained on {model.space_.schema.dtypes[0]}, which no PNG holds; fill arrays with `pushforward impute`, "
            "NaN where they are to be drawn"
        )


def _covered(mask: Path) -> Any:
    """Return where a mask is bright, (H, W)."""
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(mask) as opened:
            bright = np.asarray(opened.convert("L")) > 127
    except UnidentifiedImageError:
        raise ValueError(f"{mask} is not an image that Pillow knows") from None
    if not bright.any():
        raise ValueError(f"the mask {mask} is dark everywhere, so there is nothing to draw; bright pixels are drawn anew")
    return bright
