"""The methods paragraph and the checklist: what a paper must say of this analysis.

The idea: what the protocol, the tables and the provenance know is written out in full, and what
only the laboratory knows stays as a blank that cannot be overlooked: ``[state: ...]``.  The
checklist follows the levels of Schmied et al., Nat Methods 21:170 (2024), and what reviewers of
stem-cell islet work ask for; it is not a copy of theirs.
It fails where the protocol is silent about something that was done by hand outside this program.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from islet_imaging import terms
from islet_imaging.quality import excludes_pyknotic
from islet_imaging.report.data import ReportData
from islet_imaging.report.validated import error_rates_line
from islet_imaging.report.words import clean, count, missing, number, plural

#: what each way of finding a cut is called in a paper
METHODS = {
    "levels": "the levels of negative and positive cells, the negative from controls where there "
    "were any",
    "control": "a high quantile of the same feature in negative controls",
    "control_mixture": "a mixture model whose negative component was fixed by negative controls",
    "mixture": "a two-component mixture model",
    "otsu": "Otsu's method",
    "manual": "hand",
    "network": "the levels of negative and positive cells, the negative from controls where there "
    "were any; each call joins the level with what a trained network sees in the cell's picture",
    "auto": "the best method that the controls allowed",
}


def blank(what: str) -> str:
    """A place for the author to fill.

    Examples
    --------
    >>> blank("antibody, clone")
    '[state: antibody, clone]'
    """
    return f"[state: {what}]"


def version_of(provenance: Mapping[str, Any]) -> str:
    """Version of this program that made the run, "" where it is not recorded."""
    return clean(provenance.get("islet_imaging") or provenance.get("version"))


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _staining(data: ReportData) -> str:
    stains = [
        f"{clean(c.name)} ({clean(c.stain) or blank('antibody, clone, RRID, dilution, dye')})"
        for c in data.protocol.channels
        if c.role == "marker"
    ]
    dna = data.protocol.channel(data.protocol.dna)
    dye = clean(dna.stain) or (dna.name if dna.name != "DNA" else blank("DNA dye"))
    marked = f"stained for {_listed(stains)}" if stains else "stained"
    return f"Stem-cell-derived islets were {marked}; nuclei were stained with {dye}."


def _imaging(data: ReportData) -> str:
    a = data.protocol.acquisition
    modality = _modality(data) or blank("modality")
    objective = clean(a.objective) or blank("objective, numerical aperture")
    kind = data.protocol.islets.preparation
    if kind == "section":
        cut = _section(data) or blank("section thickness")
        specimen = f"Sections of {cut} were"
    else:
        specimen = {"whole": "Whole aggregates were", "monolayer": "Monolayers were"}[kind]
    size = _pixel_sizes(data)
    planes = {
        "none": "single planes",
        "max": "maximum projections of z-stacks",
        "mean": "mean projections of z-stacks",
        "plane": f"plane {data.protocol.reading.plane} of z-stacks",
    }[data.protocol.reading.projection]
    return (
        f"{specimen} imaged with {modality} microscopy ({objective}; {blank('microscope, camera')}"
        f"), pixel size {size}; {planes} were analysed. "
        f"{blank('same exposure for samples and controls: yes or no')}."
    )


def _pixel_sizes(data: ReportData) -> str:
    if data.protocol.reading.pixel_size_um is not None:
        return f"{data.protocol.reading.pixel_size_um:g} um"
    sizes = sorted({round(float(v), 4) for v in data.pixel_sizes_um})
    if not sizes:
        return blank("pixel size")
    return f"{sizes[0]:g} um" if len(sizes) == 1 else f"{sizes[0]:g} to {sizes[-1]:g} um"


def _section(data: ReportData) -> str:
    """Thickness of the sections, from the protocol or the sample sheet; "" where nobody says."""
    if data.protocol.acquisition.section_um is not None:
        return f"{data.protocol.acquisition.section_um:g} um"
    stated = _stated(data, "section_um")
    return f"{' and '.join(stated)} um" if stated else ""


def _modality(data: ReportData) -> str:
    """The kind of microscopy, from the protocol or the sample sheet; "" where nobody says."""
    if data.protocol.acquisition.modality != "unknown":
        return data.protocol.acquisition.modality.replace("_", " ")
    return " and ".join(_stated(data, "modality")).replace("_", " ")


def _stated(data: ReportData, column: str) -> list[str]:
    """What the sample sheet says of the scored images in a column, each value once."""
    if column not in data.images:
        return []
    scored = data.images
    if "status" in scored:
        scored = scored[scored["status"].astype(str) == "scored"]
    return [v for v in dict.fromkeys(clean(v).strip() for v in scored[column]) if v]


def _lengths(data: ReportData) -> dict[str, str]:
    """Lengths and areas that were used; a range where they followed each image's own nuclei."""
    from islet_imaging.protocol import USUAL_NUCLEUS_UM

    p = data.protocol
    nucleus = p.nuclei.diameter_um or USUAL_NUCLEUS_UM
    low, high = p.nuclei.areas_um2(nucleus)
    usual = {
        "ring_um": p.cells.ring_of(nucleus),
        "max_gap_um": p.islets.gap_of(nucleus),
        "min_area_um2": low,
        "max_area_um2": high,
    }
    kept = [row.get("scale") for row in data.provenance.get("images", [])]
    used = [scale for scale in kept if scale] or [usual]
    found = {}
    for name in usual:
        values = sorted({round(float(scale[name]), 3) for scale in used})
        found[name] = f"{values[0]:.3g}"
        if values[-1] != values[0]:
            found[name] += f" to {values[-1]:.3g}"
    return found


