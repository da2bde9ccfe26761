"""The facts of a run as names and values, which ``inspect`` prints and a model card holds."""

import json
from pathlib import Path
from typing import Any

__all__ = ["facts_of"]


def facts_of(run: Path, card: dict[str, Any]) -> list[tuple[str, str]]:
    """Return names and values in the order in which they are shown; RunError if a file of the run cannot be read."""
    data, schema, resolved = card["data"], card["schema"], card["resolved"]
    shape = " x ".join(str(size) for size in schema["row_shape"])
    rows = schema["kind"] if schema["table"] is None else "rows"
    facts = [
        ("model", f"{card['class']} (pushforward {card['pushforward']})"),
        ("data", f"{data['source']}: {data['rows']:,} {rows} of {shape}, {data['held_out']:,} held out"),
    ]
    if card["status"] == "finished":
        facts.append(("condition", _condition(card["condition"])))
    facts += [(key, _part(resolved[key])) for key in ("coder", "prior", "teacher") if key in resolved]
    teacher = (card.get("chosen") or {}).get("teacher")
    facts += [("distilled from", teacher["run"])] if teacher is not None else []
    facts += [(key, _short(resolved[key])) for key in ("schedule", "prediction", "network", "sampler") if key in resolved]
    training = resolved.get("training")
    steps = f"{training['steps']:,} steps of {training['batch_size']} rows, " if training else ""
    facts.append(("training", f"{steps}seed {card['seed']}"))
    table = schema["table"]
    if table is not None:
        from pushforward.data.columns import Table

        facts += [("column", line) for line in Table.from_json(table).describe()]
    from pushforward.data import Schema

    if schema.get("sizes_differ"):
        facts.append(("points", Schema.from_json(schema).describe()))
    if schema["size"] is not None:
        facts.append(("images", f"the center square of each, resized to {schema['size']}×{schema['size']}"))
    if schema["text"] is not None:
        from pushforward.data import Tokenizer

        facts.append(("text", Tokenizer.from_json(schema["text"]).describe()))
    if schema["signal"] is not None:
        from pushforward.data.signal import Signal

        shape = schema["row_shape"]
        length = shape[1] if schema["channels"] == "first" else shape[0]
        facts += [("signals", line) for line in Signal.from_json(schema["signal"]).describe(length)]
    if card["status"] != "finished":
        return [*facts, *_unfinished(run, card)]
    from pushforward.models.files.storage import CARD, blamed_on
    from pushforward.training.record.progress import clock

    with blamed_on(run / CARD):
        result, rows = card["result"], Schema.from_json(schema).rules.noun
    threads = card["machine"]["threads"]
    done = f" for {result['steps']:,} steps" if training and result["steps"] != training["steps"] else ""
    facts.append(
        (
            "took",
            f"{clock(result['seconds'])}{done} ({result['rows_per_second']:,.0f} {rows}/s, "
            f"{result['parameters']:,} parameters, {threads} thread{'s' if threads > 1 else ''})",
        )
    )
    facts += _quality(result, card.get("novelty"))
    facts += _calibrations(run, card)
    image = run / "samples.png"
    return [*facts, ("image", str(image))] if image.is_file() else facts


def _unfinished(run: Path, card: dict[str, Any]) -> list[tuple[str, str]]:
    from pushforward.models.files.storage import resume_command
    from pushforward.training.record.files import read_file
    from pushforward.training.record.metrics import MOST_BYTES

    logs = [*run.glob("metrics.jsonl"), *run.glob("*/metrics.jsonl")]  # each part of a composed model has its own
    done = sum(_step(read_file(log, MOST_BYTES).decode(errors="replace").splitlines()) for log in logs)
    return [("status", f"not finished, {done:,} steps done"), ("continue with", resume_command(card, run))]


def _step(lines: list[str]) -> int:
    for line in reversed(lines):
        try:
            return int(json.loads(line)["step"])
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            continue
    return 0


def _quality(result: dict[str, Any], novelty: dict[str, float] | None) -> list[tuple[str, str]]:
    facts = []
    if result["held_out_loss"] is not None:
        facts.append(("held-out loss", f"{result['held_out_loss']:.4g} at step {result['held_out_step'] or 0:,}"))
    levels = result["held_out_by_level"]
    if levels:
        shown = ", ".join("-" if value is None else f"{value:.3g}" for value in levels)
        facts.append(("by noise level", f"{shown} (least noise first)"))
    if novelty:
        facts.append(
            (
                "nearest row",
                f"samples {novelty['samples']:.3g}, held-out rows {novelty['held_out']:.3g} (median distance to the nearest "
                f"training row; ratio {novelty['ratio']:.2f}, copies would be near 0)",
            )
        )
    return facts


def _calibrations(run: Path, card: dict[str, Any]) -> list[tuple[str, str]]:
    from pushforward.models.files.calibrations import read_calibrations

    shown = [
        f"{steps} steps{f' at guidance scale {scale:g}' if scale != 1 else ''} (gain {found.gain:.3g})"
        for (steps, scale), found in sorted(read_calibrations(run, card["weights"]["sha256"]).items())
    ]
    return [("calibrated", ", ".join(shown))] if shown else []


def _condition(facts: dict[str, Any] | None) -> str:
    if facts is None:
        return "none"
    if facts["kind"] == "vector":
        return "numbers"
    if facts["image"] is not None:
        from pushforward.data.conditions import MASK, describe

        if facts["kind"] == MASK:
            return "the visible part of the image under random masks"
        channels, height, width = facts["image"]
        return describe((channels, height, width))
    if facts["table"] is not None:
        from pushforward.data.columns import Table

        return "; ".join(Table.from_json(facts["table"]).describe())
    classes = [str(label) for label in facts["classes"]]
    more = f" and {len(classes) - 12} more" if len(classes) > 12 else ""
    return f"{len(classes)} labels: {', '.join(classes[:12])}{more}"


def _part(model: dict[str, Any]) -> str:
    """Return the name of an inner model with its training settings; for anything else its fields."""
    from pushforward.models.files.codec import is_model

    if not is_model(model):
        return _short(model)
    training = model.get("training")
    steps = f", {training['steps']:,} steps of {training['batch_size']} rows" if training else ""
    network = f", {_short(model['network'])}" if model.get("network") else ""
    return f"{model['name']}{network}{steps}"


def _short(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    if "part" in value:
        return f"{value['part']} (your own)"
    if "tensor" in value:
        return f"numbers of {value['tensor']}"
    fields = ", ".join(f"{key}={_short(item)}" for key, item in value.items() if key != "name")
    return f"{value['name']}({fields})"
