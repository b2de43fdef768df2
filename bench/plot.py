"""Draws docs/scale.svg from docs/scale.json: the last part of `make bench-scale`."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot

FIGURES = Path(__file__).parent.parent / "docs" / "scale.json"
PICTURE = FIGURES.with_suffix(".svg")
PANELS = (
    ("idle", "idle, % of a core", 10.0),
    ("memory", "memory, MiB", 400.0),
    ("change_p99", "a change, s (p99)", 5.0),
    ("page", "a page of 10, ms", None),
)


def main() -> None:
    # The same figures give the same bytes: ids and dates would change with each drawing.
    mpl.rcParams |= {"svg.hashsalt": "moorage", "svg.fonttype": "none", "font.size": 9}
    measured = json.loads(FIGURES.read_text())
    sizes = [one["clusters"] for one in measured["sizes"]]
    figure, panels = pyplot.subplots(1, len(PANELS), figsize=(12, 3), layout="constrained")
    for panel, (name, title, limit) in zip(panels, PANELS, strict=True):
        scale = 1000 if name == "page" else 1
        values = [one[name] * scale for one in measured["sizes"]]
        panel.plot(sizes, values, marker="o", color="#1f6f8b")
        if limit is not None:
            panel.axhline(limit, color="#c0392b", linestyle="--", linewidth=1)
        panel.set(title=title, xscale="log", xlabel="clusters of ten nodes")
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    main()
