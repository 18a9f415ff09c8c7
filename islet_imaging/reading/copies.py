"""What lies beside an image and is made of it: thumbnails, projections, overlays, masks.

The idea: programs and people name such files after the image, so a name that says so is left out
where the image itself lies in the same folder.  Whoever means the copy lists it in the sample
sheet.
Copies of the same pixels under any name are no matter of names: they are told by their pixels.
It fails on names that say nothing, such as ``islet1 new.tif``.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

_THUMB = re.compile(r"(?i)(?:^|[_\- .])thumb(?:nail|s)?(?=$|[_\- .]|[0-9A-F]{8}-)")
_THUMB_FOLDER = re.compile(r"(?i)^[._]?(?:thumb(?:nail)?s?|previews?)$")
_CALIBRATION = re.compile(
    r"(?i)^(?:DC_|SC_BP|SC_LP)|(?:^|[_\- .])(?:flat[_\- ]?field|dark[_\- ]?(?:field|frame)|"
    r"shading|calibration)(?=$|[_\- .\d])"
    r"|^(?:background|dark|bias|blank[_\- ]?field|illum(?:ination)?|ff|psf|beads?)(?=$|[_\- .])"
)
_ASIDE = re.compile(r"(?i)^(?:label|macro|overview|thumb(?:nail)?|preview)(?:[ _]?image)?$")
_TILE = re.compile(r"(?i)^(?P<a>.+?)[_\- ](?:tile|m|fov|field|pos|position)[_\- ]?\d{1,4}$")
_STITCHED = ("stitched", "fused", "mosaic", "montage", "stitch")
_RESULTS = re.compile(
    r"(?i)^(?:results?|analysis|outputs?|processed|segmentations?|masks?|labels?|overlays?|outlines|"
    r"predictions?|cellprofiler|cellpose|measurements?)(?:[_\- ]?(?:out(?:puts?)?|images?|\d+))?$"
)
_END = r"[_\- .]+"
_PROJECTION = (
    r"(?:max(?:imum)?|min|avg|mean|sum|std|med(?:ian)?)[_\- ]?(?:int(?:ensity)?[_\- ]?)?"
    r"(?:ip|proj(?:ection|ected)?)|(?:z|orthogonal|focus)[_\- ]?(?:max|proj(?:ection|ected)?)|"
    r"mip|max|proj(?:ection|ected)?|edf|extended depth of (?:field|focus)"
)
_OVERLAY = r"(?:overlay|merged?|merging|composite|rgb|scale[_\- ]?bar|annotated)"
_MASK = (
    r"(?:(?:cp|nuclei|cell|cells|islet|islets)[_\- ])?(?:masks?|labels?|outlines?|rois?)|seg|"
    r"segmentation|probabilities|simple segmentation|object predictions|predictions?"
)
_PROCESSED = (
    r"decon(?:v|volved|volution)?|deconvolved|airyscan(?: processing)?|denoised?|restored|"
    r"lightning|thunder|unmixed"
)
_SMALLER = r"preview|tn|small|low[_\- ]?res|overview|resized|8[_\- ]?bit|macro"


def _around(before: str, behind: str) -> re.Pattern[str]:
    """Words before or behind the name of what a file is made of."""
    return re.compile(rf"(?i)^(?:(?:{before})[_\- ](?P<a>.+)|(?P<b>.+?){_END}(?:{behind}))$")


_MADE = (
    ("a projection of", False,
     _around(rf"(?:MIN|AVG|SUM|STD|MED)|{_PROJECTION}", rf"SUM|AVG|{_PROJECTION}")),
    ("an overlay of the channels of", True, _around(_OVERLAY, _OVERLAY)),
    ("a mask or outline of", True, _around(r"masks?", _MASK)),
    ("a processed copy of", False, _around(r"deconvolved|decon", _PROCESSED)),
    ("a smaller picture of", False, _around(r"preview|overview", _SMALLER)),
)  # fmt: skip
#: of files that share a name, the first is the image
_RANK = (
    (".czi", ".lif", ".nd2"), (".zarr",), (".ome.tif", ".ome.tiff", ".ome.btf"),
    (".tif", ".tiff", ".btf", ".tf2", ".tf8"), (".png",), (".jpg", ".jpeg"),
)  # fmt: skip


def aside(scene: str) -> str:
    """Why one of several images of a file is none to score: a slide's label or overview; else "".

    Examples
    --------
    >>> aside("macro image"), aside("Series 1")
    ("the slide's label or overview, or a thumbnail", '')
    """
    return "the slide's label or overview, or a thumbnail" if _ASIDE.match(scene) else ""


def stem_of(path: Path) -> str:
    """A file's name without its endings, as files of one image share it.

    Examples
    --------
    >>> stem_of(Path("a/Islet 1.ome.tif")), stem_of(Path("b.tif"))
    ('islet 1', 'b')
    """
    name = path.name.casefold()
    for end in (".ome.tif", ".ome.tiff", ".ome.btf", ".ome.zarr"):
        if name.endswith(end):
            return name.removesuffix(end)
    return path.stem.casefold()


def made_of_others(paths: Sequence[Path]) -> dict[Path, str]:
    """Files that are no images of their own by their names, and why.

    Parameters
    ----------
    paths : sequence of Path
        The image files of a folder and its subfolders.

    Returns
    -------
    dict of Path to str

    Examples
    --------
    >>> made = made_of_others([Path("a.tif"), Path("MAX_a.tif"), Path("MAX_b.tif"), Path("a.jpg")])
    >>> {path.name: why for path, why in made.items()}
    {'MAX_a.tif': 'a projection of a.tif, which is here too', \
'a.jpg': 'the same image as a.tif by its name'}
    """
    stems: dict[Path, dict[str, list[Path]]] = {}
    for path in paths:
        stems.setdefault(path.parent, {}).setdefault(stem_of(path), []).append(path)
    listed = {parent: sorted(of) for parent, of in stems.items()}
    out: dict[Path, str] = {}
    for path in paths:
        stem = stem_of(path)
        if _THUMB.search(path.stem) or any(map(_THUMB_FOLDER.match, path.parent.parts[-1:])):
            out[path] = "a thumbnail"
        elif _CALIBRATION.search(path.stem):
            out[path] = "a calibration image by its name (flat field, dark field, shading)"
        elif source := _given_out(path, stem, stems):
            out[path] = f"made of {source} by the name of its folder"
        elif why := _made(stem, stems[path.parent], listed[path.parent]):
            out[path] = why
        else:
            same = min(stems[path.parent][stem], key=_rank)
            if _rank(same) < _rank(path):
                out[path] = f"the same image as {same.name} by its name"
    return out


def _made(stem: str, here: Mapping[str, Sequence[Path]], listed: Sequence[str]) -> str:
    """What a name says that its file is made of, where that is here; else nothing."""

    def shown(source: str) -> str:
        return here[source][0].name if source in here else source

    if tile := _TILE.match(stem):
        for word in _STITCHED:
            mosaic = f"{tile['a']}_{word}"
            if mosaic in here:
                return f"a tile of {shown(mosaic)}, which is here too"
    for what, of_a_set, pattern in _MADE:
        found = pattern.match(stem)
        source = (found["a"] or found["b"]) if found else ""
        if (
            source
            and source != stem
            and (source in here or (of_a_set and _begins(listed, source, stem)))
        ):
            return f"{what} {shown(source)}, which is here too"
    return ""


def _given_out(path: Path, stem: str, stems: Mapping[Path, Mapping[str, Sequence[Path]]]) -> str:
    """The image beside a folder of results that a file in that folder is called after; else ""."""
    above = stems.get(path.parent.parent, {})
    if not above or not _RESULTS.match(path.parent.name):
        return ""
    source = next((s for s in above if stem == s or re.match(rf"{re.escape(s)}[_\- .]", stem)), "")
    return above[source][0].name if source else ""


def _rank(path: Path) -> int:
    name = path.name.casefold()
    for n, ends in enumerate(_RANK):
        if name.endswith(ends):
            return n
    return 3


def _begins(stems: Sequence[str], head: str, own: str) -> bool:
    """Whether another stem is ``head`` or goes on from it after a separator."""
    at = bisect_left(stems, head)
    while at < len(stems) and stems[at].startswith(head):
        rest = stems[at][len(head) :]
        if stems[at] != own and (not rest or rest[0] in "_- ."):
            return True
        at += 1
    return False


def made_of_sets(groups: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Images of several files that are made of other such images, and why.

    Parameters
    ----------
    groups : mapping of str to sequence of str
        Names of images, and the paths of their files in the folder.

    Yields
    ------
    tuple of str
        Name of an image that is none of its own, and the reason.

    Examples
    --------
    >>> list(made_of_sets({"d/MAX_a": ["d/MAX_a_ch0.tif"], "d/a": ["d/a_z0_ch0.tif"]}))
    [('d/MAX_a', 'a projection of d/a, which is here too')]
    """
    folded = {name.casefold(): name for name in groups}
    for name, files in groups.items():
        path = PurePosixPath(name)
        inside = re.match(r"(?:(.*)/)?ZStep_\d+/([^/]+)$", name)
        above = f"{inside[1]}/{inside[2]}" if inside and inside[1] else inside and inside[2]
        if above and above in groups and all("ZStep_" in f for f in files):
            yield name, f"a focal plane of {above}, whose projection is here too"
            continue
        found = _MADE[0][2].match(path.name)
        source = (found["a"] or found["b"]) if found else ""
        of = folded.get(str(path.with_name(source)).casefold()) if source else None
        if of is not None and of != name:
            yield name, f"{_MADE[0][0]} {of}, which is here too"
