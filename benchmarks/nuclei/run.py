"""Nuclei: the table of accuracy on human masks and phantoms, ours and peers, one command.

    python benchmarks/nuclei/run.py                      # ours on every set
    python benchmarks/nuclei/run.py --methods all        # and every peer, each in its own venv
    python benchmarks/nuclei/run.py --methods network --float32 --as network_float32

Writes ``results/accuracy.csv`` (a row per method, scale told or not, set) and
``results/accuracy.md``.  Rows of methods and sets that are not run again are kept.  Figures that
others published, in ``published.csv``, stand in a section of their own: nobody measured them here.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from methods import PEER_METHODS, python_of, run_ours, run_peer

from islet_imaging.network.training.integers import drop_integers
from islet_imaging.network.training.matching import summarise_matchings
from islet_imaging.network.training.nuclei_evaluation import cases, image_sets, match_case
from islet_imaging.network.weights import load_model
from islet_imaging.phantom import PRESETS

HERE = Path(__file__).parent
RESULTS = HERE / "results"
COLUMNS = ["f1", "f1_pooled", "ap50", "ap70", "ap90", "ap_mean", "pq", "count_bias"]


def main() -> None:
    default = Path(os.environ.get("ISLET_IMAGING_DATA", HERE.parents[1] / ".." / "shared" / "data"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", default="network,classical")
    parser.add_argument("--sets", default="all")
    parser.add_argument("--modes", default="known,auto")
    parser.add_argument("--model", default="islet-nuclei", help="name or folder of the network")
    parser.add_argument(
        "--float32", action="store_true", help="the network's float32 weights, not its integers"
    )
    parser.add_argument("--phantoms", type=int, default=4, help="phantoms of each preset")
    parser.add_argument("--min-confidence", type=float, help="of a nucleus; else the network's own")
    parser.add_argument("--as", dest="label", help="name of the network's rows in the table")
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument(
        "--venvs", type=Path, default=Path(tempfile.gettempdir()) / "islet-imaging-peers"
    )
    args = parser.parse_args()
    every = [*image_sets(), *(f"phantom_{p}" for p in PRESETS)]
    sets = every if args.sets == "all" else args.sets.split(",")
    methods = args.methods.split(",")
    if args.methods == "all":
        methods = ["network", "classical", *PEER_METHODS]
    for method in set(methods) & set(PEER_METHODS):
        python_of(method, PEER_METHODS[method], args.venvs)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        if args.float32:
            single = Path(scratch) / "float32"
            shutil.copytree(load_model(args.model).folder, single)
            args.model = str(drop_integers(single).folder)
        for name in sets:
            images = list(cases(name, args.data, phantom_seeds=args.phantoms))
            folder = Path(scratch) / name
            folder.mkdir()
            listed = []
            for i, case in enumerate(images):
                np.save(folder / f"{i}.npy", case[1])
                listed.append({"id": str(i), "name": case[0], "diameter_px": case[4]})
            (folder / "cases.json").write_text(json.dumps(listed))
            for method in methods:
                for mode in args.modes.split(","):
                    out = folder / method / mode
                    if method in PEER_METHODS:
                        run_peer(method, folder, mode, out, args.venvs)
                    else:
                        run_ours(method, folder, mode, out, args.model, args.min_confidence)
                    found = [np.load(out / f"{i}.npy") for i in range(len(images))]
                    scores = summarise_matchings(
                        [match_case(c, f) for c, f in zip(images, found, strict=True)]
                    )
                    label = args.label if method == "network" and args.label else method
                    row = {"method": label, "scale": mode, "set": name, **scores}
                    rows.append(row)
                    print(label, mode, name, {k: round(scores[k], 3) for k in COLUMNS}, flush=True)
                    write(rows)


def write(rows: list[dict[str, object]]) -> None:
    """Merge new rows into the table and draw it as Markdown."""
    path = RESULTS / "accuracy.csv"
    RESULTS.mkdir(exist_ok=True)
    table = pd.DataFrame(rows)
    if path.exists():
        table = pd.concat([pd.read_csv(path), table])
    keys = ["method", "scale", "set"]
    table = table.drop_duplicates(keys, keep="last").sort_values(["set", "scale", "method"])
    whole = path.with_suffix(".new")
    table.round(4).to_csv(whole, index=False)
    whole.replace(path)  # runs of other methods may read it meanwhile
    lines = ["| set | scale | method | images | nuclei | " + " | ".join(COLUMNS) + " |"]
    lines.append("|" + "---|" * (5 + len(COLUMNS)))
    for row in table.to_dict("records"):
        numbers = " | ".join(f"{row[c]:.3f}" for c in COLUMNS)
        lines.append(
            f"| {row['set']} | {row['scale']} | {row['method']} | {row['images']:.0f} | "
            f"{row['nuclei']:.0f} | {numbers} |"
        )
    (RESULTS / "accuracy.md").write_text("\n".join([*lines, *published()]) + "\n")


def published() -> list[str]:
    """Lines of Markdown for figures that others published."""
    lines = [
        "",
        "## Published by others, not measured here",
        "",
        "Pooled over all nuclei, as published; hold them against `f1_pooled` above.",
        "",
        "| method | f1_pooled, published | ap50_pooled, published | on | source |",
        "|---|---|---|---|---|",
    ]
    rows = pd.read_csv(HERE / "published.csv").to_dict("records")
    return lines + [
        f"| {row['method']} | {row['f1_pooled']:.3f} | {row['ap50_pooled']:.3f} | "
        f"{row['images']} | {row['source']} |"
        for row in rows
    ]


if __name__ == "__main__":
    main()
