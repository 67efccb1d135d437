"""The report's tables as LaTeX that stands in a paper as it is; needs booktabs, and one of them longtable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from flowprior.evaluation.registry import CHOSEN_BY
from flowprior.report.formats import MINUS, interval, number, signed, unit, written
from flowprior.report.published import Reference
from flowprior.report.results import Results
from flowprior.report.tables import best, hyperparameter_table, listed, published_table, selection_table

#: Column of a table -> its head in LaTeX, and how its values are written.
Columns = Mapping[str, tuple[str, Callable[[Any], str]]]


def latex_tables(results: Results) -> dict[str, str]:
    """LaTeX of every table, by name."""
    latex = {
        "results": results_latex(results),
        "selection": _selection(results),
        "paired": _paired(results),
        "hyperparameters": _hyperparameters(results),
    }
    if results.reference:
        latex["published"] = _published(results, results.reference)
    return latex


def results_latex(results: Results) -> str:
    """The main table of a paper: methods down, tasks across, the best of each task in bold."""
    tasks = [task for task in results.experiment.tasks if results.lines_on(task)]
    first, *others = results.metrics
    labels = [first.label, "", *(one.label for one in others)]
    rows = [[escape(line.label)] for line in results.lines]
    for task in tasks:
        entries = [results.selected(task, line) for line in results.lines]
        top = best([entry for entry in entries if entry], first)
        for row, entry in zip(rows, entries, strict=True):
            if entry is None:
                row += ["--", "", *["--"] * len(others)]
                continue
            mean = escape(written(first, entry[first.name]))
            ends = interval(entry[f"{first.name}_low"], entry[f"{first.name}_high"], 1)
            row += [rf"\textbf{{{mean}}}" if entry[first.name] == top else mean, rf"{{\scriptsize {escape(ends)}}}"]
            row += [escape(written(one, entry[one.name])) for one in others]
    width = len(labels)
    rules = "".join(rf"\cmidrule(lr){{{2 + width * i}-{1 + width * (i + 1)}}}" for i in range(len(tasks)))
    # pandas has no rules between levels of heads: they stand before the first head of the lower one.
    heads = [("", f"{rules}\nmethod"), *((escape(task), label) for task in tasks for label in labels)]
    caption = (
        rf"Mean {first.head} with its 95\,\% bootstrap interval, and mean {listed([one.label for one in others])}, on "
        rf"test images. Settings were selected on validation images. Best {first.label} in bold."
    )
    table = pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples(heads))
    return _latex(table, caption, f"tab:{results.experiment.name}", f"l{('rc' + 'r' * len(others)) * len(tasks)}")


def escape(text: str) -> str:
    r"""Plain text as LaTeX.

    Example:
        >>> print(escape("noise_std=0.1 & 5 %"))
        noise\_std=0.1 \& 5 \%
    """
    special = {**{letter: f"\\{letter}" for letter in "_%&#$"}, MINUS: "$-$", "—": "--", "∞": r"$\infty$"}
    return "".join(special.get(letter, letter) for letter in text)


def _selection(results: Results) -> str:
    columns: Columns = {
        "method": ("method", str),
        "validation_setting": ("chosen", str),
        f"validation_{CHOSEN_BY}": ("PSNR", number),
        f"paper_{CHOSEN_BY}": ("paper's PSNR", number),
        "oracle_setting": ("oracle", str),
        f"oracle_{CHOSEN_BY}": ("PSNR", number),
        "cost_of_choosing": ("cost", signed),
    }
    caption = (
        r"What choosing settings on validation images costs: mean test PSNR in dB with the chosen setting, "
        r"with the paper's own value, and with the best setting on the test images (oracle)."
    )
    return _grouped(selection_table(results), columns, caption, "tab:selection")


def _paired(results: Results) -> str:
    columns: dict[str, tuple[str, Callable[[Any], str]]] = {"method": ("method", str), "n": ("images", str)}
    for one in results.metrics:
        columns |= {one.name: (one.label, str), f"{one.name}_interval": (r"95\,\% interval", str)}
    rows = []
    for task in results.experiment.tasks:
        baseline = results.best_baseline(task)
        for line in results.lines_on(task) if baseline else []:
            entry = results.difference(task, line, baseline) if baseline else None
            if entry and baseline:
                rows.append({"task": f"{task}, against {baseline.label}", "method": line.label, "n": entry["n"]})
                for one in results.metrics:
                    middle, low, high = (entry[name] for name in one.paired)
                    rows[-1][one.name] = signed(middle, one.digits)
                    rows[-1][f"{one.name}_interval"] = interval(low, high, one.digits, plus=True)
    caption = r"Paired difference to the best baseline of each task, with 95\,\% bootstrap intervals."
    return _grouped(pd.DataFrame(rows, columns=["task", *columns]), columns, caption, "tab:paired")


def _published(results: Results, reference: Reference) -> str:
    columns: Columns = {
        "method": ("method", str),
        "paper_printed": ("paper: printed", number),
        "paper_psnr": ("PSNR", number),
        "paper_ssim": ("SSIM", unit),
        "ours_printed": ("ours: printed", number),
        "ours_psnr": ("PSNR", number),
        "ours_ssim": ("SSIM", unit),
        "ours_paper_setting_psnr": ("fixed: PSNR", number),
        "ours_paper_setting_ssim": ("SSIM", unit),
    }
    caption = "Published values beside ours; PSNR in dB. `Fixed': the paper's settings."
    if reference.printed:
        caption = (
            r"Published values beside ours. `Printed' follows the paper's program, which takes a square root "
            r"too many and pools errors over 32 images; PSNR is true, in dB. `Fixed': the paper's settings."
        )
    else:
        heads = {"paper_psnr": ("paper: PSNR", number), "ours_psnr": ("ours: PSNR", number)}
        columns = {name: heads.get(name, head) for name, head in columns.items() if not name.endswith("_printed")}
    return _grouped(published_table(results, reference), columns, caption, "tab:published")


def _hyperparameters(results: Results) -> str:
    labels = {line.key: line.label for line in results.lines}
    table = hyperparameter_table(results)
    table["method"] = [labels[key] for key in zip(table["method"], table["prior"], strict=True)]
    columns: Columns = {
        **{"method": ("method", str), "setting": ("setting", str), "split": ("images", str)},
        **{one.name: (one.label, lambda value, one=one: written(one, value)) for one in results.metrics},  # type: ignore[misc]
    }
    return _grouped(table, columns, "Mean quality of every setting.", "tab:hyperparameters", long=True)


def _grouped(table: pd.DataFrame, columns: Columns, caption: str, label: str, long: bool = False) -> str:
    """A table with a heading per task; the first column is left-aligned, the others right-aligned."""
    rows: list[list[str]] = []
    for task, lines in table.groupby("task", sort=False):
        body = [[escape(write(entry[name])) for name, (_, write) in columns.items()] for _, entry in lines.iterrows()]
        # pandas has no headings within a table: they stand before the first cell of what is below.
        title = rf"\multicolumn{{{len(columns)}}}{{l}}{{\emph{{{escape(str(task))}}}}} \\"
        body[0][0] = "\n".join([*[r"\addlinespace"] * bool(rows), title, body[0][0]])
        rows += body
    shown = pd.DataFrame(rows, columns=[head for head, _ in columns.values()])
    return _latex(shown, caption, label, "l" + "r" * (len(columns) - 1), long)


def _latex(table: pd.DataFrame, caption: str, label: str, align: str, long: bool = False) -> str:
    """A table whose heads and cells are LaTeX, as a float or, if long, over pages."""
    style: Any = table.style.hide(axis="index")
    look: dict[str, Any] = {"hrules": True, "column_format": align, "multicol_align": "c"}
    if long:
        body = style.to_latex(environment="longtable", caption=caption, label=label, **look)
        return f"% needs \\usepackage{{booktabs,longtable}}\n\\begingroup\\footnotesize\n{body}\\endgroup\n"
    # Not pandas' own float: its caption comes before any size.
    opening = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}[t]",
        r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{caption}}}",
        rf"\label{{{label}}}",
    ]
    return "\n".join([*opening, style.to_latex(**look) + r"\end{table}", ""])
