"""The README's Python runs as printed, in order."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


@pytest.mark.slow  # trains the models that the README trains
def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert len(blocks) >= 3
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert names["x"].shape == (500, 2)
    assert (tmp_path / "runs" / "ddpm" / "model.json").is_file()


def test_the_readme_shows_the_two_install_commands():
    commands = [line for line in README.read_text().splitlines() if line.startswith("python -m pip install")]
    assert [command.split("&&")[1].strip() for command in commands] == ["pushforward train digits", "python -m pytest"]
