"""Sphinx configuration: `make docs` builds the site, warnings are errors, nothing is downloaded.

The idea: the pages are plain Markdown that reads well in the repository too; the reference is made
from the docstrings of every package that says what is public.
It fails where a public name is missing from the reference, and where a link leads nowhere.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path
from types import FunctionType, ModuleType

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

import islet_imaging

ROOT = Path(__file__).resolve().parents[1]
REPOSITORY = "https://github.com/islet-imaging/islet-imaging"

project = "islet-imaging"
author = "islet-imaging developers"
project_copyright = "islet-imaging developers, BSD-3-Clause"
version = release = islet_imaging.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
myst_heading_anchors = 3

autosummary_generate = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
add_module_names = False
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

html_theme = "pydata_sphinx_theme"
html_title = "islet-imaging"
html_static_path: list[str] = []
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": f"islet-imaging {version}"},
    "icon_links": [{"name": "Code", "url": REPOSITORY, "icon": "fa-brands fa-github"}],
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
}


def packages() -> list[str]:
    """The library and every package in it that says by ``__all__`` what is public."""
    below = pkgutil.walk_packages(islet_imaging.__path__, "islet_imaging.")
    # the command line is described by its `--help`
    names = [m.name for m in below if m.ispkg and m.name != "islet_imaging.cli"]
    public = [name for name in names if hasattr(importlib.import_module(name), "__all__")]
    return ["islet_imaging", *public]


def public() -> dict[str, list[tuple[str, str]]]:
    """Per package its functions and classes, each as kind and full name.

    What two packages give has the name that it has in the first.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    names: dict[int, str] = {}
    for package in packages():
        module = importlib.import_module(package)
        found[package] = []
        for name in module.__all__:
            thing, full = getattr(module, name), f"{package}.{name}"
            if isinstance(thing, ModuleType):  # a package that is called like the function in it
                thing, full = getattr(thing, name), f"{full}.{name}"
            if not isinstance(thing, type | FunctionType):
                continue  # constants and types are described where they are used
            kind = "function" if isinstance(thing, FunctionType) else "class"
            found[package].append((kind, names.setdefault(id(thing), full)))
    return found


def write_reference(app: Sphinx) -> None:
    """Write one page per package into ``reference/``: an overview, then every docstring."""
    folder = Path(app.srcdir) / "reference"
    folder.mkdir(exist_ok=True)
    written: set[str] = set()
    for package, things in public().items():
        lines = [package, "=" * len(package), "", f".. automodule:: {package}", "   :no-members:"]
        lines += ["", ".. autosummary::", "   :nosignatures:", ""]
        lines += [f"   ~{full.removeprefix(f'{package}.')}" for _, full in things]
        for kind, full in things:
            if full in written:
                continue
            written.add(full)
            lines += ["", f".. auto{kind}:: {full}"]
            lines += ["   :members:"] if kind == "class" else []
        text = "\n".join(lines) + "\n"
        page = folder / f"{package}.rst"
        if not page.is_file() or page.read_text("utf-8") != text:
            page.write_text(text, "utf-8")


def link_to_repository(app: Sphinx, page: str, source: list[str]) -> None:
    """Let links out of this folder lead to the repository; a file that is not there is an error."""
    here = Path(app.srcdir) / page

    def link(match: re.Match[str]) -> str:
        target = (here.parent / match[1]).resolve()
        if target.is_relative_to(app.srcdir):
            return match[0]
        if not target.exists():
            raise ExtensionError(f"{page}: there is no {match[1]}")
        kind = "tree" if target.is_dir() else "blob"
        return f"]({REPOSITORY}/{kind}/main/{target.relative_to(ROOT).as_posix()})"

    source[0] = re.sub(r"\]\((\.\./[^)#]+)\)", link, source[0])


def check_reference(app: Sphinx, failure: Exception | None) -> None:
    """Fail where a public name has no entry in the reference."""
    if failure is not None or app.builder.name != "html":
        return
    described = {name for name, *_ in app.env.get_domain("py").get_objects()}
    wanted = {full for things in public().values() for _, full in things}
    if missing := sorted(wanted - described):
        raise ExtensionError(f"not in the reference: {', '.join(missing)}")


def setup(app: Sphinx) -> None:
    """Connect what the site needs beyond its extensions."""
    app.connect("builder-inited", write_reference)
    app.connect("source-read", link_to_repository)
    app.connect("build-finished", check_reference)
