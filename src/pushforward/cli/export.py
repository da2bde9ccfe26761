"""``pushforward export``: write a trained model for other programs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pushforward.cli.help import help_text
from pushforward.cli.options import Run
from pushforward.cli.output import Overwrite, check_output

__all__ = ["HELP", "command"]

HELP = help_text(
    "Write the denoiser of RUN as an ONNX graph, a safetensors file or a pipeline of diffusers.",
    "The graph and the file work on scaled rows; their metadata describe the scaling.",
    examples=[
        "pushforward export runs/digits --to onnx",
        "pushforward export runs/digits --to diffusers --out digits-pipeline",
    ],
)


def command(
    run: Run,
    to: Annotated[str, typer.Option(metavar="FORMAT", help="onnx, safetensors or diffusers.")],
    out: Annotated[
        Path | None, typer.Option(metavar="PATH", help="File or new folder. Default: in RUN.", show_default=False)
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the model."""
    from pushforward.interop import export
    from pushforward.interop.export import check_format, file_name
    from pushforward.models import load
    from pushforward.training.record.files import inside

    check_format(to)
    target = out or inside(run, file_name(to))
    model: Any = load(run)
    check_output(target, overwrite=overwrite, folder=to == "diffusers")
    path = export(model, target, to)
    typer.echo(f"{to} in {path}")