def _segmentation(data: ReportData) -> str:
    p = data.protocol
    how = (
        f"the network {clean(p.nuclei.model)}"
        if p.nuclei.method == "network"
        else "thresholding and watershed"
    )
    lengths = _lengths(data)
    rows = [r for r in data.provenance.get("images", []) if r.get("status") == "scored"]
    own = {what: sum(what in r.get("given", {}) for r in rows) for what in ("nuclei", "cells")}
    found = (
        f"Nuclei were segmented in the {p.dna} channel by {how}; objects under "
        f"{lengths['min_area_um2']} or over {lengths['max_area_um2']} um2 were dropped."
    )
    given = "Nuclei were segmented with another program and taken from its label images"
    if own["nuclei"] and own["nuclei"] == len(rows):
        text = f"{given}; none was dropped for its size."
    elif own["nuclei"]:
        text = f"{given} for {own['nuclei']} of {len(rows)} images. In the others: {found}"
    else:
        text = found
    text += (
        f" The cytoplasm of a cell was taken as the ring of up to {lengths['ring_um']} um around "
        "its nucleus, ending halfway to the neighbouring nucleus."
    )
    if own["cells"]:
        text += (
            f" In {plural(own['cells'], 'image')} whole cells were outlined with another program, "
            "and the cytoplasm is the cell without its nucleus."
        )
    if p.islets.method == "islets":
        text += (
            f" Nuclei less than {lengths['max_gap_um']} um apart formed an islet if there were at "
            f"least {p.islets.min_cells} of them."
        )
    drawn = sum(bool(r.get("regions")) for r in rows)
    if drawn:
        text += (
            f" In {plural(drawn, 'image')} it was drawn by hand what is islet and what is left "
            "out; nuclei outside of drawn islets count apart."
        )
    done = []
    c = p.correction
    if c.offset != "off":
        done.append("camera offset")
    if c.flat_field != "off":
        done.append("uneven illumination")
    if c.background != "off":
        done.append(f"local background ({c.background_um:g} um)")
    if c.bleed_through != "off" or c.bleed_matrix:
        done.append("bleed-through between channels")
    if done:
        text += f" Images were first corrected for {_listed(done)}."
    return text


def _calling(data: ReportData) -> str:
    p = data.protocol
    parts = []
    for marker in p.markers:
        calling = p.calling(marker)
        own = [t for t in data.thresholds if t.get("marker") == marker]
        used = sorted({str(t.get("method")) for t in own}) or [calling.method]
        how = _listed([METHODS.get(m, m) for m in used])
        cuts = [
            f"{number(t['value'])} in {clean(t.get('batch')) or 'the run'}"
            for t in own
            if not missing(t.get("value"))
        ]
        if "control" in used:
            how += f" (quantile {calling.quantile:g})"
        where = f" ({'; '.join(cuts)})" if cuts else ""
        text = (
            f"A cell was called {clean(marker)}-positive by {terms.column(p.feature(marker), p)} "
            f"({p.feature(marker)}), with a "
            f"threshold set by {how}, separately for each staining run{where}."
        )
        refused = sum(1 for t in own if missing(t.get("value")))
        if refused:
            text += f" In {plural(refused, 'run')} no threshold could be estimated."
            if p.method(marker) == "network":
                text += " There each picture alone decided."
        if p.method(marker) == "network":
            text += f" The network was {clean(calling.model)}."
        if calling.spillover:
            text += " Light of neighbouring cells was estimated from distances and removed."
        text += (
            f" Cells with a probability between {calling.unsure_low:g} and "
            f"{calling.unsure_high:g} were called unsure and counted by their probability."
        )
        parts.append(text)
    return " ".join(parts)


