"""`flowprior ...`: look at what is there, check an experiment, verify its results, restore one picture."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flowprior.errors import FlowpriorError, one_line_errors

if TYPE_CHECKING:
    import pandas as pd

    from flowprior.models.flows.base import Flow

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Flows as priors of inverse problems.",
)


@app.command(name="list")
def list_pieces() -> None:
    """Every model, operator and solver with its settings."""
    from flowprior.experiment.schema import REGISTRIES, generate_pieces

    console = Console()
    for kind, pieces in generate_pieces().items():
        table = Table("name", "setting", "default", "meaning", title=f"{kind}s", title_justify="left")
        for name, schema in pieces.items():
            what = (REGISTRIES[kind].get(name).__doc__ or "").strip().partition("\n\n")[0]
            table.add_row(f"[bold]{name}[/bold]", "", "", " ".join(escape(what).split()))
            for setting, facts in schema.get("properties", {}).items():
                default = json.dumps(facts["default"]) if "default" in facts else "required"
                table.add_row("", setting, default, escape(facts.get("description", "")))
            table.add_section()
        console.print(table)


@app.command()
def schema(
    root: Annotated[Path, typer.Option(help="The repository, below which workflow/schemas lies.")] = Path(),
) -> None:
    """Write the JSON schemas that the settings of all pieces imply, for the workflow and for editors."""
    from flowprior.experiment.pieces import PIECES
    from flowprior.experiment.schema import generate_index, generate_schema
    from flowprior.files import replacing

    folder = root / "workflow" / "schemas"
    if not folder.is_dir():
        raise FlowpriorError(f"no folder {folder}; run this in the repository, or name it: --root FOLDER")
    for path, made in ((PIECES, generate_index()), (folder / "experiment.schema.json", generate_schema())):
        with replacing(path) as part:
            part.write_text(json.dumps(made, indent=2) + "\n")
        print(f"wrote {path.name}")


@app.command()
def check(
    params: Annotated[Path, typer.Argument(help="An experiment, such as params/demo.yaml.")],
    quick: Annotated[bool, typer.Option("--quick", help="Only what is written; build and count nothing.")] = False,
) -> None:
    """Check whether an experiment can work, before anything is made, and say what it would run."""
    from flowprior.experiment.loading import load_experiment
    from flowprior.experiment.plan import check_names, check_own_results, jobs, without_missing_solvers

    experiment = load_experiment(params)
    check_names(experiment)
    check_own_results(experiment, params)
    experiment, skipped = without_missing_solvers(experiment)
    for method, reason in skipped.items():
        print(f"flowprior: method '{method}' is left out: {reason}", file=sys.stderr)
    trained = {training.prior for training in experiment.trainings()}
    for name in (name for name in experiment.priors if name not in trained):
        print(f"flowprior: model '{name}' learns a task and no method asks it: it is not trained", file=sys.stderr)
    if not quick:
        from flowprior.experiment.feasible import check_feasible

        check_feasible(experiment)
    planned = jobs(experiment)
    points = sum(
        len(experiment.chunks(job.method, job.task)[job.chunk]) * experiment.images_of(job.method, job.split)
        for job in planned
    )
    print(
        f"{params} is in order: {len(experiment.priors)} models, {len(experiment.tasks)} tasks, "
        f"{len(experiment.methods)} methods, {len(planned)} jobs, {points} reconstructions"
    )


@app.command()
def show(
    results: Annotated[Path, typer.Argument(help="Results of an experiment, such as results/demo.")],
    selected_by: Annotated[
        str, typer.Option(help="How settings were chosen: validation, paper, oracle, or all.")
    ] = "validation",
) -> None:
    """The summary of an experiment as a table."""
    import pandas as pd

    from flowprior.errors import unknown_name_message
    from flowprior.evaluation.selection import SELECTIONS

    if selected_by not in (*SELECTIONS, "all"):
        raise FlowpriorError(unknown_name_message("choice", selected_by, [*SELECTIONS, "all"]))
    from flowprior.experiment.artefacts import LEAVES

    path = results / LEAVES["evaluate"].pattern("summary")
    if not path.is_file():
        raise FlowpriorError(f"no summary at {path}; run the experiment first: make run")
    summary = pd.read_csv(path)
    if selected_by != "all":
        summary = summary[summary["selected_by"] == selected_by]
    Console().print(_summary_table(summary, f"{results}, settings chosen by: {selected_by}"))


def _summary_table(summary: pd.DataFrame, title: str) -> Table:
    """Only what differs is a column, so that it fits a terminal."""
    learned = summary.loc[~summary["baseline"], "prior"] if "baseline" in summary else summary["prior"]
    optional = {
        "prior": learned.nunique() > 1,
        "selected_by": summary["selected_by"].nunique() > 1,
        "n_diverged": bool(summary["n_diverged"].any()),
        "converged": "converged" in summary and bool(summary["converged"].notna().all()),
    }
    shown = _shown_columns(summary)
    columns = [name for name in shown if optional.get(name, True)]
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    for name in columns:
        heading, justify, _ = shown[name]
        table.add_column(heading, justify=justify, no_wrap=justify == "right", overflow="fold")
    for task in summary["task"].unique():
        for i, row in enumerate(summary[summary["task"] == task].to_dict("records")):
            cells = [shown[name][2].format_map(row) for name in columns]
            table.add_row("" if i else cells[0], *cells[1:])
        table.add_section()
    return table


def _shown_columns(summary: pd.DataFrame) -> dict[str, tuple[str, Literal["left", "right"], str]]:
    """Heading, side and format of every column; the chosen metric has its interval beside it."""
    from flowprior.evaluation.registry import CHOSEN_BY, compared

    quality: dict[str, tuple[str, Literal["left", "right"], str]] = {}
    for one in compared(summary):
        quality[one.name] = (one.label, "right", f"{{{one.name}:.{one.digits}f}}")
        if one.name == CHOSEN_BY:
            quality["interval"] = ("95 %", "right", f"{{{one.name}_low:.1f}}..{{{one.name}_high:.1f}}")
    return {
        **_NAMES,
        **quality,
        "seconds": ("s/image", "right", "{seconds_per_image:.2f}"),
        "n": ("n", "right", "{n}"),
        "converged": ("converged", "right", "{converged:.0%}"),
        "n_diverged": ("diverged", "right", "{n_diverged}"),
    }


_NAMES: dict[str, tuple[str, Literal["left", "right"], str]] = {
    "task": ("task", "left", "{task}"),
    "method": ("method", "left", "{method}"),
    "prior": ("prior", "left", "{prior}"),
    "setting": ("setting", "left", "{setting}"),
    "selected_by": ("chosen by", "left", "{selected_by}"),
}


@app.command()
def verify(
    results: Annotated[Path, typer.Argument(help="Results of an experiment, such as results/demo.")],
    rows: Annotated[int, typer.Option(min=0, help="Rows compared with their stored pictures.")] = 6,
    solve: Annotated[int, typer.Option(min=0, help="How many of these are solved again.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other rows.")] = 0,
) -> None:
    """Compute all hashes and a sample of rows again; say what differs, with exit status 1."""
    from flowprior.provenance.verification import verify

    verdict = verify(results, rows, solve, seed)
    for note in verdict.notes:
        print(f"flowprior: {note}", file=sys.stderr)
    for line in verdict.differences:
        print(line)
    print(verdict.summary())
    if verdict.differences:
        raise typer.Exit(1)


@app.command()
def restore(
    picture: Annotated[Path, typer.Argument(help="The degraded picture.")],
    checkpoint: Annotated[Path, typer.Option(help="A trained flow, such as results/demo/flows/haar_glow.")],
    out: Annotated[Path, typer.Option(help="Where the restored picture is written.")],
    task: Annotated[str, typer.Option(help="A task of --params: what happened to the picture.")] = "denoising",
    method: Annotated[str, typer.Option(help="A solver that uses a flow.")] = "map",
    params: Annotated[Path, typer.Option(help="The experiment that describes tasks and methods.")] = Path(
        "params/demo.yaml"
    ),
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the solver, such as noise_std=0.1.")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Tiles solved together; default: what fits.")] = None,
) -> None:
    """Restore one picture. A picture larger than the flow's is solved in overlapping tiles."""
    from flowprior.experiment import restoring
    from flowprior.experiment.loading import load_experiment

    experiment = load_experiment(params)
    flow = _flow(checkpoint)
    settings, note = restoring.settings_for(experiment, task, method, _settings(setting or []), checkpoint)
    restored, diverged = restoring.restore_file(
        picture,
        out,
        flow,
        experiment.tasks[task],
        experiment.methods[method].solver or method,
        settings,
        batch,
    )
    said = ", ".join(f"{name}={value}" for name, value in settings.items())
    print(f"{out}: {restored} tiles by {method} ({said})")
    if note:
        print(f"flowprior: {note}", file=sys.stderr)
    if diverged:
        print(f"flowprior: {diverged} of {restored} tiles diverged and stand as they last were", file=sys.stderr)


