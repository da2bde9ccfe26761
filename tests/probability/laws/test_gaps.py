"""Rows with gaps, against conditionals and marginals computed one row at a time, and against counted draws."""

import math

import pytest
import torch

from pushforward.probability import GaussianMixture, gaps, noise


def _law(form):
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    if form == "full":
        root = torch.randn(3, 4, 4, generator=generator, dtype=torch.float64)
        covs = root @ root.mT + 0.1 * torch.eye(4, dtype=torch.float64)
    else:
        covs = torch.rand(3, 4, generator=generator, dtype=torch.float64) + 0.1
        covs = covs if form == "diag" else covs[:, 0]
    return GaussianMixture([0.5, 0.3, 0.2], means, covs)


def _rows(n=40):
    x = noise.normal((4,), seed=1, purpose="test", rows=n, dtype=torch.float64)
    hidden = noise.uniform((4,), seed=2, purpose="test", rows=n, dtype=torch.float64) < 0.4
    hidden[0], hidden[1] = True, False
    return x.masked_fill(hidden, math.nan)


@pytest.mark.parametrize("form", ["full", "diag", "spherical"])
def test_density_of_what_is_seen_is_that_of_the_marginal(form):
    law, x = _law(form), _rows()
    found = gaps.log_joint(law, x)
    for row, mine in zip(x, found, strict=True):
        seen = (~row.isnan()).nonzero()[:, 0]
        wanted = law.marginal(seen).components.log_prob(row[seen]) if len(seen) else torch.zeros(3, dtype=torch.float64)
        torch.testing.assert_close(mine, wanted + law.weights.log(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", ["full", "diag", "spherical"])
def test_completed_moments_are_those_of_the_conditionals(form):
    law, x = _law(form), _rows()
    done = gaps.completed(law, x)
    first, second = torch.zeros(3, 4, dtype=torch.float64), torch.zeros(3, 4, 4, dtype=torch.float64)
    r = gaps.log_joint(law, x).softmax(1)
    for row, share in zip(x, r, strict=True):
        seen, hidden = (~row.isnan()).nonzero()[:, 0], row.isnan().nonzero()[:, 0]
        for k in range(3):
            mean, cov = row.clone(), torch.zeros(4, 4, dtype=torch.float64)
            if len(hidden):
                S = law.components.full_covs[k]
                gain = S[hidden][:, seen] @ torch.linalg.inv(S[seen][:, seen])
                mean[hidden] = law.means[k, hidden] + gain @ (row[seen] - law.means[k, seen])
                cov[hidden[:, None], hidden] = S[hidden][:, hidden] - gain @ S[seen][:, hidden]
            first[k] += share[k] * mean
            second[k] += share[k] * (torch.outer(mean, mean) + cov)
    torch.testing.assert_close(done.weight, r.sum(0))
    torch.testing.assert_close(done.first, first, rtol=1e-10, atol=1e-10)
    wanted = second if form == "full" else second.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(done.second, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("form", ["full", "diag"])
def test_draws_have_the_moments_of_the_conditional_and_keep_what_is_seen(form):
    law, n = _law(form), 20_000
    x = torch.tensor([0.3, math.nan, -0.5, math.nan], dtype=torch.float64).repeat(n, 1)
    z = noise.normal((4,), seed=3, purpose="test", rows=n, dtype=torch.float64)
    filled = gaps.fill(law, x, torch.full((n,), 1), z)
    assert torch.equal(filled[:, [0, 2]], x[:, [0, 2]])
    one = GaussianMixture([1.0], law.means[1:2], law.covs[1:2]).condition([0, 2], [0.3, -0.5])
    torch.testing.assert_close(filled[:, [1, 3]].mean(0), one.means[0], rtol=0, atol=5 * float(one.covs.max() / n) ** 0.5)
    torch.testing.assert_close(filled[:, [1, 3]].mT.cov(), one.components.full_covs[0], rtol=0, atol=0.05)


def test_a_row_does_not_depend_on_its_batch():
    law, x = _law("full"), _rows()
    z = noise.normal((4,), seed=3, purpose="test", rows=len(x), dtype=torch.float64)
    k = torch.arange(len(x)) % 3
    whole = gaps.fill(law, x, k, z)
    parts = [gaps.fill(law, x[i : i + 7], k[i : i + 7], z[i : i + 7]) for i in range(0, len(x), 7)]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-10, atol=1e-10)


def test_chunks_give_what_one_batch_gives(monkeypatch):
    law, x = _law("full"), _rows()
    whole = gaps.completed(law, x)
    monkeypatch.setattr(gaps, "_NUMBERS", 200)
    parts = gaps.completed(law, x)
    for name in ("log_joint", "weight", "first", "second"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), rtol=1e-12, atol=1e-12)
