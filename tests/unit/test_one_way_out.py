"""Only a call that passed the gate and is recorded reaches Icypeas: nobody else makes a client or asks for one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
OURS = ("config", "people", "keys", "enrichment")
CLIENT = "enrichment.providers.icypeas.client"
FACTORY = "enrichment.providers.factory"
MAY_USE = {
    CLIENT: {"enrichment/providers/factory.py", "enrichment/providers/icypeas/provider.py"},
    "enrichment.providers.icypeas.provider": {"enrichment/providers/factory.py"},
    FACTORY: {"enrichment/services/provider_call.py"},
}
# Other ways to speak HTTP. The demo asks its own processes whether they are up, and seeds the sandbox's history; the
# crash test reads the sandbox's ledger, the benchmark asks its own web process for pages; secrets may come from a vault.
HTTP_LIBRARIES = {"httpx", "httpcore", "requests", "urllib3", "aiohttp", "urllib.request", "http.client"}
MAY_SPEAK_HTTP = (
    "enrichment/providers/icypeas/",
    "enrichment/chaos/scene.py",
    "enrichment/scale/measure.py",
    "enrichment/management/commands/demo.py",
    "enrichment/management/commands/seed_demo.py",
    "keys/secrets/vault.py",
)


FINDS_ITS_OWN = ("enrichment/operations/__init__.py",)  # imports by a computed name: the files beside it


def modules(root: Path) -> Iterator[tuple[str, ast.Module]]:
    """Every module of the product below `root` as (path, tree)."""
    for package in OURS:
        for path in sorted((root / package).rglob("*.py")):
            yield path.relative_to(root).as_posix(), ast.parse(path.read_text(), str(path))


def imports(tree: ast.Module, path: str) -> Iterator[str]:
    """Full names of what a module imports: `from a import b` gives both `a` and `a.b`."""
    package = path.removesuffix(".py").removesuffix("/__init__").split("/")
    package = package if path.endswith("/__init__.py") else package[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def strangers(root: Path) -> list[str]:
    """Modules that reach for a client, the provider, the factory or HTTP and may not."""
    found = []
    for path, tree in modules(root):
        names = set(imports(tree, path))
        for target, allowed in MAY_USE.items():
            if path not in allowed and any(name == target or name.startswith(f"{target}.") for name in names):
                found.append(f"{path} imports {target}")
        if names & HTTP_LIBRARIES and not path.startswith(MAY_SPEAK_HTTP):
            found.append(f"{path} speaks HTTP")
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = (
                    node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                )
                if called == "IcypeasClient" and path != "enrichment/providers/factory.py":
                    found.append(f"{path} constructs the client")
                if called == "make_provider" and path != "enrichment/services/provider_call.py":
                    found.append(f"{path} asks for a provider")
                if called in {"import_module", "__import__"} and path not in FINDS_ITS_OWN:
                    found.append(f"{path} imports by a computed name")
    return sorted(set(found))


def test_only_the_factory_makes_a_client_and_only_a_recorded_call_asks_for_one() -> None:
    assert strangers(PROJECT) == []


def test_rules_name_modules_that_exist() -> None:
    paths = {path for allowed in MAY_USE.values() for path in allowed}

    assert [path for path in sorted(paths) if not (PROJECT / path).is_file()] == []


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("keys/gate.py", f"from {CLIENT} import IcypeasClient\n", f"keys/gate.py imports {CLIENT}"),
        ("keys/gate.py", "def f(m):\n    m.IcypeasClient('', '')\n", "keys/gate.py constructs the client"),
        (
            "enrichment/views.py",
            "from enrichment.providers import factory\n",
            f"enrichment/views.py imports {FACTORY}",
        ),
        (
            "enrichment/services/other.py",
            "from ..providers.factory import make_provider as m\n",
            f"enrichment/services/other.py imports {FACTORY}",
        ),
        (
            "enrichment/tasks.py",
            "def f(m):\n    m.make_provider()\n",
            "enrichment/tasks.py asks for a provider",
        ),
        ("people/x.py", "import httpx\n", "people/x.py speaks HTTP"),
        ("people/x.py", "from urllib import request\n", "people/x.py speaks HTTP"),
        (
            "people/x.py",
            "import importlib\nimportlib.import_module('a')\n",
            "people/x.py imports by a computed name",
        ),
    ],
)
def test_stranger_is_found_when_one_is_planted(
    tmp_path: Path, path: str, source: str, complaint: str
) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(source)

    assert strangers(tmp_path) == [complaint]
