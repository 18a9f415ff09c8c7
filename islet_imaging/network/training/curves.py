"""Draw a training's log as a picture.

The idea: ``log.csv`` and ``validation.csv`` of a run are all there is to draw; the picture can be
made while the training runs.
"""

from __future__ import annotations

from pathlib import Path

from islet_imaging.errors import ImageReadError


def plot_curves(out_dir: Path, picture: Path | None = None) -> Path:
    """Draw loss parts and validation numbers of a run over its steps.

    Parameters
    ----------
    out_dir : Path
        A run's folder.
    picture : Path, optional
        Where the picture goes; ``curves.png`` in the run's folder when not given.

    Returns
    -------
    Path
        Of the picture.
    """
    import pandas as pd
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not (out_dir / "log.csv").exists():
        raise ImageReadError(f"{out_dir}: no log.csv; is this a training's folder?")
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    log = pd.read_csv(out_dir / "log.csv").drop_duplicates("step", keep="last")
    for name in log.columns.drop(["step", "seconds_per_step"]):
        left.plot(log["step"], log[name], label=name)
    left.set(xlabel="step", ylabel="training loss", yscale="log")
    left.legend(fontsize="small")
    if (out_dir / "validation.csv").exists():
        scores = pd.read_csv(out_dir / "validation.csv").drop_duplicates("step", keep="last")
        for name in scores.columns.drop("step"):
            right.plot(scores["step"], scores[name], marker="o", markersize=3, label=name)
        right.legend(fontsize="small")
    right.set(xlabel="step", ylabel="validation score")
    target = picture or out_dir / "curves.png"
    figure.savefig(target, dpi=100)
    return target
