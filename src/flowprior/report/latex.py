"""The report's tables as LaTeX that stands in a paper as it is; needs booktabs, and one of them longtable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pandas as pd

from flowprior.evaluation.registry import CHOSEN_BY
from flowprior.report.formats import MINUS, interval, number, signed, unit, written
from flowprior.report.results import Results
from flowprior.report.tables import best, hyperparameter_table, listed, published_table, selection_table


class Group(NamedTuple):
    """Rows of one task below a heading; cells are LaTeX."""

    title: str
    rows: list[list[str]]


def latex_tables(results: Results) -> dict[str, str]:
    """LaTeX of every table, by name."""
    latex = {
        "results": results_latex(results),
        "selection": _selection(results),
        "paired": _paired(results),
        "hyperparameters": _hyperparameters(results),
    }
    if results.experiment.reference:
        latex["published"] = _published(results)
    return latex


def results_latex(results: Results) -> str:
    """The main table of a paper: methods down, tasks across, the best of each task in bold."""
    tasks = [task for task in results.experiment.tasks if results.lines_on(task)]
    first, *others = results.metrics
    tops = {
        task: best([results.selected(task, line) or {} for line in results.lines_on(task)], first) for task in tasks
    }
    width = 2 + len(others)
    body = []
    for line in results.lines:
        cells = [escape(line.label)]
        for task in tasks:
            chosen = results.selected(task, line)
            if chosen is None:
                cells += ["--", "", *["--"] * len(others)]
                continue
            mean = escape(written(first, chosen[first.name]))
            ends = interval(chosen[f"{first.name}_low"], chosen[f"{first.name}_high"], 1)
            cells += [
                f"\\textbf{{{mean}}}" if chosen[first.name] == tops[task] else mean,
                f"{{\\scriptsize {escape(ends)}}}",
                *(escape(written(one, chosen[one.name])) for one in others),
            ]
        body.append(" & ".join(cells) + r" \\")
    heads = "".join(f" & \\multicolumn{{{width}}}{{c}}{{{escape(task)}}}" for task in tasks)
    rules = "".join(f"\\cmidrule(lr){{{2 + width * i}-{1 + width * (i + 1)}}}" for i in range(len(tasks)))
    caption = (
        rf"Mean {first.head} with its 95\,\% bootstrap interval, and mean {listed([one.label for one in others])}, on "
        rf"test images. Settings were selected on validation images. Best {first.label} in bold."
    )
    lines = [
        *_opening(caption, f"tab:{results.experiment.name}", f"l{('rc' + 'r' * len(others)) * len(tasks)}"),
        rf"{heads} \\",
        rules,
        "method" + " & ".join(["", first.label, "", *(one.label for one in others)]) * len(tasks) + r" \\",
        r"\midrule",
        *body,
        *_CLOSING,
    ]
    return "\n".join(lines)


def grouped(caption: str, label: str, heads: Sequence[str], groups: Sequence[Group], long: bool = False) -> str:
    """A table with a heading per group.

    Args:
        caption: LaTeX.
        label: for references.
        heads: LaTeX of the columns' names; the first column is left-aligned, the others right-aligned.
        groups: what stands below.
        long: whether it may run over pages.
    """
    align = "l" + "r" * (len(heads) - 1)
    head = [" & ".join(heads) + r" \\", r"\midrule"]
    body = []
    for index, group in enumerate(groups):
        title = rf"\multicolumn{{{len(heads)}}}{{l}}{{\emph{{{group.title}}}}} \\"
        body += [r"\addlinespace"] * bool(index) + [title]
        body += [" & ".join(row) + r" \\" for row in group.rows]
    if not long:
        return "\n".join([*_opening(caption, label, align), *head, *body, *_CLOSING])
    lines = [
        "% needs \\usepackage{booktabs,longtable}",
        r"\begingroup\footnotesize",
        rf"\begin{{longtable}}{{{align}}}",
        rf"\caption{{{caption}}}\label{{{label}}} \\",
        r"\toprule",
        *head,
        r"\endfirsthead",
        r"\toprule",
        *head,
        r"\endhead",
        *body,
        r"\bottomrule",
        r"\end{longtable}",
        r"\endgroup",
        "",
    ]
    return "\n".join(lines)


def escape(text: str) -> str:
    r"""Plain text as LaTeX.

    Example:
        >>> print(escape("noise_std=0.1 & 5 %"))
        noise\_std=0.1 \& 5 \%
    """
    special = {**{letter: f"\\{letter}" for letter in "_%&#$"}, MINUS: "$-$", "—": "--", "∞": r"$\infty$"}
    return "".join(special.get(letter, letter) for letter in text)


def _opening(caption: str, label: str, align: str) -> list[str]:
    return [
        "% needs \\usepackage{booktabs}",
        r"\begin{table}[t]",
        r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{caption}}}",
        rf"\label{{{label}}}",
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
    ]


_CLOSING = [r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]


def _selection(results: Results) -> str:
    heads = ["method", "chosen", "PSNR", "paper's PSNR", "oracle", "PSNR", "cost"]

    def row(entry: pd.Series) -> list[str]:
        chosen, oracle = entry["validation_setting"], entry["oracle_setting"]
        numbers = [number(entry[f"{by}_{CHOSEN_BY}"]) for by in ("validation", "paper", "oracle")]
        cost = signed(entry["cost_of_choosing"])
        return [escape(cell) for cell in (entry["method"], chosen, *numbers[:2], oracle, numbers[2], cost)]

    caption = (
        r"What choosing settings on validation images costs: mean test PSNR in dB with the chosen setting, "
        r"with the paper's own value, and with the best setting on the test images (oracle)."
    )
    return grouped(caption, "tab:selection", heads, _by_task(selection_table(results), row))


def _paired(results: Results) -> str:
    groups = []
    for task in results.experiment.tasks:
        baseline = results.best_baseline(task)
        rows = []
        for line in results.lines_on(task) if baseline else []:
            entry = results.difference(task, line, baseline) if baseline else None
            if entry:
                cells = [line.label, str(entry["n"])]
                for one in results.metrics:
                    middle, low, high = (entry[name] for name in one.paired)
                    cells += [signed(middle, one.digits), interval(low, high, one.digits, plus=True)]
                rows.append([escape(cell) for cell in cells])
        if rows and baseline:
            groups.append(Group(escape(f"{task}, against {baseline.label}"), rows))
    caption = r"Paired difference to the best baseline of each task, with 95\,\% bootstrap intervals."
    heads = ["method", "images"]
    for one in results.metrics:
        heads += [one.label, r"95\,\% interval"]
    return grouped(caption, "tab:paired", heads, groups)


def _published(results: Results) -> str:
    heads = [
        "method",
        "paper: printed",
        "PSNR",
        "SSIM",
        "ours: printed",
        "PSNR",
        "SSIM",
        "fixed: PSNR",
        "SSIM",
    ]
    columns = ["paper_printed", "paper_psnr", "paper_ssim", "ours_printed", "ours_psnr", "ours_ssim"]
    columns += ["ours_paper_setting_psnr", "ours_paper_setting_ssim"]

    def row(entry: pd.Series) -> list[str]:
        cells = [(unit if name.endswith("ssim") else number)(entry[name]) for name in columns]
        return [escape(cell) for cell in (entry["method"], *cells)]

    caption = (
        r"Published values beside ours. `Printed' follows the paper's program, which takes a square root "
        r"too many and pools errors over 32 images; PSNR is true, in dB. `Fixed': the paper's settings."
    )
    return grouped(caption, "tab:published", heads, _by_task(published_table(results), row))


def _hyperparameters(results: Results) -> str:
    labels = {line.key: line.label for line in results.lines}

    def row(entry: pd.Series) -> list[str]:
        label = labels[entry["method"], entry["prior"]]
        cells = [label, entry["setting"], entry["split"], *(written(one, entry[one.name]) for one in results.metrics)]
        return [escape(cell) for cell in cells]

    heads = ["method", "setting", "images", *(one.label for one in results.metrics)]
    groups = _by_task(hyperparameter_table(results), row)
    return grouped("Mean quality of every setting.", "tab:hyperparameters", heads, groups, long=True)


def _by_task(table: pd.DataFrame, row: Callable[[pd.Series], list[str]]) -> list[Group]:
    return [
        Group(escape(str(task)), [row(entry) for _, entry in lines.iterrows()])
        for task, lines in table.groupby("task", sort=False)
    ]
