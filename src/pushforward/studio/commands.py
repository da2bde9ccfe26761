"""The command line and the recipe of a training, from what was chosen on the page."""

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pushforward.models import recipe as recipes
from pushforward.models.base.plan import Plan, plan
from pushforward.models.recipe import assemble
from pushforward.studio.families import finest
from pushforward.studio.thumbnails import open_chosen
from pushforward.studio.workspace import Workspace, safe_name

__all__ = ["Training", "full_recipe", "options_of"]


@dataclass
class Training:
    """What a training is to be: data, family, and arguments that differ from the defaults."""

    source: str
    model: str
    arguments: dict[str, Any] = field(default_factory=dict)
    name: str = ""

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe, as a file for ``--recipe`` holds it."""
        return {"model": self.model} | finest(self.arguments)

    def whole(self, workspace: Workspace) -> dict[str, Any]:
        """Return the recipe with the types of columns that were set for the data."""
        types = workspace.choices(self.source).get("columns")
        return self.recipe | ({"columns": types} if types else {})

    def yaml(self, workspace: Workspace) -> str:
        """Return the recipe as text."""
        return yaml.safe_dump(self.whole(workspace), sort_keys=False, allow_unicode=True, width=90).strip()

    def words(self, workspace: Workspace, out: str, recipe_file: str) -> list[str]:
        """Return the words after ``pushforward``; what the recipe cannot hold, the condition, is an option."""
        condition = {"condition": workspace.choices(self.source).get("condition")}
        return ["train", self.source, "--recipe", recipe_file, "--out", out, *options_of(condition)]

    def command(self, workspace: Workspace) -> str:
        """Return one command to paste into a terminal, without a file for the recipe."""
        words = ["pushforward", "train", self.source, "--model", self.model]
        for key, value in _leaves(finest(self.arguments)):
            if key == "random_state":
                words += ["--seed", str(value)]
            elif key == "max_time":
                words += ["--max-time", f"{value:g}s"]
            else:
                words += ["--set", f"{key}={value}"]
        words += options_of(workspace.choices(self.source))
        return shlex.join([*words, "--out", f"runs/{self.folder_name}"])

    @property
    def folder_name(self) -> str:
        """Name of the run folder."""
        stem = self.source.rpartition("/")[2]
        return safe_name(self.name) if self.name.strip() else safe_name(f"{Path(stem).stem}-{self.model}")

    def plan(self, workspace: Workspace) -> Plan:
        """Resolve and check all arguments on the data, as ``--dry-run`` does."""
        dataset = open_chosen(workspace, self.source)
        return plan(dataset, assemble(self.whole(workspace), dataset))

    def start(self, workspace: Workspace) -> tuple[list[str], Path]:
        """Write the recipe into the workspace, and return the words of the command and the run folder."""
        folder = workspace.vacant(workspace.runs, self.folder_name)
        file = workspace.root / "recipes" / f"{folder.name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self.yaml(workspace) + "\n", encoding="utf-8")
        return self.words(workspace, f"runs/{folder.name}", f"recipes/{file.name}"), folder


def options_of(choices: dict[str, Any]) -> list[str]:
    """Return the options of a command for what was chosen for data: types of columns, and the condition.

    >>> options_of({"columns": {"zip": "category"}, "condition": ["age", "sex"]})
    ['--set', 'columns.zip=category', '--condition', 'age,sex']
    """
    words = [
        word
        for name, column_type in (choices.get("columns") or {}).items()
        for word in ("--set", f"columns.{name}={column_type}")
    ]
    condition = choices.get("condition")
    if condition:
        words += ["--condition", condition if isinstance(condition, str) else ",".join(condition)]
    return words


def full_recipe(planned: Plan) -> str:
    """Return all arguments of a planned training, as ``--dry-run`` prints them."""
    whole = {key: value for key, value in recipes.recipe_of(planned.model).items() if key != "verbose"}
    return yaml.safe_dump(whole, sort_keys=False, default_flow_style=None, allow_unicode=True, width=90).strip()


def _leaves(values: dict[str, Any], within: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        found += _leaves(value, f"{within}{name}.") if isinstance(value, dict) else [(within + name, value)]
    return found
