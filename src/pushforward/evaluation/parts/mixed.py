"""The parts of an evaluation about rows of mixed columns: shapes, trends, detection, usefulness, gaps, and privacy."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pushforward.evaluation.figure import Figure
from pushforward.evaluation.findings import Results
from pushforward.evaluation.parts.density import affordable_rows
from pushforward.evaluation.parts.ranges import ranges
from pushforward.evaluation.parts.rows import Inputs, Run
from pushforward.evaluation.parts.usefulness import usefulness
from pushforward.metrics.measure import Measure
from pushforward.metrics.mixed.associations import association_gap, associations
from pushforward.metrics.mixed.closest import closest_records
from pushforward.metrics.mixed.combinations import unseen_combinations
from pushforward.metrics.mixed.detection import detection
from pushforward.metrics.mixed.gaps import gap_patterns
from pushforward.metrics.mixed.membership import distance_attack, membership_attack
from pushforward.metrics.mixed.shapes import column_shapes
from pushforward.metrics.mixed.trends import pair_trends
from pushforward.metrics.relabel import compared_shares
from pushforward.probability.domain import Domain

__all__ = ["mixed_parts"]

_LISTED = 12
_MOST_PAIRED = 60  # columns
_LEAST_ATTACKED = 40  # rows in and out of training
_SCORED = 1000


def mixed_parts(inputs: Inputs) -> Iterator[tuple[str, Run]]:
    """Yield the names and functions of the parts that apply to these columns."""
    domains = _domains(inputs)
    yield "shapes", _shapes
    if 1 < len(domains) <= _MOST_PAIRED:
        yield "trends", _trends
    if numbers := [index for index, domain in enumerate(domains) if domain.type != "category"]:
        yield "ranges", partial(ranges, columns=numbers)
    yield "detection", _detection
    if sum(domain.type == "category" for domain in domains) > 1 and inputs.train is not None:
        yield "combinations", _combinations
    if inputs.held.x.isnan().any() or inputs.floor.x.isnan().any():
        yield "gaps", _gaps
    if len(domains) > 1 and inputs.train is not None:
        yield "usefulness", _utility
    if inputs.train is not None:
        yield "closest records", _closest
        if min(len(inputs.held), len(inputs.train)) >= _LEAST_ATTACKED:
            yield "membership", _membership


def _domains(inputs: Inputs) -> tuple[Domain, ...]:
    assert inputs.schema.table is not None
    return inputs.schema.table.domains


def _three(inputs: Inputs) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return samples, held-out rows and training rows (n, C)."""
    assert inputs.samples is not None
    return inputs.samples.x.numpy(), inputs.held.x.numpy(), inputs.floor.x.numpy()


def _shapes(inputs: Inputs, results: Results) -> None:
    """Measure each column; of many columns list those that are farthest from their floor."""
    samples, held, other = _three(inputs)
    domains = _domains(inputs)
    # The columns to list are chosen by their Shapes, so their p-values must account for the choice.
    jointly = len(domains) > _LISTED
    found = column_shapes(samples, held, domains, seed=inputs.seed, jointly=jointly)
    floors = column_shapes(other, held, domains, test=False)
    pairs = [
        (index, measure, floor)
        for index, (measure, floor) in enumerate(zip(found.columns, floors.columns, strict=True))
        if measure is not None and floor is not None
    ]
    listed = sorted(pairs, key=lambda pair: pair[1].value - pair[2].value)[:_LISTED]
    note = "mean over columns of 1 - the distance of their laws"
    if len(listed) < len(pairs):
        note += f"; below, the {_LISTED} of {len(pairs)} columns farthest from their floor"
    results.figures.append(Figure("Shape", "table", found.mean, "", "higher", "held-out", floors.mean, note=note))
    for index, measure, floor in sorted(listed):
        results.figures.append(Figure(f"Shape of {inputs.names[index]}", "table", measure, "", "higher", "held-out", floor))


def _trends(inputs: Inputs, results: Results) -> None:
    samples, held, other = _three(inputs)
    domains = _domains(inputs)
    found, floors = (pair_trends(rows, held, domains, seed=inputs.seed, test=rows is samples) for rows in (samples, other))
    note = "mean over pairs of columns of 1 - the distance of their joint laws"
    results.figures.append(Figure("Trend", "table", found.mean, "", "higher", "held-out", floors.mean, note=note))
    gap, floor = (association_gap(rows, held, domains, seed=inputs.seed) for rows in (samples, other))
    note = "mean difference over pairs of columns"
    results.figures.append(Figure("association gap", "table", gap, "", "lower", "held-out", floor, note=note))
    results.arrays |= {
        "associations_of_samples": associations(samples, domains),
        "associations_of_rows": associations(held, domains),
    }


