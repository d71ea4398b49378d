"""Write the page, the tables and the figures of runs."""

import pathlib

from adprune_keras.files.atomic import own_path, write_text
from adprune_keras.record.directory import model_size, read_export, read_maps, save_figure
from adprune_keras.record.lines import read_run
from adprune_keras.report import facts, figures, page
from adprune_keras.report.paper_tables import TABLES

_SUFFIXES = ("png", "svg")


def write_report(directories, output_dir=None):
    """Write the page of some runs, Table I to IV (Markdown, CSV) and Fig. 1 to 5 (PNG, SVG).

    `index.html` is the page, which needs no other file, and `report.md` a short form for a pull request.
    Fig. 1, 2 and 5 belong to one run each and carry its name where there are several (and its number,
    where several have that name). Fig. 5 needs `maps.npz`, and AE a run that measured it; what a run
    does not hold is left out.

    Args:
        directories: list of run directories.
        output_dir: directory to write to, or `None` for `report/` in the first run directory.

    Returns:
        list of the paths written.

    Raises:
        ValueError: no run directory, or a damaged record.
    """
    runs = [read_run(directory) for directory in directories]
    maps = [read_maps(directory) for directory in directories]
    untrained = [
        str(d) for d, r in zip(directories, runs, strict=True) if not any(n["epochs"] for n in r.nets)
    ]
    if untrained:
        raise ValueError(f"These runs hold no net that trained: {untrained}.")
    exports, sizes = map(read_export, directories), map(model_size, directories)
    shown = [facts.Shown(*of) for of in zip(runs, exports, sizes, strict=True)]
    output = pathlib.Path(output_dir or own_path(directories[0], "report"))
    output.mkdir(parents=True, exist_ok=True)
    written, texts = [], []

    def text(name, content):
        write_text(output / name, content)
        written.append(output / name)

    def figure(name, drawn):
        for suffix in _SUFFIXES:
            save_figure(output, f"{name}.{suffix}", drawn)
            written.append(output / f"{name}.{suffix}")

    text("index.html", page.html(shown))
    text("report.md", page.markdown(shown))
    for name, make in TABLES.items():
        table = make(runs)
        text(f"{name}.csv", table.csv())
        texts.append(table.markdown())
    text("tables.md", "\n".join(texts))
    figure("figure4", figures.figure_4([(r.name, r.nets) for r in runs]))
    names = [one.name for one in runs]
    for n, (one, maps_of_one) in enumerate(zip(runs, maps, strict=True)):
        suffix = f"_{one.name}" if len(runs) > 1 else ""
        suffix += f"_{n}" if names.count(one.name) > 1 else ""
        figure(f"figure2{suffix}", figures.figure_2(one.nets))
        if any(net["densities"] for net in one.nets):
            figure(f"figure1{suffix}", figures.figure_1(one.nets))
        if maps_of_one:
            figure(f"figure5{suffix}", figures.figure_5(maps_of_one))
    return written
