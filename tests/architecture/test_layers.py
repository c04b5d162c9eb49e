"""The import rule knows every module, and the shortcuts around it are not taken."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRODUCTION = ["app", "webhooks", "reconciliation", "migrations"]

#: The entry point stands above every layer; it holds nothing but the call of the command line.
ABOVE_ALL = {"app.__main__", "app.__init__"}

#: Who may read the environment.
READ_THE_ENVIRONMENT = {"app/settings.py", "simulator/__main__.py"}

_READS = re.compile(r"os\.environ|os\.getenv|from os import .*(environ|getenv)")


def modules_of(*packages: str) -> list[Path]:
    return sorted(
        path.relative_to(ROOT) for package in packages for path in (ROOT / package).rglob("*.py")
    )


def children_of_app() -> list[str]:
    names = {
        path.stem if path.is_file() else path.name
        for path in (ROOT / "app").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    return sorted({f"app.{name}" for name in names} - ABOVE_ALL)


def names_in_the_layers() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    [layers] = [
        contract["layers"]
        for contract in project["tool"]["importlinter"]["contracts"]
        if contract["id"] == "layers"
    ]
    return {
        name.strip(" ()")
        for layer in layers
        for part in layer.split("|")
        for name in part.split(":")
    }


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str() as module):
                yield module
            case ast.Call(
                func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str() as name)]
            ):
                yield name
            case _:
                pass


def importers_of(packages: set[str], modules: list[Path]) -> list[str]:
    return [
        f"{path} imports {name}"
        for path in modules
        for name in imports_of(path)
        if name.split(".")[0] in packages
    ]


@pytest.mark.parametrize("name", children_of_app())
def test_every_module_of_the_app_has_its_layer(name: str) -> None:
    assert name in names_in_the_layers()


@pytest.mark.parametrize("name", ["webhooks", "reconciliation"])
def test_the_packages_beside_the_app_have_their_layer(name: str) -> None:
    assert name in names_in_the_layers()


def test_the_layers_name_only_what_exists() -> None:
    assert names_in_the_layers() == {*children_of_app(), "webhooks", "reconciliation"}


def test_production_does_not_know_the_simulator() -> None:
    assert importers_of({"simulator"}, [*modules_of(*PRODUCTION), Path("wsgi.py")]) == []


def test_simulator_knows_nothing_of_the_service() -> None:
    assert importers_of(set(PRODUCTION), modules_of("simulator")) == []


def test_only_the_settings_read_the_environment() -> None:
    readers = {
        path.as_posix()
        for path in [*modules_of(*PRODUCTION, "simulator"), Path("wsgi.py")]
        if _READS.search((ROOT / path).read_text())
    }

    assert readers <= READ_THE_ENVIRONMENT
