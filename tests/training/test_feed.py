import pytest
import torch
from tiny_task import Tiny, rows
from torch import Tensor

from pushforward.probability.noise import derive
from pushforward.training import feed as feed_module
from pushforward.training.feed import Feed


def make(n: int, batch_size: int, share: slice | None = None, seed: int = 4, attempt: int = 0) -> Feed:
    share = slice(0, batch_size) if share is None else share
    return Feed(Tiny(), rows(n), rows(n, seed=1, dim=2), batch_size=batch_size, share=share, seed=seed, attempt=attempt)


def test_every_epoch_holds_every_row_once_and_batches_run_on_across_its_end() -> None:
    order = make(10, 4).indices(0, 15).reshape(-1).view(6, 10)
    assert torch.equal(order.sort(1).values, torch.arange(10).expand(6, 10))
    assert len({tuple(epoch.tolist()) for epoch in order}) == 6


def test_a_batch_larger_than_the_data_repeats_rows_evenly() -> None:
    counts = torch.bincount(make(3, 8).indices(0, 9).reshape(-1), minlength=3)
    assert counts.tolist() == [24, 24, 24]
    per_round = make(3, 8).indices(0, 9).reshape(-1).view(8, 9)
    assert all(torch.bincount(one, minlength=3).tolist() == [3, 3, 3] for one in per_round)


@pytest.mark.parametrize("n", [5, 37])
def test_batch_of_a_step_does_not_depend_on_blocks_or_on_what_was_asked_before(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make(n, 6)
    in_order = [whole.batch(step) for step in range(12)]
    monkeypatch.setattr(feed_module, "MAX_BLOCK_STEPS", 5)
    short = make(n, 6)
    assert short.block == 5
    for step in (11, 0, 7, 3):
        there, here = in_order[step], short.batch(step)
        assert torch.equal(there.x, here.x)
        assert there.condition is not None
        assert here.condition is not None
        assert torch.equal(there.condition, here.condition)
        assert all(torch.equal(a, b) for a, b in zip(there.draws, here.draws, strict=True))
        assert int(here.draws[2][0]) == step


def test_no_batch_is_made_beyond_the_end_of_the_run_unless_it_is_asked_for() -> None:
    whole, brief = make(37, 6), make(37, 6)
    brief.until = 5
    for step, made in ((0, 5), (4, 5), (5, 6), (2, 6), (11, 12)):
        assert torch.equal(brief.batch(step).x, whole.batch(step).x)
        assert len(brief._batches) == made


def test_conditions_stay_with_their_rows() -> None:
    feed, x, condition = make(20, 6), rows(20), rows(20, seed=1, dim=2)
    batch = feed.batch(3)
    assert batch.condition is not None
    for row, given in zip(batch.x, batch.condition, strict=True):
        place = int((x == row).all(1).nonzero().item())
        assert torch.equal(given, condition[place])


def test_shares_of_processes_make_up_the_global_batch() -> None:
    whole, parts = make(20, 7).batch(2), [make(20, 7, part).batch(2) for part in (slice(0, 3), slice(3, 7))]
    assert torch.equal(whole.x, torch.cat([part.x for part in parts]))
    assert torch.equal(whole.draws[0], torch.cat([part.draws[0] for part in parts]))


def test_another_attempt_or_seed_sees_other_batches() -> None:
    first = make(50, 8).batch(0)
    for other in (make(50, 8, attempt=1).batch(0), make(50, 8, seed=5).batch(0)):
        assert not torch.equal(first.x, other.x)
        assert not torch.equal(first.draws[0], other.draws[0])


def test_draws_use_the_seed_of_run_and_attempt() -> None:
    task = Tiny()
    expected = task.draw(torch.arange(8), 8, torch.tensor([3]), derive(4, "draws", 2))
    assert torch.equal(make(50, 8, attempt=2).batch(3).draws[0], expected[0][0])


def test_draws_of_a_wrong_shape_are_refused() -> None:
    class Flat(Tiny):
        def draw(self, rows: Tensor, total: int, steps: Tensor, seed: int) -> tuple[Tensor, ...]:
            return (torch.zeros(len(rows), len(steps)),)

    feed = Feed(Flat(), rows(20), None, batch_size=6, share=slice(0, 6), seed=0)
    with pytest.raises(ValueError, match=rf"Flat.draw has shape \(6, {feed.block}\).*\({feed.block}, 6\)"):
        feed.batch(0)
