"""The lessons: each has what a lesson promises, and the table of topics answers for each topic."""

import re
from pathlib import Path

import pytest

LESSONS = Path(__file__).parents[2] / "docs" / "lessons"
PAGES = sorted(path for path in LESSONS.glob("*.md") if path.stem not in ("index", "glossary"))


def test_every_topic_has_a_place_or_a_reason():
    text = (LESSONS / "index.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", text.partition("## Where is")[2], re.MULTILINE)[1:]
    assert len(rows) > 40
    for topic, place in rows:
        # A strict build of the site checks the links themselves.
        assert "](" in place or "not here:" in place or "exercises" in topic, topic


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_lesson_is_found_and_keeps_its_promises(page):
    text = page.read_text(encoding="utf-8")
    assert f"]({page.name})" in (LESSONS / "index.md").read_text(encoding="utf-8")
    assert f"lessons/{page.name}" in (LESSONS.parents[1] / "mkdocs.yml").read_text(encoding="utf-8")
    assert 'tip "If you change …"' in text
    assert 'html="1"' in text  # at least one plot
    exercises = text.partition("## Exercises")[2]
    solutions = exercises.split('??? success "Solution"')[1:]
    assert len(solutions) >= 2
    assert len(re.findall(r"^\*\*\d\.\*\*", exercises, re.MULTILINE)) == len(solutions)


def test_terms_are_in_order_and_complete():
    text = (LESSONS / "glossary.md").read_text(encoding="utf-8").partition("## Symbols")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")][1:]
    assert all(len(row) == 4 and all(row) for row in rows)
    terms = [row[0].lower() for row in rows]
    assert len(set(terms)) == len(terms) > 60
    assert [term[0] for term in terms] == sorted(term[0] for term in terms)