def _detection(inputs: Inputs, results: Results) -> None:
    samples, held, other = _three(inputs)
    found, floors = (detection(rows, held, _domains(inputs), seed=inputs.seed) for rows in (samples, other))
    note = "1 where boosted trees cannot tell samples from rows, 0 where they always can"
    results.figures += [
        Figure("detection", "table", found.score, "", "higher", "held-out", floors.score, note=note),
        Figure("AUC of detection", "table", found.auc, "", "lower", "held-out", floors.auc, note="0.5 is a guess"),
    ]


def _combinations(inputs: Inputs, results: Results) -> None:
    samples, held, _ = _three(inputs)
    assert inputs.train is not None
    train = inputs.train.x.numpy()
    found, floor = compared_shares(*(unseen_combinations(rows, train, _domains(inputs)).unseen for rows in (samples, held)))
    note = "rows with two categories that no training row has together"
    results.figures.append(Figure("unseen combinations", "table", found, "share", "floor", "train", floor, note=note))


def _gaps(inputs: Inputs, results: Results) -> None:
    samples, held, other = _three(inputs)
    domains = _domains(inputs)
    found, floor = (gap_patterns(rows, held, domains, seed=inputs.seed, test=rows is samples) for rows in (samples, other))
    note = "total variation over the columns that are empty together"
    results.figures.append(
        Figure("pattern of gaps", "table", found.variation, "", "lower", "held-out", floor.variation, note=note)
    )
    results.arrays |= {
        "gaps_of_samples": np.array([rate.value for rate in found.sampled]),
        "gaps_of_rows": np.array([rate.value for rate in found.real]),
    }


def _utility(inputs: Inputs, results: Results) -> None:
    """Predict the last category of the table, or without one the last column that varies."""
    samples, held, other = _three(inputs)
    domains = _domains(inputs)
    varies = [len(np.unique(other[~np.isnan(other[:, index]), index])) > 1 for index in range(len(domains))]
    targets = [index for index, domain in enumerate(domains) if varies[index] and domain.type == "category"]
    target = (targets or [index for index, each in enumerate(varies) if each])[-1]
    results.figures.append(usefulness(samples, other, held, domains, target, inputs))


def _closest(inputs: Inputs, results: Results) -> None:
    samples, held, _ = _three(inputs)
    assert inputs.train is not None
    # As many training rows as held-out ones, so that a half is what a good model reaches.
    train = inputs.train.some(len(held), inputs.seed, "closest").x.numpy()
    found = closest_records(samples, train, held, _domains(inputs), seed=inputs.seed)
    copies, n = found.memorization.copies, len(samples)
    half, few = Measure.exact(found.expected, n), Measure.exact(found.memorization.held_out_copies, n)
    near = "share of samples nearer to a training row than to any held-out row"
    equal = "equal to a training row; the floor is the share of held-out rows that are"
    results.figures += [
        Figure("nearer to training", "memorization", found.nearer, "share", "floor", "train", half, note=near),
        Figure("exact copies", "memorization", copies, "share", "lower", "train", few, note=equal),
    ]
    results.arrays |= {
        "distances_of_samples": found.memorization.distances,
        "distances_of_held_out": found.memorization.held_out_distances,
    }


def _membership(inputs: Inputs, results: Results) -> None:
    """Measure what attacks gain that tell training rows from held-out ones by samples, and by the model's density."""
    samples, held, _ = _three(inputs)
    assert inputs.train is not None
    members = inputs.train.some(len(held), inputs.seed, "members")
    advantage = distance_attack(samples, members.x.numpy(), held, _domains(inputs), seed=inputs.seed).advantage
    none, note = Measure.exact(0.0, len(held)), "rows in training that are told from others, by their distance to samples"
    results.figures.append(Figure("membership by distance", "memorization", advantage, "", "lower", "train", none, note=note))
    if not hasattr(inputs.model, "log_prob") or members.user is None:
        return
    most = min(_SCORED, affordable_rows(inputs))
    rows, others = members.some(most, inputs.seed, "members"), inputs.held.some(most, inputs.seed, "members")
    if (rows.condition is None) != (others.condition is None):
        return
    scores = [inputs.model.log_prob(part.user, condition=part.condition).values for part in (rows, others)]
    advantage = membership_attack(*scores, seed=inputs.seed).advantage
    note = "the same by their density"
    results.figures.append(Figure("membership by density", "memorization", advantage, "", "lower", "train", none, note=note))
