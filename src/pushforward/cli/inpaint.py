"""``pushforward inpaint``: redraw a masked part of an image."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pushforward.cli.device import Device, check_device, move
from pushforward.cli.guidance import By, Interval, Negative, guided_by
from pushforward.cli.help import help_text
from pushforward.cli.impute import Condition, Count, Images, Scale, Steps, condition_given, fillings, load_filling, targets
from pushforward.cli.options import Seed
from pushforward.cli.output import Overwrite, check_output

__all__ = ["HELP", "command"]

_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, as in ITU-R BT.601

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
    mask: Annotated[
        Path, typer.Option(metavar="IMAGE", help="Bright where the image is to be redrawn; transparent counts as dark.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="PATH", help="A .png. Default: IMAGE with -filled in its name.", show_default=False)
    ] = None,
    n: Count = 1,
    condition: Condition = "",
    condition_images: Images = None,
    guidance_scale: Scale = None,
    guidance_interval: Interval = "",
    negative: Negative = "",
    guidance: By = "condition",
    steps: Steps = None,
    seed: Seed = None,
    device: Device = "",
    overwrite: Overwrite = False,
) -> None:
    """Redraw the masked part and write the image."""
    import numpy as np

    from pushforward.data.files.images import decode_images
    from pushforward.data.kinds.png import png_bytes

    check_device(device)
    guided = guided_by(guidance_scale, guidance_interval, negative, guidance)
    model = _load(run)
    target = out or image.with_name(f"{image.stem}-filled.png")
    if target.suffix.lower() != ".png":
        raise ValueError(f"{target} must end in .png, which keeps every pixel as it is")
    check_output(*targets(target, n), overwrite=overwrite)
    size = model.space_.schema.size
    pixels, covered = decode_images([(image.name, image)], str(image), size), _covered(mask, size)
    if covered.shape != pixels.shape[1:3]:
        sizes = [f"{shape[1]}×{shape[0]}" for shape in (covered.shape, pixels.shape[1:3])]
        raise ValueError(f"the mask {mask} is {sizes[0]} (width×height), but {image} is {sizes[1]}")
    if model.space_.schema.channels == "first":
        raise ValueError(
            f"{run} was trained on tensors with their channels first; fill images from Python, model.impute(X, mask=...)"
        )
    pixels = pixels[..., None] if pixels.ndim == 3 and len(model.space_.schema.row_shape) == 3 else pixels
    known = np.broadcast_to(~covered.reshape(1, *covered.shape, *[1] * (pixels.ndim - 3)), pixels.shape)
    move(model, device)
    target.parent.mkdir(parents=True, exist_ok=True)
    options = {"guidance": guided, "steps": steps}
    wanted = condition_given(condition, condition_images)
    for path, filled, drawn in fillings(model, pixels, target, n, seed, options, condition=wanted, mask=known):
        path.write_bytes(png_bytes(model.space_.kind.view(np.asarray(filled), model.space_.schema.channels)[0]))
        typer.echo(f"{int(covered.sum()):,} pixels drawn anew in {path} (seed {drawn})")


def _load(run: Path) -> Any:
    model = load_filling(run)
    if model.space_.kind.structure != "grid":
        raise ValueError(f"{run} was trained on vectors; fill the gaps of a table with `pushforward impute`")
    if model.space_.schema.dtypes[0] not in ("uint8", "uint16"):
        raise ValueError(
            f"{run} was trained on {model.space_.schema.dtypes[0]}, which no PNG holds; fill arrays with `pushforward impute`, "
            "NaN where they are to be drawn"
        )
    return model


def _covered(mask: Path, size: int | None) -> Any:
    """Return where a mask is bright, (H, W): above half of 255, or with more bits above half of its largest value."""
    from pushforward.data.files.images import decode_images

    pixels = decode_images([(mask.name, mask)], str(mask), size)[0]
    white = 255 if pixels.dtype == "uint8" else pixels.max()
    brightness = pixels if pixels.ndim == 2 else pixels[..., :3] @ _LUMA
    if pixels.shape[2:] == (4,):  # nothing was painted where a mask is transparent
        brightness = brightness * (pixels[..., 3] / white)
    bright = brightness > white / 2
    if not bright.any():
        raise ValueError(
            f"the mask {mask} is dark or transparent everywhere, so there is nothing to draw; bright pixels are drawn anew"
        )
    return bright