@app.command()
def publish(params: Annotated[Path, typer.Argument(help="An experiment, such as params/demo.yaml.")]) -> None:
    """Send what an experiment has recorded to MLflow: what is new, and nothing twice. It need not have ended."""
    from flowprior.experiment.loading import load_experiment
    from flowprior.experiment.plan import without_missing_solvers
    from flowprior.tracking import publish_experiment

    experiment, _ = without_missing_solvers(load_experiment(params))
    if not publish_experiment(experiment, Path.cwd(), f"make publish PARAMS={params}"):
        raise typer.Exit(1)


@app.command()
def prune(
    params: Annotated[Path, typer.Argument(help="An experiment, such as params/demo.yaml.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list them.")] = False,
) -> None:
    """Remove results and logs of jobs that an experiment no longer has: nothing is made of them."""
    from rich.filesize import decimal

    from flowprior.experiment.loading import load_experiment
    from flowprior.experiment.plan import check_names
    from flowprior.experiment.pruning import check_idle, remove, stale_files

    experiment = load_experiment(params)
    check_names(experiment)
    if not Path("results", experiment.name).is_dir():
        raise FlowpriorError(f"no folder results/{experiment.name} here; run this in the repository, after a run")
    files = stale_files(experiment)
    sizes = [file.lstat().st_size for file in files]
    for file, size in zip(files, sizes, strict=True):
        print(f"{file}  {decimal(size)}")
    if not dry_run:
        check_idle()
        remove(files)
    print(f"{'would remove' if dry_run else 'removed'} {len(files)} files, {decimal(sum(sizes))}")


