"""Imports go one way, towards what is more general; those inside functions count, those for types alone do not."""

import ast
import graphlib
from pathlib import Path

ROOT = Path(__file__).parents[1] / "src"
#: Workspaces of the package from the most general to the most special; one may import those that stand before it.
ROOMS = (
    *("errors", "files", "fingerprint", "precision", "parallel", "randomness", "registry", "strict_yaml", "tensors"),
    *("device", "progress", "images", "evaluation", "operators", "optim", "models", "training", "solvers", "studies"),
    *("experiment", "provenance", "report", "records", "tracking", "cli"),
)
#: A model's loss and data order are its own: it says how it is trained.
TOGETHER = {("models", "training")}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}


def module_of(name):
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name


def imports_of(path):
    tree = ast.parse(path.read_text())
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (module_of(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: write the whole name of what is imported"
            yield from (module_of(f"{node.module}.{alias.name}") for alias in node.names)


GRAPH = {
    name: {found for found in imports_of(path) if found not in ("", "flowprior", name)}
    for name, path in MODULES.items()
}


def test_no_imports_go_in_circles():
    list(graphlib.TopologicalSorter(GRAPH).static_order())  # raises CycleError, which names the circle


def test_rooms_know_only_what_is_more_general():
    room = {name: name.split(".")[1] for name in MODULES if "." in name}
    assert set(room.values()) == set(ROOMS)
    wrong = {
        (name, found)
        for name, inside in room.items()
        for found in GRAPH[name]
        if ROOMS.index(room[found]) > ROOMS.index(inside) and (inside, room[found]) not in TOGETHER
    }
    assert not wrong


def test_mlflow_is_known_in_one_room():
    users = {
        path.relative_to(ROOT / "flowprior").parts[0]
        for path in MODULES.values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
        if name.split(".")[0] == "mlflow"
    }
    assert users == {"tracking"}