def _exclusion(data: ReportData) -> str:
    rules = []
    if data.protocol.nuclei.exclude_border:
        rules.append("cut by the image border")
    if excludes_pyknotic(data.protocol):
        rules.append("pyknotic (small and condensed against the image's nuclei)")
    cells = data.cells
    out = int(cells["excluded"].astype(bool).sum()) if "excluded" in cells else 0
    text = (
        f"Nuclei that were {' or '.join(rules)} were not counted "
        f"({count(out)} of {count(len(cells))})."
        if rules
        else "No nuclei were excluded."
    )
    made = data.corrections.get("cells")
    if made:
        text += f" {plural(made, 'cell')} {'was' if made == 1 else 'were'} corrected by hand."
    failed = int((data.images["status"] == "failed").sum()) if "status" in data.images else 0
    if failed:
        text += f" {plural(failed, 'image')} could not be scored."
    return text


def _denominator(data: ReportData) -> str:
    d = data.protocol.statistics.denominator
    return {"all": "all counted nuclei", "islets": "all counted nuclei inside islets"}.get(
        d, f"{d}-positive cells"
    )


def _compared(data: ReportData) -> str:
    """Tests, pairing, correction for several of them; "" where nothing was compared."""
    rows = data.comparisons
    if rows is None or rows.empty or not rows["effect_pp"].notna().any():
        return ""
    tested = rows[rows["p"].notna()]
    if tested.empty:
        return "Differences are given without a test, for want of batches. "
    designs = list(dict.fromkeys(clean(d) for d in tested["design"]))
    text = ""
    plain = [d for d in designs if not d.startswith("trend")]
    if plain:
        text += (
            f"Conditions were compared by the difference of their mean fractions ({_listed(plain)}"
            "), with an interval from the limits of both means (MOVER; Zou and Donner, 2008), "
        )
        text += (
            "at least as wide as that of the t test of paired data where batches were shared, "
            if any("paired" in d and d != "unpaired" for d in plain)
            else ""
        )
        text += "and the p value at which it meets 0, two-sided. "
        exact = list(tested.loc[tested["p_exact"].notna(), "design"]) if "p_exact" in tested else []
        kinds = {"sign-flip" if str(d).startswith("paired") else "permutation" for d in exact}
        if kinds:
            text += f"An exact {' or '.join(sorted(kinds))} test is given beside. "
    if len(plain) < len(designs):
        text += (
            f"A trend over {clean(data.protocol.statistics.trend)} was tested by the slopes of "
            "batches (t test), or by a line through batches of one value each (HC3 standard "
            "errors). "
        )
    if len(tested) > 1:
        text += f"p values were corrected for {len(tested)} tests after Holm (1979). "
    margin = data.protocol.statistics.equivalence_pp
    if margin is not None and "p_equivalence" in tested and tested["p_equivalence"].notna().any():
        text += f"Equivalence within {margin:g} points was tested by two one-sided tests. "
    if "effect_corrected_pp" in tested and tested["effect_corrected_pp"].notna().any():
        text += "Differences corrected for wrong calls were divided by Se + Sp - 1. "
    return text


def _statistics(data: ReportData) -> str:
    level = f"{100 * data.protocol.statistics.level:g} %"
    text = f"Fractions are of {_denominator(data)}. "
    most = 0 if data.levels is None or data.levels.empty else int(data.levels["n_batches"].max())
    if most > 1:
        unit = data.protocol.statistics.unit
        text += (
            "The unit of replication was the differentiation batch"
            f"{'' if unit == 'batch' else f' (in comparisons, the {clean(unit)})'}; a condition's "
            "fraction is the plain mean of its batch fractions. "
            f"{level} confidence intervals are over batches, from a beta-binomial model of their "
            "counts averaged over the intraclass correlations they may have. "
        )
        text += _compared(data)
    else:
        text += (
            f"{level} intervals are over islets and speak of this material only, since "
            f"{'one batch was' if most else 'batches were not'} stated (jackknife standard error "
            "of the logit, t with Kish's effective number of islets less 1). "
        )
    rates = error_rates_line(data)
    if rates:
        text += (
            f"Error rates of the calls were estimated from cells drawn at random from strata of "
            f"probability and labelled by {blank('who, how many people, blind to the calls')} "
            f"({rates}); fractions corrected by them (Rogan and Gladen, 1978) are given beside the "
            "raw ones. "
        )
    return text + "No test or interval treats cells as independent."


