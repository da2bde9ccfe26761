"""The pages of derivations run as the site runs them, and a wrong sign planted in a copy makes them fail."""

import contextlib
import functools
import io
import re
import textwrap
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(path.stem for path in (DOCS / "derivations").glob("*.md") if path.stem != "index")
_BLOCK = re.compile(
    r'^( *)```python exec="1" source="block" session="[\w-]+"(?: result="text")?\n(.*?)^\1```$',
    re.DOTALL | re.MULTILINE,
)

FAULTS = [
    ("gaussians", "factor = log_normal(a, b, A + B)", "factor = log_normal(a, b, A - B)"),
    ("gaussians", "c = C * (a / A + b / B)", "c = C * (a / A - b / B)"),
    ("gaussians", "quadratic(first, second, cov_1 + cov_2) + quadratic", "quadratic(first, second, cov_1 + cov_2) - quadratic"),
    ("gaussians", "-quadratic(first, second, cov_1 + cov_2) / 2", "quadratic(first, second, cov_1 + cov_2) / 2"),
    ("gaussians", "(2 * moment(4) + 6 * moment(2) ** 2)", "(2 * moment(4) - 6 * moment(2) ** 2)"),
    ("gaussians", "conditional = a + K * (y - b), s_xx - K * s_xy", "conditional = a + K * (y - b), s_xx + K * s_xy"),
    ("gaussians", "conditional = a + K * (y - b)", "conditional = a - K * (y - b)"),
    ("gaussians", "S - gain * A_ * S", "S + gain * A_ * S"),
    ("gaussians", "evidence = log_normal(y, A_ * m + b", "evidence = log_normal(y, A_ * m - b"),
    ("gaussians", "sp.Rational(1, 100)", "sp.Rational(1, 1)"),
    ("forward-chain", "variance = c**2 * (1 - alpha_bar) + beta", "variance = c**2 * (1 - alpha_bar) - beta"),
    ("forward-chain", "variance = c**2 * (1 - alpha_bar) + beta", "variance = c**2 * (1 - alpha_bar) + sp.sqrt(beta)"),
    ("forward-chain", "keep**2 * noise_variance + step)", "keep**2 * noise_variance - step)"),
    ("forward-chain", "products[-1] * (1 - value)", "products[-1] * (1 + value)"),
    ("forward-chain", "on_x_t = c * (1 - alpha_bar) / (1 - after)", "on_x_t = c * (1 + alpha_bar) / (1 - after)"),
    ("forward-chain", "beta_tilde = (1 - alpha_bar) / (1 - after) * beta", "beta_tilde = (1 - after) / (1 - alpha_bar) * beta"),
    ("forward-chain", "- log_normal(now, sp.sqrt(after) * x, 1 - after)", "+ log_normal(now, sp.sqrt(after) * x, 1 - after)"),
    ("forward-chain", "(reverse_mean**2 + beta)", "(reverse_mean**2 - beta)"),
    ("forward-chain", "for row, t in enumerate((4, 3, 2)):", "for row, t in enumerate((3, 2, 1)):"),
    ("bound", "+ marginal[t - 1] - marginal[t - 2])", "- marginal[t - 1] + marginal[t - 2])"),
    ("bound", "for t in range(2, T + 1)\n}", "for t in range(2, T)\n}"),
    ("bound", "bound = sum(q * (log(p) - log(q))", "bound = sum(q * (log(q) - log(p))"),
    ("bound", "return sum(a * (log(a) - log(b))", "return sum(a * (log(a) + log(b))"),
    ("bound", "L_0 = -sum(", "L_0 = sum("),
    ("bound", "log(p_x) - bound - gap)", "log(p_x) - bound + gap)"),
    ("bound", "assert number(sp.expand(bound)) < math.log(p_x)", "assert number(sp.expand(bound)) == math.log(p_x)"),
    ("bound", "for term in (L_T, *L_between.values())", "for term in (-L_T, *L_between.values())"),
    ("bound", "- log(q_marginal(T)[z[-1]])", "+ log(q_marginal(T)[z[-1]])"),
    ("bound", "return -kl(q_posterior", "return kl(q_posterior"),
    ("bound", "alpha_s**2 / sigma_s**2 - alpha_t**2", "alpha_s**2 / sigma_s**2 + alpha_t**2"),
    ("ddim", "kept = sp.sqrt(sigma_s**2 - v) / sigma_t", "kept = sp.sqrt(sigma_s**2 + v) / sigma_t"),
    ("ddim", "on_x = alpha_s - kept * alpha_t", "on_x = alpha_s + kept * alpha_t"),
    ("ddim", "b2 = sigma_t**2 - (alpha_t", "b2 = sigma_t**2 + (alpha_t"),
    ("ddim", "variance + table.C[row, 0] ** 2", "variance - table.C[row, 0] ** 2"),
    ("ddim", "alpha_s: sp.cos(angle - step)", "alpha_s: sp.cos(angle + step)"),
    ("sde-moments", "fokker_planck = -sp.diff(f * x * density, x)", "fokker_planck = sp.diff(f * x * density, x)"),
    ("sde-moments", "x) + g**2 / 2 * sp.diff", "x) + g**2 * sp.diff"),
    ("sde-moments", "2 * f * V + g**2}\nassert sp.simplify(defect.subs(moments))", "2 * f * V - g**2}\nassert sp.simplify(defect.subs(moments))"),
    ("sde-moments", '"VP": (-beta / 2, beta,', '"VP": (beta / 2, beta,'),
    ("sde-moments", "beta * (1 - sp.exp(-2 * B))", "beta * (1 + sp.exp(-2 * B))"),
    ("sde-moments", "sp.Integer(0), sp.diff(ve, t)", "sp.Integer(0), -sp.diff(ve, t)"),
    ("sde-moments", "(beta_max - beta_min) * t**2 / 2  #", "(beta_max + beta_min) * t**2 / 2  #"),
    ("sde-moments", "schedule.sigma_dot(times) - f_ * sigma", "-schedule.sigma_dot(times) + f_ * sigma"),
    ("sde-moments", "right = n * (sp.sqrt(h) * size) ** 2", "right = n * (h * size) ** 2"),
    ("reverse-time", "drift = f * x - (1 + lam**2) / 2", "drift = f * x + (1 + lam**2) / 2"),
    ("reverse-time", "drift = f * x - (1 + lam**2) / 2 * g**2", "drift = f * x - (1 + lam**2) * g**2"),
    ("reverse-time", "[f * u - (1 + lam**2) / 2", "[f * u + (1 + lam**2) / 2"),
    ("reverse-time", "square = sp.diff(sigma**2, t) - 2 * rate", "square = sp.diff(sigma**2, t) + 2 * rate"),
    ("reverse-time", "c = -(1 + lam**2) / 2", "c = (1 + lam**2) / 2"),
    ("reverse-time", "flow = f_ * 0.4 - g2 / 2", "flow = f_ * 0.4 + g2 / 2"),
    ("reverse-time", "assert mismatch(1, 1) == 0", "assert mismatch(-1, 1) == 0"),
    ("reverse-time", "boltzmann = sp.exp(-E) / Z", "boltzmann = sp.exp(E) / Z"),
    ("reverse-time", "-sp.diff(share * energy_score", "sp.diff(share * energy_score"),
    ("reverse-time", "(1 - h) ** 2 * V + 2 * h", "(1 - h) ** 2 * V + h"),
    ("tweedie", "first = y * kernel + sigma**2", "first = y * kernel - sigma**2"),
    ("tweedie", "(y**2 + sigma**2) * kernel", "(y**2 - sigma**2) * kernel"),
    ("tweedie", "mean = (y * p_t + sigma**2", "mean = (y * p_t - sigma**2"),
    ("tweedie", "(1 + sigma**2 * sp.diff(score, y))", "(1 - sigma**2 * sp.diff(score, y))"),
    ("tweedie", "assert sp.simplify(noise + sigma * score) == 0", "assert sp.simplify(noise - sigma * score) == 0"),
    ("tweedie", "y * density + numbers[sigma] ** 2", "y * density - numbers[sigma] ** 2"),
    ("tweedie", "alpha * S / V * (y - alpha * m)\n", "alpha * S / V * (y + alpha * m)\n"),
    ("tweedie", "-(y - alpha * m) / V * n\n", "(y - alpha * m) / V * n\n"),
    ("tweedie", "two_points = sp.tanh(alpha", "two_points = -sp.tanh(alpha"),
    ("predictions", '"v": (-sigma, alpha)', '"v": (sigma, alpha)'),
    ("predictions", '"score": (sp.Integer(0), -1 / sigma)', '"score": (sp.Integer(0), 1 / sigma)'),
    ("predictions", "-alpha * s / sp.sqrt(S))", "alpha * s / sp.sqrt(S))"),
    ("predictions", "(sigma * value - q * x_t) / (sigma * p - alpha * q)", "(sigma * value + q * x_t) / (sigma * p - alpha * q)"),
    ("predictions", "(alpha * X - sigma * V) /", "(alpha * X + sigma * V) /"),
    ("predictions", "schedule.alpha_dot(at), sigma_dot: schedule.sigma_dot(at)}\n        numbers", "-schedule.alpha_dot(at), sigma_dot: schedule.sigma_dot(at)}\n        numbers"),
    ("predictions", "((sigma * p - alpha * q) / sigma) ** 2\n", "((sigma * p + alpha * q) / sigma) ** 2\n"),
    ("predictions", "((a, -b), (b, a))", "((a, b), (b, a))"),
    ("guidance", "score(conditional) - score(p) - score(likelihood)", "score(conditional) - score(p) + score(likelihood)"),
    ("guidance", "variance = 1 / (1 + strength / r)", "variance = 1 / (1 - strength / r)"),
    ("guidance", "return -(x - alpha * mean)", "return -(x + alpha * mean)"),
    ("guidance", "noise=0.5 / strength**0.5", "noise=0.5 * strength**0.5"),
    ("guidance", "assert set(roots) <= {1}", "assert set(roots) == {2}"),
    ("score-matching", "implicit = s**2 / 2 + sp.diff(s, y)", "implicit = s**2 / 2 - sp.diff(s, y)"),
    ("score-matching", "target = -(y - x) / sigma**2", "target = (y - x) / sigma**2"),
    ("score-matching", "- s * sp.diff(p, y) + square / 2", "+ s * sp.diff(p, y) + square / 2"),
    ("score-matching", "points = clean + size * eps", "points = clean + 2 * size * eps"),
    ("score-matching", "abs(implicit_one + energy)", "abs(implicit_one - energy)"),
    ("score-matching", "(1 / (2 * size**2) - energy)", "(1 / (2 * size**2) + energy)"),
    ("score-matching", "- 1 / (2 * (S + sigma**2))", "+ 1 / (2 * (S + sigma**2))"),
    ("flow-matching", "velocity = (y - alpha * x) / sigma - x", "velocity = (y - alpha * x) / sigma + x"),
    ("flow-matching", "continuity = sp.diff(bell, t) + sp.diff", "continuity = sp.diff(bell, t) - sp.diff"),
    ("flow-matching", "residual = sp.diff(density, t) + flux", "residual = sp.diff(density, t) - flux"),
    ("flow-matching", "strict=True)) / density", "strict=True)) / parts[0]"),
    ("flow-matching", "marginal = (u - mean) ** 2", "marginal = (u + mean) ** 2"),
    ("flow-matching", "by_conversion = -denoised +", "by_conversion = denoised +"),
    ("flow-matching", "gaussian_velocity = -mu +", "gaussian_velocity = mu +"),
    ("flow-matching", "start = y - gaussian_velocity", "start = y + gaussian_velocity"),
]  # fmt: skip


