"""Which of our own sources a stage depends on, as one fingerprint.

The closure is static and per definition: ``from limbeck.x import f`` brings in ``f``, the definitions of ``x`` that ``f``
names, and what those import in turn, but nothing else of ``x``. Definitions are hashed as syntax trees without docstrings, so a
comment or a docstring reruns nothing and a real edit reruns only the stages that can reach it.
"""

import ast
import functools
import hashlib
import json
import platform
import resource
import sys
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGE = "limbeck"
ROOT = Path(__file__).parent
# Kernels are reached through registries of module names; those modules are added by the caller, per method.
_WHOLE = "*"
# its tables only name those modules, so that a new row of one reruns nothing
REGISTRY = "limbeck.components"


class _Module:
    """One source file, split into its top-level definitions and its imports from the package."""

    def __init__(self, path: Path):
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.imports: dict[str, tuple[str, str]] = {}
        self.effects: list[ast.stmt] = []  # top-level statements that run on import and bind no name
        tree = _without_docstrings(ast.parse(path.read_text(encoding="utf-8")))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                self._add_import(node)
        for statement in tree.body:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                continue
            names = _bound_names(statement)
            for bound in names:
                self.definitions.setdefault(bound, []).append(statement)
            if not names:
                self.effects.append(statement)

    def _add_import(self, node: ast.Import | ast.ImportFrom) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == PACKAGE:
                    self.imports[alias.asname or alias.name.split(".")[0]] = (alias.name, _WHOLE)
        elif node.module and node.module.split(".")[0] == PACKAGE:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                target = (submodule, _WHOLE) if _source(submodule) else (node.module, alias.name)
                self.imports[alias.asname or alias.name] = target


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
                node.body = node.body[1:] or [ast.Pass()]
    return tree


def _bound_names(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return [node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    return []


def _source(module: str) -> Path | None:
    parts = module.split(".")[1:]
    for path in (ROOT.joinpath(*parts).with_suffix(".py") if parts else ROOT / "__init__.py", ROOT.joinpath(*parts, "__init__.py")):
        if path.is_file():
            return path
    return None


@functools.cache
def _module(name: str) -> _Module:
    path = _source(name)
    if path is None:
        raise ModuleNotFoundError(name)
    return _Module(path)


def closure(modules: Iterable[str]) -> dict[tuple[str, str], str]:
    """Every definition that the modules can reach: (module, name) -> its syntax tree as text."""
    found: dict[tuple[str, str], str] = {}
    todo = [(module, _WHOLE) for module in modules]
    seen: set[tuple[str, str]] = set()
    while todo:
        target = todo.pop()
        if target not in seen and target[0] != REGISTRY:
            seen.add(target)
            text, reached = _definition(*target)
            todo += reached
            if text:
                found[target] = text
    return found


@functools.cache  # most stages reach the same ones
def _definition(name: str, symbol: str) -> tuple[str, list[tuple[str, str]]]:
    """The text of a module's definition, and what it names."""
    module = _module(name)
    if symbol in module.imports and symbol not in module.definitions:  # re-exported
        return "", [module.imports[symbol]]
    if symbol == _WHOLE:
        return "", [(name, ""), *((name, other) for other in module.definitions), *module.imports.values()]
    statements = module.effects if symbol == "" else module.definitions.get(symbol, [])
    reached = [(name, "")]
    for node in (node for statement in statements for node in ast.walk(statement)):
        if isinstance(node, ast.Name) and node.id in module.definitions:
            reached.append((name, node.id))
        elif isinstance(node, ast.Name) and node.id in module.imports:
            reached.append(module.imports[node.id])
        elif isinstance(node, ast.Import | ast.ImportFrom):
            reached += [module.imports[a.asname or a.name] for a in node.names if (a.asname or a.name) in module.imports]
    return "\n".join(ast.dump(statement, include_attributes=False) for statement in statements), reached


@functools.cache
def fingerprint(*modules: str) -> str:
    """12 hex digits over all sources that the named modules can reach."""
    items = sorted(closure(modules).items())
    return hashlib.sha256(json.dumps([[*key, text] for key, text in items]).encode()).hexdigest()[:12]


def used() -> dict[str, float]:
    """Of this process and those it has started, so far: seconds of all its threads, and the largest of their peaks of memory."""
    every = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    unit = 2**20 if sys.platform == "darwin" else 2**10
    seconds = sum(one.ru_utime + one.ru_stime for one in every)
    return {"cpu_seconds": round(seconds, 2), "peak_mb": round(max(one.ru_maxrss for one in every) / unit)}


def record(seconds: float, source: str, inputs: Mapping[str, str | list[str]]) -> dict[str, Any]:
    """What changes without changing the content: written beside an artifact, an input of no rule."""
    return {
        "source": source,
        "package": version(PACKAGE),
        "torch": version("torch"),
        "python": platform.python_version(),
        "machine": platform.node(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(seconds, 2),
        "inputs": dict(inputs),
    }
