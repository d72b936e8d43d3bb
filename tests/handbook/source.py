"""Finds every reason in the code: of errors, of preflight findings, of conditions and Events."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import pkgutil
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controller.api import conditions
from controller.api.phase import Phase
from providers.model import PowerState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parents[2]
PACKAGES = ("controller", "providers", "converters")

_REASON = re.compile(r"[A-Z][a-z0-9]+(?:[A-Z]+[a-z0-9]*)*|[A-Z]{2,}[a-z][A-Za-z0-9]*")
_SOURCE_FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# Calls that state a reason: place of the condition's type (or where else it surfaces), and of the reason.
_CONDITION_CALLS = {"condition": (0, 2), "true": (0, 1), "false": (0, 1)}
_OTHER_CALLS = {"Wait": ("Succeeded", 1), "Verdict": ("Succeeded", 0)}
_EVENT_METHOD_REASON = 2  # event(object, type, reason, message)
_EVENT_TYPES = {"Normal", "Warning"}
_TABLE_COLUMNS = 3  # (identifier, message, remedy) of findings, (type, reason, message) of Events
_STOPS, _OVERRULED, _WARNS = "stops", "stops, unless skipped", "warns"
_WEIGHTS = {
    "critical": _STOPS,
    "_critical": _STOPS,
    "prediction": _OVERRULED,
    "warning": _WARNS,
    "_warning": _WARNS,
}
# Words of the controller that are reasons as they are.
_DYNAMIC = {conditions.SUCCEEDED: tuple(Phase), conditions.SOURCE_POWERED_OFF: tuple(PowerState)}


@dataclass(frozen=True, slots=True)
class ErrorReason:
    """A kind of error: when it surfaces, in its own docstring's words, and whether it may pass."""

    when: str
    retryable: bool


@dataclass(slots=True)
class FindingReason:
    """What the code says of a finding, at all places that state it."""

    weights: list[str] = field(default_factory=list)
    says: list[str] = field(default_factory=list)
    remedies: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Reasons:
    """All reasons that the code can state.

    Attributes:
        errors: By reason, the kinds of errors that have it.
        findings: By identifier, weight, message and remedy.
        conditions: By reason, the types of conditions it stands in, and `Event`.
    """

    errors: dict[str, list[ErrorReason]] = field(default_factory=dict)
    findings: dict[str, FindingReason] = field(default_factory=dict)
    conditions: dict[str, set[str]] = field(default_factory=dict)

    def names(self) -> set[str]:
        """Return all reasons."""
        return self.errors.keys() | self.findings.keys() | self.conditions.keys()


@functools.cache
def collect() -> Reasons:
    """Read the code, once; the answer is everybody's, and must not be changed."""
    reasons = Reasons()
    for kind in _error_classes():
        when = " ".join(inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].split())
        reasons.errors.setdefault(kind.reason, []).append(ErrorReason(when, kind.retryable))
    for path in _SOURCE_FILES:
        module = Module(ast.parse(path.read_text()))
        _read_findings(module, reasons)
        _read_conditions(module, reasons)
    for where, words in _DYNAMIC.items():
        for word in words:
            reasons.conditions.setdefault(word.value, set()).add(where)
    return reasons


class Module:
    """A file's syntax, and which function each of its nodes is in."""

    def __init__(self, tree: ast.Module) -> None:
        self.nodes: list[ast.AST] = []
        self.functions: list[ast.FunctionDef] = []
        self._scopes: dict[ast.AST, ast.FunctionDef] = {}
        self._tree = tree
        self._read(tree, None)

    def _read(self, node: ast.AST, scope: ast.FunctionDef | None) -> None:
        self.nodes.append(node)
        if scope is not None:
            self._scopes[node] = scope
        if isinstance(node, ast.FunctionDef):
            self.functions.append(node)
            scope = node
        for child in ast.iter_child_nodes(node):
            self._read(child, scope)

    def texts(self, value: ast.expr) -> list[str]:
        """Return the texts that an expression can be, names being looked up where they are assigned."""
        match value:
            case ast.Constant(value=str(text)):
                return [text]
            case ast.IfExp(body=body, orelse=otherwise):
                return [*self.texts(body), *self.texts(otherwise)]
            case ast.JoinedStr(values=parts):
                return ["".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts)]
            case ast.Name(id=name):
                scope = self._scopes.get(value)
                found = self._assigned(ast.walk(scope), name) if scope else []
                found = found or self._assigned(self._tree.body, name)
                return [text for assigned in found for text in self.texts(assigned)]
        return []

    def nearest_texts(self, value: ast.expr) -> list[str]:
        """Return what `texts` does, of a name only by what was assigned to it last, in the order of lines."""
        if not isinstance(value, ast.Name):
            return self.texts(value)
        scope = self._scopes.get(value)
        found = self._assigned(ast.walk(scope) if scope else (), value.id)
        before = [
            node for node in found or self._assigned(self._tree.body, value.id) if node.lineno <= value.lineno
        ]
        return self.texts(max(before, key=lambda node: node.lineno)) if before else []

    def passed_for(self, value: ast.expr) -> list[ast.expr]:
        """Return what callers in this file pass, when `value` is a parameter; else `value` itself."""
        scope = self._scopes.get(value)
        if not (isinstance(value, ast.Name) and isinstance(scope, ast.FunctionDef)):
            return [value]
        names = [argument.arg for argument in scope.args.args]
        if value.id not in names or scope.name in _WEIGHTS:
            return [value]
        calls = [node for node in self.nodes if isinstance(node, ast.Call)]
        return [
            call.args[names.index(value.id)] for call in calls if getattr(call.func, "id", "") == scope.name
        ]

    def _assigned(self, nodes: Iterable[ast.AST], name: str) -> list[ast.expr]:
        found = []
        for node in nodes:
            match node:
                case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                    found.append(value)
                case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                    found += [
                        value
                        for target, value in zip(targets, values, strict=False)
                        if isinstance(target, ast.Name) and target.id == name
                    ]
        return found


