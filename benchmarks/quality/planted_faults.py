"""Which planted faults are caught, and how often clean images raise an alarm.

Run: python benchmarks/quality/planted_faults.py --out benchmarks/quality

Clean images are phantoms of five presets (all but ``abused_8bit``, which is faulty by design),
stored with 16 bits so that nothing clips.  Each goes through the same path as a scored image, with
classical nuclei.  A false alarm is any flag of severity warning or block.  Every fault is planted
in clean images of seeds not used in development, and counts as caught where its flag is raised.
Writes ``planted_faults.csv``, ``false_alarms.csv`` and ``speed.csv``.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from faults import IMAGE_FAULTS, RENDERED_FAULTS, Stack, blur, brighter, shaded

from islet_imaging.image import IsletImage
from islet_imaging.phantom import phantom
from islet_imaging.protocol import Acquisition, Channel, Islets, Nuclei, Protocol
from islet_imaging.quality import Flag, check_folder, check_image, measure_quality

if TYPE_CHECKING:
    from islet_imaging.scoring.measured import MeasuredImage

PRESETS = ("easy_confocal", "ffpe20x", "cryo10um_widefield", "wholemount", "hcs0.65")
CHANNELS = ("DAPI", "INS", "GCG")


def protocol(**acquisition: Any) -> Protocol:
    return Protocol(
        channels=(Channel("DAPI", "dna"), Channel("INS"), Channel("GCG")),
        nuclei=Nuclei(method="classical"),
        islets=Islets(method="field"),
        acquisition=Acquisition(**acquisition),
    )


def render(job: tuple[str, int, dict[str, Any]]) -> dict[str, Any]:
    preset, seed, changes = job
    # fields of at least 190 um, so that there are cells to judge
    edge = 960 if preset == "easy_confocal" else 640
    made = phantom(
        preset,
        seed=seed,
        **{"shape": (edge, edge), "bits": 16, "plane_um": 2.0, "measure_light": False, **changes},
    )
    stack = {c: np.asarray(made.image.channel(c)) for c in CHANNELS}
    return {"preset": preset, "seed": seed, "stack": stack, "um": made.image.pixel_size_um}


def flags_of(stack: Stack, um: float) -> list[Flag]:
    """The flags that scoring this image would raise, cells included."""
    return list(measured(stack, um).flags)


def measured(stack: Stack, um: float) -> MeasuredImage:
    """The image as a run would measure it."""
    from islet_imaging.scoring.image import measure_image

    first = next(iter(stack.values()))
    planes = np.stack([np.asarray(p, dtype=first.dtype) for p in stack.values()])
    return measure_image(IsletImage.from_array(planes, list(stack), um), protocol())


def nuclei_of(found: MeasuredImage) -> dict[str, np.ndarray]:
    """What a run hands to the checks of a folder."""
    cells = found.cells
    area = cells["nucleus_area_um2"]
    whole = ~cells["touches_border"].astype(bool) & (area > 0.6 * area.median())
    light = (cells["dna_integrated"] / area).where(whole)
    return {k: np.asarray(v, float) for k, v in
            (("y_um", cells["y_um"]), ("x_um", cells["x_um"]), ("light", light))}  # fmt: skip


def quick(stack: Stack, um: float, *, metadata: dict[str, Any] | None = None) -> list[Flag]:
    """The flags that need no cells."""
    return check_image(stack, protocol=protocol(), metadata=metadata or {}, pixel_size_um=um)


def plant_in_image(job: tuple[dict[str, Any], int]) -> list[tuple[str, str, bool]]:
    base, seed = job
    rng = np.random.default_rng(seed)
    out = []
    for name, code, function, cells in IMAGE_FAULTS:
        stack = function(base["stack"], base["um"], rng)
        found = (flags_of if cells else quick)(stack, base["um"])
        raised = {f.code for f in found if f.severity != "info"}
        out.append((name, code, bool(raised & set(code.split("|")))))
    thick = quick(base["stack"], base["um"], metadata={"section_um": 10, "modality": "widefield"})
    out.append(
        ("10 um section, widefield", "thick_section", "thick_section" in {f.code for f in thick})
    )
    return out


def plant_rendered(job: tuple[str, int]) -> list[tuple[str, str, bool]]:
    preset, seed = job
    out = []
    for name, code, changes, cells in RENDERED_FAULTS:
        made = render((preset, seed, changes))
        found = (flags_of if cells else quick)(made["stack"], made["um"])
        out.append((name, code, code in {f.code for f in found}))
    return out


# ---------------------------------------------------------------- faults between images


def row(
    name: str,
    stack: Stack,
    um: float,
    role: str,
    nuclei: dict[str, np.ndarray] | None = None,
    **metadata: Any,
) -> dict[str, Any]:
    return {
        "image": name,
        "nuclei": nuclei,
        "batch": "b1",
        "role": role,
        "metadata": metadata,
        "numbers": measure_quality(stack, dna="DAPI", pixel_size_um=um).to_dict(),
    }


def folder_faults(
    samples: list[dict[str, Any]], controls: list[dict[str, Any]], index: int
) -> list[tuple[str, str, bool]]:
    """Plant each fault in image ``index`` of a batch and ask whether that image is named."""
    rng = np.random.default_rng(index)
    um = samples[0]["um"]

    def rows(target: Stack | None = None, /, **more: Any) -> list[dict[str, Any]]:
        out = [row(f"control{k}", c["stack"], um, "negative_control", **more.get("control", {}))
               for k, c in enumerate(controls)]  # fmt: skip
        for k, s in enumerate(samples):
            hit = k == index and target is not None
            facts = more.get("hit", {}) if k == index else more.get("rest", {})
            stack = target if hit else s["stack"]
            # where the nuclei lie matters for copies and overlaps only, which have tests below
            out.append(row(f"sample{k}", stack, um, "sample", None, **facts))
        return out

    def caught(found: list[Flag], code: str, *, whole: bool = False) -> bool:
        return any(f.code == code and (whole or f.image == f"sample{index}") for f in found)

    p = protocol()
    base = samples[index]["stack"]
    out = []
    found = check_folder(rows(blur(base, um, rng)), protocol=p)
    out.append(
        ("one image of a batch blurred by 1.6 um", "out_of_focus", caught(found, "out_of_focus"))
    )
    found = check_folder(rows(brighter(base, 3.0)), protocol=p)
    out.append(("one image exposed 3 times longer, not in the metadata", "exposure_mismatch",
                caught(found, "exposure_mismatch")))  # fmt: skip
    for word, factor in (("longer", 2.5), ("shorter", 0.4)):
        other_ins = {**base, "INS": samples[index][f"INS x {factor}"]}
        found = check_folder(rows(other_ins), protocol=p)
        out.append((f"insulin alone exposed 2.5 times {word} in one image, not in the metadata",
                    "exposure_mismatch", caught(found, "exposure_mismatch")))  # fmt: skip
    facts = {"exposure_s": {"INS": 0.1}}
    found = check_folder(
        rows(control=facts, rest=facts, hit={"exposure_s": {"INS": 0.12}}), protocol=p
    )
    out.append(("exposure 20 % longer in the metadata", "exposure_mismatch",
                caught(found, "exposure_mismatch")))  # fmt: skip
    other = samples[(index + 1) % len(samples)]["stack"]
    found = check_folder(rows(other), protocol=p)
    out.append(("the same image twice", "duplicate", any(f.code == "duplicate" for f in found)))
    again = {c: np.round(q * 0.8).astype(np.uint16) for c, q in other.items()}
    found = check_folder(rows(again), protocol=p)
    out.append(("the same field saved with other contrast", "near_duplicate",
                any(f.code == "near_duplicate" for f in found)))  # fmt: skip
    return out


def shade_and_measure(job: tuple[dict[str, Any], int]) -> dict[str, Any]:
    base, side = job
    stack = shaded(base["stack"], side)
    nuclei = nuclei_of(measured(stack, base["um"]))
    return row(f"s{base['seed']}", stack, base["um"], "sample", nuclei)


def shading_fault(rows: list[dict[str, Any]]) -> tuple[str, str, bool]:
    found = check_folder(rows, protocol=protocol())
    return ("one side of every image 50 % darker", "uneven_illumination",
            any(f.code == "uneven_illumination" for f in found))  # fmt: skip


def overlapping_pair(job: tuple[str, int]) -> tuple[str, str, bool]:
    """Two fields of one slide that share 30 % of their width, taken one after the other."""
    preset, seed = job
    edge = 960 if preset == "easy_confocal" else 640
    wide = render((preset, seed, {"shape": (edge, int(1.7 * edge))}))
    left = {c: np.ascontiguousarray(p[:, :edge]) for c, p in wide["stack"].items()}
    right = {c: np.ascontiguousarray(p[:, -edge:]) for c, p in wide["stack"].items()}
    # bleached a little, with noise of its own
    right = brighter(right, 0.9)
    rows = [
        row(name, s, wide["um"], "sample", nuclei_of(measured(s, wide["um"])))
        for name, s in (("left", left), ("right", right))
    ]
    found = check_folder(rows, protocol=protocol())
    return ("two fields that overlap by 30 %", "overlapping_fields",
            any(f.code == "overlapping_fields" for f in found))  # fmt: skip


# ---------------------------------------------------------------- all of it


def clean_flags(base: dict[str, Any]) -> tuple[str, int, list[str], dict[str, np.ndarray]]:
    found = measured(base["stack"], base["um"])
    codes = [f.code for f in found.flags if f.severity != "info"]
    return base["preset"], base["seed"], codes, nuclei_of(found)


def exposed(job: tuple[str, int, float]) -> np.ndarray:
    """The insulin channel of an image, exposed longer or shorter."""
    preset, seed, factor = job
    usual = phantom(preset, seed=1, shape=(64, 64), measure_light=False).parameters.photons
    return render((preset, seed, {"photons": usual * factor}))["stack"]["INS"]


def write(path: Path, head: list[str], rows: list[list[Any]]) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)


def speed() -> list[list[Any]]:
    rng = np.random.default_rng(0)
    base = render(("ffpe20x", 1, {"shape": (512, 512)}))["stack"]
    big = {c: np.tile(p, (4, 4)) for c, p in base.items()}
    big["SST"] = rng.permutation(big["GCG"].ravel()).reshape(2048, 2048)
    wide = Protocol(channels=(*protocol().channels, Channel("SST")))
    out = []
    for _ in range(5):
        start, cpu = time.perf_counter(), time.process_time()
        check_image(big, protocol=wide, metadata={}, pixel_size_um=0.32)
        out.append((time.perf_counter() - start, time.process_time() - cpu))
    wall, cpu = (float(np.median(v)) for v in zip(*out, strict=True))
    return [["check_image, 2048 x 2048 x 4, uint16", round(wall, 3), round(cpu, 3)]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--clean", type=int, default=20, help="clean images per preset")
    parser.add_argument("--trials", type=int, default=4, help="images per preset and fault")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=120_000)
    args = parser.parse_args()
    with ProcessPoolExecutor(args.workers) as pool:
        jobs = [(p, args.first_seed + k, {}) for p in PRESETS for k in range(args.clean)]
        clean = list(pool.map(render, jobs))
        print("rendered", len(clean), flush=True)
        alarms: dict[str, Counter[str]] = defaultdict(Counter)
        images: Counter[str] = Counter()
        for base, (preset, seed, codes, nuclei) in zip(
            clean, pool.map(clean_flags, clean), strict=True
        ):
            base["nuclei"] = nuclei
            images[preset] += 1
            alarms[preset]["any"] += bool(codes)
            alarms[preset].update(set(codes))
            if codes:
                print("false alarm", preset, seed, codes, flush=True)
        controls = {
            p: list(
                pool.map(
                    render,
                    [
                        (p, args.first_seed + 900 + k, {"control": "secondary_only"})
                        for k in range(2)
                    ],
                )
            )
            for p in PRESETS
        }
        rows_of = {p: [c for c in clean if c["preset"] == p][:8] for p in PRESETS}
        # a clean folder must stay silent too
        for p in PRESETS:
            found = check_folder(
                [row(f"s{k}", c["stack"], c["um"], "sample", c["nuclei"])
                 for k, c in enumerate(rows_of[p])]
                + [row(f"c{k}", c["stack"], c["um"], "negative_control")
                   for k, c in enumerate(controls[p])],
                protocol=protocol(),
            )  # fmt: skip
            named = {f.image for f in found if f.severity != "info"}
            alarms[p]["folder"] += len(named)
            for f in found:
                print("false alarm in folder", p, f.code, f.image, f.message, flush=True)
        tally: dict[tuple[str, str], list[bool]] = defaultdict(list)
        missed: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)

        def note(preset: str, found: list[tuple[str, str, bool]]) -> None:
            for name, code, hit in found:
                tally[name, code].append(hit)
                if not hit:
                    missed[name, code][preset] += 1

        planted = [(b, b["seed"]) for p in PRESETS for b in rows_of[p][: args.trials]]
        for (base, _), found in zip(planted, pool.map(plant_in_image, planted), strict=True):
            note(base["preset"], found)
        rendered = [(p, args.first_seed + 500 + k) for p in PRESETS for k in range(args.trials)]
        for (preset, _), found in zip(rendered, pool.map(plant_rendered, rendered), strict=True):
            note(preset, found)
        fields = [(p, args.first_seed + 700 + k) for p in PRESETS for k in range(args.trials)]
        for (preset, _), hit in zip(fields, pool.map(overlapping_pair, fields), strict=True):
            note(preset, [hit])
        for p in PRESETS:
            for side in range(min(args.trials, 4)):
                jobs = [(base, side) for base in rows_of[p][:6]]
                note(p, [shading_fault(list(pool.map(shade_and_measure, jobs)))])
            for base in rows_of[p][: args.trials]:
                for factor in (2.5, 0.4):
                    base[f"INS x {factor}"] = exposed((p, base["seed"], factor))
    for p in PRESETS:
        for index in range(min(args.trials, 8)):
            note(p, folder_faults(rows_of[p], controls[p], index))
    table = [
        [name, code, sum(hits), len(hits), "yes" if np.mean(hits) >= 0.9 else "no",
         "; ".join(f"{p} {n}" for p, n in sorted(missed[name, code].items()))]
        for (name, code), hits in tally.items()
    ]  # fmt: skip
    for line in table:
        print(*line)
    write(args.out / "planted_faults.csv",
          ["fault", "code", "caught", "planted", "caught_in_9_of_10", "missed_in"],
          table)  # fmt: skip
    lines = [
        [p, images[p], alarms[p]["any"], alarms[p]["folder"],
         "; ".join(f"{c} {n}" for c, n in sorted(alarms[p].items()) if c not in ("any", "folder"))]
        for p in PRESETS
    ]  # fmt: skip
    total = sum(images.values())
    lines.append(["all", total, sum(alarms[p]["any"] for p in PRESETS),
                  sum(alarms[p]["folder"] for p in PRESETS), ""])  # fmt: skip
    write(args.out / "false_alarms.csv",
          ["preset", "images", "with_alarm", "with_folder_alarm", "codes"], lines)  # fmt: skip
    for line in lines:
        print(*line)
    write(args.out / "speed.csv", ["what", "wall_s", "cpu_s"], speed())


if __name__ == "__main__":
    main()
