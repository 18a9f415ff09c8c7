"""Every block of code on every page runs.

A page's Python blocks run in their order, in one namespace, in a folder that holds what the page
speaks of; shell lines go through the command line; YAML blocks are read as parts of a protocol.
What cannot run here (it needs a network, a window, hours) is marked on the page, in front of the
block, by ``<!-- not run: why -->``; of such a block the parts are checked that can be: that verbs
take these options, and that scripts and targets of the Makefile are there.  Which pages hold how
many of them is counted below.
"""

from __future__ import annotations

import doctest
import re
import shlex
import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from islet_imaging import Protocol
from islet_imaging.cli import app

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    str(p.relative_to(ROOT).as_posix())
    for p in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("models/*/README.md"))
    if "_build" not in p.parts
)
FENCE = re.compile(
    r"(?:^<!-- not run: (?P<why>[^>]+?) -->\n+)?"
    r"^(?P<indent> *)```(?P<kind>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```[ ]*$",
    re.MULTILINE | re.DOTALL,
)
KINDS = {"python", "pycon", "bash", "console", "yaml", "text"}

#: page -> blocks on it that are marked as not run
NOT_RUN = {
    "docs/cluster.md": 5,
    "CONTRIBUTING.md": 2,
    "README.md": 3,
    "docs/napari.md": 1,
    "docs/nuclei_network.md": 5,
    "docs/positivity_network.md": 3,
    "models/islet-nuclei/README.md": 1,
    "models/islet-positivity/README.md": 1,
}

#: page -> packages beyond the plain installation that its blocks use
NEEDS = {"docs/cookbook/run_tables.md": ("anndata", "seaborn")}


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, text and line; ``why`` says why it is not run."""

    kind: str
    text: str
    line: int
    why: str | None


def blocks(page: str) -> list[Block]:
    """The blocks of a page, directives of the site aside."""
    source = (ROOT / page).read_text("utf-8")
    found = []
    for match in FENCE.finditer(source):
        kind = match["kind"].strip()
        if not kind.startswith("{"):
            line = source[: match.start("text")].count("\n") + 1
            found.append(Block(kind, textwrap.dedent(match["text"]), line, match["why"]))
    return found


def shell_lines(text: str) -> Iterator[list[str]]:
    """The commands of a shell block, as words, without comments."""
    for line in text.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            while "&&" in words:
                yield words[: words.index("&&")]
                words = words[words.index("&&") + 1 :]
            yield words


def prepare(page: str, folder: Path, experiment: Path) -> None:
    """Lay out what the page's blocks find in their folder."""
    shutil.copytree(experiment / "stainings", folder / "stainings")
    shutil.copytree(experiment / "run", folder / "run")
    if page == "README.md":
        # it drafts its own, and is about less
        (folder / "stainings" / "samples.csv").unlink()
        shutil.rmtree(folder / "stainings" / "batch3")
        shutil.rmtree(folder / "run")
    else:
        shutil.copy(folder / "run" / "protocol.yaml", folder / "protocol.yaml")
    (folder / "demo").mkdir()
    shutil.copytree(experiment / "run", folder / "demo" / "run")


def check_options(words: list[str]) -> None:
    """Whether the command line takes these words, without running the verb."""
    assert words[0] == "islet-imaging"
    command = get_command(app)
    verb = command.commands[words[1]]  # type: ignore[attr-defined]
    verb.make_context(words[1], list(words[2:]))


def check_unrun(words: list[str]) -> None:
    """What can be checked of a command that is not run."""
    if words[0] == "islet-imaging":
        check_options(words)
    elif words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        assert set(words[1:]) <= set(targets)
    elif words[0] == "python" and words[1].endswith(".py"):
        assert (ROOT / words[1]).is_file(), f"there is no {words[1]}"


def run_shell(block: Block) -> None:
    for words in shell_lines(block.text):
        assert words[0] == "islet-imaging", f"{words}: not ours to run; mark the block"
        if words[1] == "review":  # opens a window
            check_options(words)
            continue
        done = CliRunner().invoke(app, words[1:], catch_exceptions=False)
        # images this small leave some share open: that is an answer, with a status of its own
        fine = (0, 3) if words[1] in ("score", "summarize") else (0,)
        assert done.exit_code in fine, f"{' '.join(words)}\n{done.output}"


def run_python(block: Block, page: str, namespace: dict[str, Any]) -> None:
    # empty lines in front make a traceback name the page's line
    code = compile("\n" * (block.line - 1) + block.text, page, "exec")
    exec(code, namespace)


def run_console(block: Block, page: str, namespace: dict[str, Any]) -> None:
    test = doctest.DocTestParser().get_doctest(block.text, {}, page, page, block.line)
    test.globs = namespace
    said: list[str] = []
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    doctest.DocTestRunner(optionflags=options).run(test, out=said.append, clear_globs=False)
    assert not said, "".join(said)


def read_yaml(block: Block) -> None:
    whole = {"channels": [{"name": "DAPI", "role": "dna"}, {"name": "INS"}]}
    Protocol.from_dict(whole | yaml.safe_load(block.text))


@pytest.mark.parametrize("page", [p for p in PAGES if any(b.why is None for b in blocks(p))])
def test_blocks_run(
    page: str, experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in NEEDS.get(page, ()):
        pytest.importorskip(package)
    if any(b.kind in ("python", "pycon", "bash") and b.why is None for b in blocks(page)):
        prepare(page, tmp_path, experiment)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page):
        if block.why is not None or block.kind == "text":
            continue
        if block.kind == "python":
            run_python(block, page, namespace)
        elif block.kind == "pycon":
            run_console(block, page, namespace)
        elif block.kind == "yaml":
            read_yaml(block)
        else:
            run_shell(block)


@pytest.mark.parametrize("page", PAGES)
def test_blocks_that_do_not_run_are_right_as_far_as_can_be_seen(page: str) -> None:
    found = blocks(page)
    for block in found:
        assert block.kind in KINDS, f"{page}:{block.line}: say what the block is: {sorted(KINDS)}"
        if block.why is not None and block.kind in ("bash", "console"):
            for words in shell_lines(block.text):
                check_unrun(words)
    assert sum(b.why is not None for b in found) == NOT_RUN.get(page, 0)


def test_a_wrong_block_fails(tmp_path: Path) -> None:
    with pytest.raises(NameError):
        run_python(Block("python", "nothing_of_this_name()", 1, None), "page", {})
    with pytest.raises(AssertionError):
        run_console(Block("pycon", ">>> 1 + 1\n3\n", 1, None), "page", {})
    with pytest.raises(AssertionError):
        run_shell(Block("bash", "islet-imaging inspect nowhere.tif\n", 1, None))
    with pytest.raises(Exception, match="No such option"):
        check_unrun(["islet-imaging", "train", "nuclei", "x.yaml", "--output", "here"])
    with pytest.raises(ValueError, match="chanels"):
        read_yaml(Block("yaml", "chanels: []\n", 1, None))
