"""Imports point down: `enrichment` → `keys` → `people`, and down a list of levels inside each app.

A new module gets a line in `LEVELS`. Modules under one line may use each other, as long as no circle comes of it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PACKAGES = ("config", "people", "keys", "enrichment")

# From the bottom to the top; a name stands for the module and everything inside of it. The longest name decides.
LEVELS: tuple[tuple[str, ...], ...] = (
    # What apps may use of the project's own set-up: these know no app.
    (
        "config.env",
        "config.htmx",
        "config.redaction",
        "config.filesystem_broker",
        "config.process_runner",
        "config.ui",
    ),
    ("people", "people.rights", "people.migrations", "people.csv_out"),
    ("people.models",),
    ("people.audit", "people.seals", "people.audit_export"),
    ("people.selectors",),
    ("people.proof",),
    ("people.permissions", "people.services", "people.chores", "people.notices"),
    ("people.digests",),
    ("people.forms",),
    ("people.middleware", "people.views", "people.management"),
    ("people.urls", "people.apps"),
    (
        "keys",
        "keys.choices",
        "keys.scopes",
        "keys.job_links",
        "keys.clock",
        "keys.credit_sum",
        "keys.migrations",
    ),
    ("keys.lifecycle",),
    ("keys.call_filter",),
    ("keys.models",),
    ("keys.secrets.file",),
    ("keys.secrets.env", "keys.secrets.vault", "keys.secrets.aws"),
    ("keys.secrets.base",),
    ("keys.secrets",),
    ("keys.counted",),
    ("keys.budgets",),
    ("keys.ledger", "keys.limiter", "keys.presence"),
    ("keys.breaker", "keys.calls"),
    ("keys.finding_rules",),
    ("keys.findings",),
    ("keys.reminders",),
    ("keys.finding_exceptions",),
    ("keys.use", "keys.hours"),
    ("keys.use_chart",),
    ("keys.selectors",),
    ("keys.gate", "keys.services"),
    ("keys.causes",),
    ("keys.finding_selectors",),
    ("keys.inventory", "keys.explainer", "keys.state_page"),
    ("keys.calls_page",),
    ("keys.forms", "keys.budget_forms", "keys.addresses"),
    ("keys.finding_forms",),
    ("keys.views", "keys.finding_views", "keys.middleware"),
    ("keys.record_views",),
    ("keys.checks",),
    ("keys.urls", "keys.apps"),
    ("enrichment", "enrichment.choices", "enrichment.normal_forms", "enrichment.providers.base"),
    ("enrichment.providers.icypeas", "enrichment.migrations"),
    ("enrichment.operations",),
    ("enrichment.csv_import", "enrichment.column_mapping"),
    ("enrichment.csv_export", "enrichment.providers.icypeas.provider"),
    ("enrichment.models",),
    ("enrichment.prices",),
    ("enrichment.selectors", "enrichment.providers.factory"),
    ("enrichment.services.transitions", "enrichment.services.leases", "enrichment.services.consequences"),
    ("enrichment.services.provider_call",),
    ("enrichment.services.reservations", "enrichment.services.refusals"),
    ("enrichment.services.answers", "enrichment.services.reads"),
    ("enrichment.services.send_path", "enrichment.services.side_by_side", "enrichment.services.preparing"),
    ("enrichment.services.decisions", "enrichment.services.batching"),
    ("enrichment.services.collecting",),
    ("enrichment.services.looking",),
    (
        "enrichment.services.processing",
        "enrichment.services.balances",
        "enrichment.services.lead_counts",
        "enrichment.services.hooks",
        "enrichment.services.key_tests",
        "enrichment.services.uploads",
        "enrichment.services.exporting",
    ),
    ("enrichment.services.attempts",),
    ("enrichment.watchdog", "enrichment.roll_call"),
    ("enrichment.tasks",),
    ("enrichment.services.submission",),
    ("enrichment.services.searching", "enrichment.services.chains"),
    ("enrichment.forms", "enrichment.job_page_forms", "enrichment.lookup_forms", "enrichment.lead_forms"),
    (
        "enrichment.job_page",
        "enrichment.job_list_page",
        "enrichment.review_page",
        "enrichment.uncertain_page",
    ),
    (
        "enrichment.overview_page",
        "enrichment.lookup_page",
        "enrichment.leads_page",
        "enrichment.retry_page",
        "enrichment.spend_page",
    ),
    ("enrichment.chaos", "enrichment.doctor", "enrichment.scale"),
    ("enrichment.views", "enrichment.management"),
    ("enrichment.urls", "enrichment.apps"),
    # Wiring: knows every app, and no app knows it.
    ("config",),
)
# The package `config` makes the Celery app when anything of it is imported; that is no use of it.
SANDBOX = "enrichment.providers.icypeas.sandbox"
NO_DJANGO = (
    "enrichment.providers.base",
    "enrichment.providers.factory",
    "enrichment.providers.icypeas",
    "enrichment.operations",
    "enrichment.normal_forms",
    "enrichment.csv_import",
    "enrichment.csv_export",
    "enrichment.column_mapping",
    "config.process_runner",
    "config.filesystem_broker",
)


def read_modules(root: Path) -> dict[str, ast.Module]:
    """Module name → tree of every module of ours below `root`."""
    found = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = ast.parse(path.read_text(), str(path))
    return found


def is_package(root: Path, module: str) -> bool:
    return (root / module.replace(".", "/") / "__init__.py").is_file()


def imports(root: Path, module: str, tree: ast.Module, known: Mapping[str, ast.Module]) -> Iterator[str]:
    """Modules that `module` imports, of ours the most exact name."""
    package = module.split(".") if is_package(root, module) else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base


def line_of(module: str) -> tuple[int, str] | None:
    """The level of a module and the name in `LEVELS` that decided."""
    lines = [
        (level, name)
        for level, names in enumerate(LEVELS)
        for name in names
        if module == name or module.startswith(f"{name}.")
    ]
    return max(lines, key=lambda line: len(line[1]), default=None)


def is_ours(module: str) -> bool:
    return module.split(".")[0] in PACKAGES


def upward_arrows(root: Path) -> list[str]:
    """Every import that does not point down, as a sentence."""
    known = read_modules(root)
    found = []
    for module, tree in known.items():
        own = line_of(module)
        if own is None or (own[1] in {"people", "keys", "enrichment"} and module != own[1]):
            if tree.body or not is_package(root, module):  # a folder's empty `__init__` needs none
                found.append(f"{module} has no line in LEVELS")
            continue
        for target in imports(root, module, tree, known):
            if not is_ours(target) or target == module:
                continue
            if module.startswith(SANDBOX):
                if not target.startswith(SANDBOX):
                    found.append(f"{module} imports {target}: the sandbox knows nothing of ours")
                continue
            if target.startswith(SANDBOX) and not module.startswith("enrichment.management"):
                found.append(f"{module} imports {target}: nobody but its command knows the sandbox")
                continue
            theirs = line_of(target)
            if theirs is not None and theirs[0] >= own[0] and theirs[1] != own[1]:
                found.append(f"{module} imports {target}, which is not below it")
    return sorted(set(found))


def circles(root: Path) -> list[list[str]]:
    """Modules that import each other in a circle."""
    known = read_modules(root)
    graph = {
        module: {
            target for target in imports(root, module, tree, known) if target in known and target != module
        }
        for module, tree in known.items()
    }
    found: list[list[str]] = []
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> None:
        if module in path:
            found.append([*path[path.index(module) :], module])
            return
        if module in done:
            return
        for target in sorted(graph[module]):
            walk(target, [*path, module])
        done.add(module)

    for module in sorted(graph):
        walk(module, [])
    return found


def uses_of_django(root: Path) -> list[str]:
    known = read_modules(root)
    return sorted(
        f"{module} imports {target}"
        for module, tree in known.items()
        if any(module == name or module.startswith(f"{name}.") for name in NO_DJANGO)
        for target in imports(root, module, tree, known)
        if target.split(".")[0] in {"django", "celery", "environ"}
    )


def foreign_to_the_sandbox(root: Path) -> list[str]:
    """What the sandbox imports beside itself, the standard library, and the library that invents its people."""
    known = read_modules(root)
    return sorted(
        f"{module} imports {target}"
        for module, tree in known.items()
        if module.startswith(SANDBOX)
        for target in imports(root, module, tree, known)
        if not target.startswith(SANDBOX) and target.split(".")[0] not in {*sys.stdlib_module_names, "faker"}
    )


def unexplained_late_imports(root: Path) -> list[str]:
    """Imports inside functions without a comment at their line or above their block."""
    found = []
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            if "migrations" in path.parts:
                continue
            lines = path.read_text().splitlines()
            for function in ast.walk(ast.parse("\n".join(lines))):
                if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                    continue
                for node in ast.walk(function):
                    if isinstance(node, ast.Import | ast.ImportFrom) and not _is_explained(
                        lines, node.lineno
                    ):
                        found.append(f"{path.relative_to(root)}:{node.lineno}")
    return sorted(set(found))


def _is_explained(lines: list[str], number: int) -> bool:
    """Whether the import at that line, or one of the imports right above it, has a comment."""
    while True:
        line = lines[number - 1]
        if "#" in line:
            return True
        above = lines[number - 2].strip()
        if above.startswith("#"):
            return True
        if not above.startswith(("import ", "from ")):
            return False
        number -= 1


def test_no_import_points_up() -> None:
    assert upward_arrows(PROJECT) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles(PROJECT) == []


def test_client_and_list_reading_know_no_django() -> None:
    assert uses_of_django(PROJECT) == []


def test_sandbox_knows_nothing_of_this_product() -> None:
    assert foreign_to_the_sandbox(PROJECT) == []


def test_import_inside_a_function_says_why() -> None:
    assert unexplained_late_imports(PROJECT) == []


def plant(root: Path, files: Mapping[str, str]) -> None:
    for name, source in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in path.relative_to(root).parents:
            if folder != Path():
                (root / folder / "__init__.py").touch()
        path.write_text(source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("people/models.py", "from keys.models import Account\n"),
        ("keys/gate.py", "from enrichment.models import EnrichmentJob\n"),
        ("keys/gate.py", "import enrichment.choices\n"),
        ("keys/models.py", "from keys import gate\n"),
        ("enrichment/models.py", "from enrichment.services import submission\n"),
        ("enrichment/services/processing.py", "from enrichment.services import submission\n"),
        ("enrichment/services/answers.py", "def f():\n    from enrichment.services import send_path\n"),
        ("enrichment/tasks.py", "from .services.submission import start_job\n"),
        ("enrichment/services/balances.py", "from . import processing\n"),
        ("enrichment/views/job_list.py", "from config.urls import urlpatterns\n"),
        ("enrichment/providers/icypeas/client.py", "from enrichment import models\n"),
        ("enrichment/providers/icypeas/sandbox/store.py", "from enrichment.providers import base\n"),
        ("enrichment/services/uploads.py", "from enrichment.providers.icypeas.sandbox import store\n"),
        ("config/env.py", "from people.models import User\n"),
        ("enrichment/something_new.py", ""),
    ],
)
def test_upward_arrow_is_found_when_one_is_planted(tmp_path: Path, path: str, source: str) -> None:
    targets = ("keys/models.py", "keys/gate.py", "people/models.py", "enrichment/models.py", "config/urls.py")
    targets += ("enrichment/choices.py", "enrichment/providers/base.py", "enrichment/services/processing.py")
    targets += ("enrichment/services/submission.py", "enrichment/services/send_path.py")
    targets += ("enrichment/providers/icypeas/sandbox/store.py",)
    plant(tmp_path, {**dict.fromkeys(targets, ""), path: source})

    found = upward_arrows(tmp_path)

    module = path.removesuffix(".py").replace("/", ".")
    assert [sentence.split()[0] for sentence in found] == [module]


def test_downward_arrows_are_fine(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "keys/models.py": "from people.models import User\n",
            "people/models.py": "",
            "enrichment/tasks.py": "from enrichment.services import processing\n",
            "enrichment/services/processing.py": "from keys import models\nfrom . import send_path\n",
            "enrichment/services/send_path.py": "",
        },
    )

    assert upward_arrows(tmp_path) == []
    assert circles(tmp_path) == []


def test_circle_is_found_when_one_is_planted(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "enrichment/views/a.py": "from enrichment.views import b\n",
            "enrichment/views/b.py": "from enrichment.views import a\n",
        },
    )

    assert upward_arrows(tmp_path) == []
    assert circles(tmp_path) == [["enrichment.views.a", "enrichment.views.b", "enrichment.views.a"]]


def test_other_offences_are_found_when_they_are_planted(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "enrichment/providers/icypeas/client.py": "from django.conf import settings\n",
            "enrichment/providers/icypeas/sandbox/store.py": "import httpx\n",
            "keys/gate.py": "def f():\n    import json\n    return json\n",
            "keys/apps.py": "def f():\n    import json  # the apps must be ready first\n    return json\n",
        },
    )

    assert uses_of_django(tmp_path) == ["enrichment.providers.icypeas.client imports django.conf"]
    assert foreign_to_the_sandbox(tmp_path) == [f"{SANDBOX}.store imports httpx"]
    assert unexplained_late_imports(tmp_path) == ["keys/gate.py:2"]