def _error_classes() -> Iterator[Any]:
    seen = set()
    for name in PACKAGES:
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if module.name.endswith("__main__"):
                continue
            for kind in vars(importlib.import_module(module.name)).values():
                if inspect.isclass(kind) and issubclass(kind, Exception) and kind not in seen:
                    seen.add(kind)
                    # A class that only others derive from says so, and is raised by nobody.
                    base = (kind.__doc__ or "").startswith("Base of")
                    if not base and isinstance(getattr(kind, "reason", None), str):
                        yield kind


def _read_findings(module: Module, reasons: Reasons) -> None:
    """Read weight, message and remedy of findings, from calls and from tables."""
    for node in module.nodes:
        weight = _STOPS
        match _by_position(node):
            case ast.Call(func=ast.Name(id="Finding"), args=[identifier, severity, message, remedy, *_]):
                weight = _WARNS if getattr(severity, "attr", "") == "WARNING" else _STOPS
            case ast.Call(func=ast.Name(id=function), args=[identifier, message, remedy, *_]) if (
                function in _WEIGHTS
            ):
                weight = _WEIGHTS[function]
            case ast.Tuple(elts=[identifier, ast.Constant(value=str(words)) as message, remedy]) if (
                " " in words
            ):
                pass
            case _:
                continue
        if isinstance(node, ast.Call) and any(word.arg == "prediction" for word in node.keywords):
            weight = _OVERRULED if weight == _STOPS else weight
        names = [name for passed in module.passed_for(identifier) for name in module.texts(passed)]
        for name in names:
            if _REASON.fullmatch(name):
                finding = reasons.findings.setdefault(name, FindingReason())
                finding.weights.append(weight)
                finding.says += module.nearest_texts(message)
                finding.remedies += module.nearest_texts(remedy)


def _by_position(node: ast.AST) -> ast.AST:
    """Return a call of `Finding` by keywords as one by position."""
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding" and not node.args:
        words = {word.arg: word.value for word in node.keywords}
        parts = [words[name] for name in ("id", "severity", "message", "remedy") if name in words]
        return ast.Call(node.func, parts, [])
    return node


def _read_conditions(module: Module, reasons: Reasons) -> None:
    for node in module.nodes:
        if isinstance(node, ast.Call):
            _read_call(node, module, reasons)
        elif isinstance(node, ast.Tuple) and len(node.elts) == _TABLE_COLUMNS:
            kind, reason, _ = node.elts
            if isinstance(kind, ast.Constant) and kind.value in _EVENT_TYPES:
                _note(reasons, "Event", reason, module)


def _read_call(call: ast.Call, module: Module, reasons: Reasons) -> None:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in _CONDITION_CALLS:
        kind, reason = (call.args[place] for place in _CONDITION_CALLS[name])
        _note(reasons, _condition_type(kind), reason, module)
    elif name in _OTHER_CALLS:
        where, place = _OTHER_CALLS[name]
        if len(call.args) > place:
            _note(reasons, where, call.args[place], module)
    elif name == "event" and len(call.args) > _EVENT_METHOD_REASON:
        _note(reasons, "Event", call.args[_EVENT_METHOD_REASON], module)
    else:
        for function in (function for function in module.functions if function.name == name):
            names = [argument.arg for argument in function.args.args]
            for argument, value in zip(names, call.args, strict=False):
                if argument == "reason":
                    for where in _stated_in(function):
                        _note(reasons, where, value, module)


def _stated_in(function: ast.FunctionDef) -> set[str]:
    """Return the types of conditions to which a function passes its parameter `reason` on."""
    found = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in _CONDITION_CALLS:
                kind, reason = (node.args[place] for place in _CONDITION_CALLS[name])
                if isinstance(reason, ast.Name) and reason.id == "reason":
                    found.add(_condition_type(kind))
    return found or {"Event"}


def _note(reasons: Reasons, where: str, value: ast.expr, module: Module) -> None:
    for text in module.texts(value):
        if _REASON.fullmatch(text):
            reasons.conditions.setdefault(text, set()).add(where)


def _condition_type(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return str(getattr(conditions, name, "".join(word.title() for word in name.split("_"))))
    return ""
