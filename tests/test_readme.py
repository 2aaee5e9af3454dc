"""What README and the guide tell people to type exists."""

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from codecria.cli.main import app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = typer.main.get_command(app)


def typed(page):
    """Every `codecria …` line in a console block, without its comment."""
    for block in re.findall(r"```(?:console|sh|bash)\n(.*?)```", page.read_text(), re.DOTALL):
        for line in block.splitlines():
            for part in re.split(r"\s\|\s|&&|;", line.split("  #")[0]):
                words = part.strip().removeprefix("$ ").strip()
                if words.split("/")[-1].startswith("codecria "):
                    yield shlex.split(words.replace("$'\\n\\n'", "'x'"))[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_exist(page):
    for words in typed(page):
        command = COMMANDS
        while hasattr(command, "commands") and words:
            assert words[0] in command.commands, f"{page.name}: {words}"
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        used = [word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)]
        assert set(used) <= known | {"-h", "--help"}, f"{page.name}: {words}"


def test_every_page_in_the_navigation_exists():
    named = re.findall(r":\s+([a-z/]+\.md)", (ROOT / "mkdocs.yml").read_text())
    assert named
    for name in named:
        assert (ROOT / "docs" / name).is_file(), name


def test_make_targets_of_the_readme_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in re.findall(r"make ([a-z-]+)", (ROOT / "README.md").read_text()):
        assert target in targets