def methods_paragraph(data: ReportData) -> str:
    """The methods text, with blanks for what only the laboratory knows.

    Parameters
    ----------
    data : ReportData
        The run.

    Returns
    -------
    str
        Plain text (not escaped).
    """
    program = f"islet-imaging {version_of(data.provenance)}".strip()
    return " ".join(
        (
            _staining(data),
            _imaging(data),
            f"Images were analysed with {program} (protocol "
            f"{data.protocol.fingerprint()[:12]}; parameters are in the protocol.yaml that is "
            f"deposited with the data at {blank('repository, accession')}).",
            _segmentation(data),
            _calling(data),
            _exclusion(data),
            _statistics(data),
        )
    )


@dataclass(frozen=True)
class Item:
    """One line of the checklist."""

    level: str
    question: str
    answer: str

    @property
    def open(self) -> bool:
        """Whether the author still has to fill something in."""
        return "[state:" in self.answer


def _sum(data: ReportData, column: str) -> str:
    if data.levels is None or column not in data.levels:
        return "not recorded"
    return "; ".join(
        f"{clean(r['condition']) or 'all samples'}: {number(r[column])}"
        for r in data.levels.to_dict("records")
    )


def checklist(data: ReportData) -> list[Item]:
    """What guidelines and reviewers ask, with the answers that are known.

    Parameters
    ----------
    data : ReportData
        The run.

    Returns
    -------
    list of Item
        Levels ``minimal``, ``recommended``, ``ideal``.
    """
    p, provenance = data.protocol, data.provenance
    images = data.images
    roles = images["role"].astype(str) if "role" in images else None
    controls = 0 if roles is None else int(roles.str.startswith("negative_control").sum())
    status = images["status"].astype(str) if "status" in images else None
    failed = 0 if status is None else int((status == "failed").sum())
    a = p.acquisition
    thresholds = "; ".join(
        f"{clean(t.get('marker'))}, {clean(t.get('batch')) or 'run'}: "
        + (number(t.get("value")) if not missing(t.get("value")) else "not estimable")
        + (" (fragile)" if t.get("fragile") else "")
        for t in data.thresholds
    )
    stains = "; ".join(
        f"{clean(c.name)}: {clean(c.stain) or blank('antibody, clone, RRID, dilution')}"
        for c in p.channels
        if c.role != "ignore"
    )
    known: list[tuple[str, str, Any]] = [
        (
            "minimal",
            "Program and version",
            f"islet-imaging {version_of(provenance) or blank('version')}",
        ),
        ("minimal", "Parameters", f"protocol.yaml, fingerprint {p.fingerprint()[:16]}"),
        ("minimal", "Stains", stains),
        ("minimal", "Pixel size", _pixel_sizes(data)),
        (
            "minimal",
            "Section thickness and modality",
            f"{_section(data) or blank('thickness')}, {_modality(data) or blank('modality')}",
        ),
        (
            "minimal",
            "Objective and numerical aperture",
            clean(a.objective) or blank("objective, NA"),
        ),
        ("minimal", "Same exposure for samples and controls", blank("yes or no, how ensured")),
        ("minimal", "Unit of replication", f"batches; {_sum(data, 'n_batches')}"),
        ("minimal", "Islets", _sum(data, "n_islets")),
        ("minimal", "Cells counted", _sum(data, "n_cells")),
        ("minimal", "Denominator", _denominator(data)),
        ("minimal", "Rule of the threshold", thresholds or "none was fitted"),
        (
            "minimal",
            "Negative controls",
            plural(controls, "image") if controls else blank("which negative control, or none"),
        ),
        ("minimal", "Exclusions", _exclusion(data)),
        (
            "minimal",
            "Images that could not be scored",
            plural(failed, "image") if failed else "none",
        ),
        ("recommended", "Who chose fields and how", blank("systematic, random or by eye")),
        ("recommended", "Blinding of scorer", blank("who was blind to what")),
        (
            "recommended",
            "Exclusion rules fixed before the analysis",
            blank("yes or no, where written down"),
        ),
        (
            "recommended",
            "Agreement with manual counts on other images",
            blank("raters, islets, agreement"),
        ),
        (
            "recommended",
            "Error rates of the calls on cells picked by chance",
            error_rates_line(data) or blank("sensitivity, specificity, labelled cells, or none"),
        ),
        ("recommended", "Exact inputs", _inputs(provenance)),
        ("ideal", "Raw images and tables deposited", blank("repository, accession")),
        (
            "ideal",
            "Run repeatable from its own folder",
            "yes: `islet-imaging score` with its protocol.yaml",
        ),
    ]
    return [Item(level, question, str(answer)) for level, question, answer in known]


def _inputs(provenance: Mapping[str, Any]) -> str:
    inputs = provenance.get("inputs")
    if isinstance(inputs, Mapping) and inputs:
        return f"SHA-256 of {plural(len(inputs), 'file')} in provenance.json"
    return "provenance.json"