def blocks(page: str) -> list[str]:
    """The executed blocks of a page, in order."""
    text = (DOCS / "derivations" / f"{page}.md").read_text()
    found = [textwrap.dedent(match[2]) for match in _BLOCK.finditer(text)]
    assert len(found) == len(re.findall(r"^ *```python", text, re.MULTILINE)), f"a block of {page} is not executed"
    return found


def run(source: list[str], names: dict[str, object]) -> None:
    for block in source:
        exec(compile(block, f"block of {names['__name__']}.md", "exec"), names)


@functools.cache
def states(page: str) -> tuple[list[dict[str, object]], str]:
    """The names that each block of a page finds, and last those that the page leaves; and what the page prints."""
    found: list[dict[str, object]] = [{"__name__": page}]
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        for block in blocks(page):
            found.append(dict(found[-1]))
            run([block], found[-1])
    return found, shown.getvalue()


@pytest.fixture(autouse=True)
def _helpers(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS / "support"))


@pytest.mark.full  # the site runs every block too
@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_the_page_holds(page):
    _, shown = states(page)
    assert shown.strip(), "a page shows what it proved"
    for number, block in enumerate(blocks(page)):
        assert "assert" in block or number == 0, f"block {number} of {page} claims nothing"


# One fault of a page shows that its claims can fail; the others, and those of pages that take seconds, run in full.
QUICK = {"ddim", "sde-moments"}
FIRST = {page: wrong for page, _, wrong in reversed(FAULTS)}


@pytest.mark.parametrize(
    ("page", "right", "wrong"),
    [
        pytest.param(
            page,
            right,
            wrong,
            id=f"{page}: {wrong[:40]!r}",
            marks=[] if page in QUICK and wrong == FIRST[page] else [pytest.mark.full],
        )
        for page, right, wrong in FAULTS
    ],
)
def test_a_planted_fault_makes_the_page_fail(page, right, wrong):
    source = blocks(page)
    (number,) = [number for number, block in enumerate(source) if right in block]
    assert source[number].count(right) == 1
    names = dict(states(page)[0][number])
    with pytest.raises(AssertionError):
        run([source[number].replace(right, wrong), *source[number + 1 :]], names)


def test_every_page_has_planted_faults():
    assert {page for page, _, _ in FAULTS} == set(PAGES)