@app.command()
def ui(
    port: Annotated[int | None, typer.Option(help="Port; default: a free one.")] = None,
) -> None:
    """Show the recorded runs in a browser, served to this machine only, until Ctrl-C."""
    from flowprior.tracking import serve

    serve(Path.cwd(), port)


def _flow(checkpoint: Path) -> Flow:
    """A flow of a folder, or of MLflow's registry; a path drops one of the two slashes of an address."""
    from flowprior import tracking
    from flowprior.models import flows

    place = checkpoint.as_posix()
    return tracking.load_flow(place) if place.startswith("models:/") else flows.load(checkpoint)


def _settings(pairs: list[str]) -> dict[str, Any]:
    """`name=value` pairs; a value is read as YAML would read it."""
    found = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign:
            raise FlowpriorError(f"--set takes name=value, got '{pair}'")
        found[name] = _parsed(pair, value)
    return found


def _parsed(pair: str, value: str) -> Any:
    from flowprior import strict_yaml

    try:
        return strict_yaml.parse(value)
    except FlowpriorError as error:
        raise FlowpriorError(f"--set {pair}: {error}") from None


def main() -> None:
    """The program: user errors are one line on stderr and exit status 2."""
    with one_line_errors():
        app()


if __name__ == "__main__":
    main()
