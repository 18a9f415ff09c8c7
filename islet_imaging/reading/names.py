"""Words in file and channel names: which token is the channel, which stain is it.

The idea: one file per channel is recognised by file names that differ in one token that looks
like a channel (``d0``, ``_C1``, ``_ch00``, ``_w1DAPI``, ``_DAPI``).  Roles are guessed from the
names of stains for drafts only; scoring uses what the protocol says.
It fails when a name has no such token: the file then is an image of its own.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Literal

#: words of a channel's name that mean DNA
DNA_WORDS = (
    "dapi", "hoechst", "dna", "draq5", "draq7", "topro", "to-pro-3", "sytox", "nuclei", "nucleus",
    "nuclear", "h33342", "h33258", "propidium", "nucblue", "nucspot", "dsdna", "dna1", "dna2",
    "iridium", "kern", "kerne", "kernen", "zellkern", "zellkerne", "noyau", "noyaux", "nucleo",
    "nucleos",
)  # fmt: skip
#: stain -> the spellings it goes by, compared without case, blanks, dots and hyphens
CYTOPLASM = {
    "INS": ("ins", "insulin", "proinsulin", "insulina", "insuline"),
    "CPEP": ("cpep", "cpeptide", "cpeptid", "peptidec", "peptidoc"),
    "GCG": ("gcg", "glucagon", "gluc", "glukagon", "glucagone"),
    "SST": ("sst", "somatostatin", "som", "somatostatina", "somatostatine"),
    "CHGA": ("chga", "chromogranin", "chromogranina"),
    "PPY": ("ppy", "pp", "pancreaticpolypeptide"),
    "GHRL": ("ghrl", "ghrelin"),
    "SLC18A1": ("slc18a1", "vmat1", "5ht", "serotonin", "tph1"),
}
NUCLEUS = {
    "NKX6.1": ("nkx61",), "NKX2.2": ("nkx22",), "PDX1": ("pdx1",), "Ki67": ("ki67", "mki67"),
    "SOX10": ("sox10",), "SOX9": ("sox9",), "SOX17": ("sox17",), "SOX2": ("sox2",),
    "H3": ("h3", "ph3", "phh3", "phosphohistone", "phosphohistoneh3", "h3p"), "ISL1": ("isl1",),
    "MAFA": ("mafa",), "MAFB": ("mafb",), "NEUROG3": ("neurog3", "ngn3"),
    "OCT4": ("oct4", "pou5f1"),
    "FOXA2": ("foxa2",), "GATA4": ("gata4",), "GATA6": ("gata6",), "ARX": ("arx",),
    "PAX6": ("pax6",), "PAX4": ("pax4",), "HNF1B": ("hnf1b",), "HNF4A": ("hnf4a",),
    "EdU": ("edu",), "CASP3": ("casp3", "caspase3", "clcasp3", "cc3"), "TUNEL": ("tunel",),
    "FOXP3": ("foxp3",), "BCL6": ("bcl6",), "PCNA": ("pcna",),
}  # fmt: skip
MEMBRANE = {
    "CD49a": ("cd49a", "itga1", "integrinalpha1"), "CD49f": ("cd49f", "itga6"),
    "E-cadherin": ("ecadherin", "ecad", "cdh1"), "N-cadherin": ("ncadherin", "ncad", "cdh2"),
    "EPCAM": ("epcam", "cd326"), "CD9": ("cd9",), "CD24": ("cd24",), "CD44": ("cd44",),
    "CD99": ("cd99",), "CD200": ("cd200",), "CXCR4": ("cxcr4", "cd184"), "GP2": ("gp2",),
    "CD3": ("cd3", "cd3e"), "CD4": ("cd4",), "CD8": ("cd8", "cd8a"), "CD20": ("cd20", "ms4a1"),
    "CD31": ("cd31", "pecam1", "pecam"), "CD45": ("cd45", "ptprc"), "HLA-A": ("hlaa", "hlaabc"),
    "GLUT1": ("glut1", "slc2a1"), "GLUT2": ("glut2", "slc2a2"), "NCAM": ("ncam", "ncam1", "cd56"),
}  # fmt: skip
#: markers of dividing or dying cells, whose condensed nuclei must be counted
CONDENSED = frozenset({"Ki67", "H3", "EdU", "PCNA", "CASP3", "TUNEL"})
_TRANSMITTED = (
    "tl", "bf", "brightfield", "transmitted", "trans", "transmission", "dic", "phase",
    "phasecontrast", "tpmt", "pmttrans", "esid", "hellfeld", "phasenkontrast",
)  # fmt: skip
#: an antibody against the receptor of a hormone does not stain the hormone
_RECEPTOR = frozenset({"receptor", "rezeptor", "recepteur", "recettore"})

#: a channel's token right before the extension; the first that matches wins
_TOKENS = (
    re.compile(r"^(?P<head>.+?)(?P<token>[ _\-.]w\d(?:[A-Za-z][\w.\-]*)?)$"),
    re.compile(r"^(?P<head>.+?)(?P<token>[ _\-.]?(?:ch|CH|Ch|channel|Channel)[ _\-]?\d{1,2})$"),
    re.compile(r"^(?P<head>.+?)(?P<token>[ _\-.](?:[Cc][ =]?\d{1,2}|d\d))$"),
    re.compile(r"^(?P<head>.+\d)(?P<token>[dC]\d)$"),
)
_LEADING = re.compile(r"^(?P<token>[Cc]\d{1,2}-)(?P<head>.+)$")  # ImageJ's Split Channels: C1-title
_WORD = re.compile(r"^(?P<head>.+)(?P<token>[ _\-][A-Za-z][A-Za-z0-9.\-+]*)$")


def squash(name: str) -> str:
    """A name without case, accents, blanks, dots, hyphens and underscores."""
    return re.sub(r"[\s._\-/+()]", "", plain(name))


def plain(text: str) -> str:
    """Text without case and accents.

    Examples
    --------
    >>> plain("Contrôle NÉGATIF")
    'controle negatif'
    """
    parts = unicodedata.normalize("NFKD", text.casefold())
    return unicodedata.normalize("NFC", "".join(c for c in parts if not unicodedata.combining(c)))


def words(name: str) -> list[str]:
    """The words of a name, squashed, with the joined neighbours ("c-peptide", "nkx6.1") too."""
    parts = [p for p in re.split(r"[\s_\-./+(),;:|\[\]]+", plain(name)) if p]
    joined = ["".join(parts[i : i + 2]) for i in range(len(parts) - 1)]
    return [*parts, *joined, "".join(parts)]


def known_stain(name: str) -> tuple[str, Literal["dna", "marker", "ignore"], str] | None:
    """Recognise a stain in a channel's name.

    Returns
    -------
    tuple or None
        Short name, role and compartment; None for a word that is not known.

    Examples
    --------
    >>> known_stain("w1DAPI")
    ('DAPI', 'dna', 'nucleus')
    >>> known_stain("Anti-Insulin AF488"), known_stain("ITGA1")
    (('INS', 'marker', 'cytoplasm'), ('CD49a', 'marker', 'membrane'))
    """
    found = words(re.sub(r"^(?:w|ch|c)\d{1,2}(?=[A-Za-z])", "", name.strip(" _-."), flags=re.I))
    for word in found:
        for dna in DNA_WORDS:
            if word == squash(dna) or (word.startswith(dna) and dna in ("dapi", "hoechst")):
                short = {"dapi": "DAPI", "hoechst": "Hoechst"}.get(dna, "DNA")
                return short, "dna", "nucleus"
    if _RECEPTOR & set(found):
        return None
    tables = ((CYTOPLASM, "cytoplasm"), (NUCLEUS, "nucleus"), (MEMBRANE, "membrane"))
    for table, compartment in tables:
        for short, spellings in table.items():
            if any(w in spellings for w in found):
                return short, "marker", compartment
    if any(w in _TRANSMITTED for w in found):
        return "TL", "ignore", "cytoplasm"
    return None


#: dyes, lamps and filters that stand in for a channel's name
_DYES = re.compile(
    r"^(?:alexa(?:fluor)?|af|atto|cf|dylight|opal|hoechst|cy|iflour|ifluor)[\s_\-]?\d{1,3}$"
    r"|^(?:fitc|tritc|rhodamine|txred|texasred|cy\d(?:\.5)?|[efr]?[gryc]fp|bfp|mcherry|tdtomato|"
    r"mkate|apc|pe|pacificblue|uv|cfp|red|green|blue|farred|phase|brightfield)$"
    r"|^(?:355|365|375|385|395|405|475|488|514|532|545|546|555|561|568|594|633|635|640|647|660)"
    r"(?:nm)?$",
    re.IGNORECASE,
)


def known_dye(word: str) -> bool:
    """Whether a word is a dye, a laser line or a filter set.

    Examples
    --------
    >>> [known_dye(w) for w in ("AF488", "Cy5", "647", "C1", "day 14")]
    [True, True, True, False, False]
    """
    return _DYES.match(word.strip(" _-.").replace(" ", "")) is not None


def are_stains(labels: Sequence[str]) -> bool:
    """Whether labels are names of different stains or dyes rather than of focal planes.

    Examples
    --------
    >>> are_stains(["DAPI", "INS", "GCG"]), are_stains(["DAPI z1", "DAPI z2"])
    (True, False)
    """
    stains = [known_stain(w) for w in labels]
    said = [s[0] if s else w.casefold() for s, w in zip(stains, labels, strict=True)]
    known = sum(s is not None or known_dye(w) for s, w in zip(stains, labels, strict=True))
    return len(set(said)) == len(said) > 1 and known >= max(2, (len(said) + 1) // 2)


def split_token(stem: str, others: Sequence[str] = ()) -> tuple[str, str] | None:
    """Split a file's stem into the image's name and the channel's token.

    Parameters
    ----------
    stem : str
        File name without extension.
    others : sequence of str
        Stems beside it.  A plain word (``_DAPI``) counts as a channel only if it is a known stain
        or stands after the same head in another file together with one.

    Returns
    -------
    tuple of str or None
        Head and token, the token without its separators; None where there is no token.

    Examples
    --------
    >>> split_token("AS_09125_D03f00d0")
    ('AS_09125_D03f00', 'd0')
    >>> split_token("islet7_DAPI")
    ('islet7', 'DAPI')
    >>> split_token("islet7") is None
    True
    """
    for pattern in (*_TOKENS, _LEADING):
        found = pattern.match(stem)
        if found:
            return found["head"].rstrip(" _-."), found["token"].strip(" _-.")
    found = _WORD.match(stem)
    if found is None:
        return None
    head, token = found["head"], found["token"].strip(" _-.")
    if known_stain(token) is not None:
        return head.rstrip(" _-."), token
    for other in others:
        beside = _WORD.match(other)
        if beside and beside["head"] == head and other != stem and known_stain(beside["token"]):
            return head.rstrip(" _-."), token
    return None


def marks_condensed(names: Iterable[str]) -> bool:
    """Whether any channel's name is a known marker of dividing or dying cells.

    Examples
    --------
    >>> marks_condensed(["DAPI", "pHH3"]), marks_condensed(["DAPI", "INS"])
    (True, False)
    """
    return any((known := known_stain(name)) is not None and known[0] in CONDENSED for name in names)
