"""Recipes: YAML files checked against a schema, with overrides from the command line.

A recipe's schema lives in the room that runs it, as a subclass of `Recipe`. Errors name the file, the line and
the key, and for an unknown key the nearest one that exists.

`extends: NAME` takes every key of another recipe that is not written here: the name of one that ships, or a path
seen from the file. It may stand at the top or in any section. Sections are merged; lists and tables are replaced.
"""

from __future__ import annotations

import contextlib
import difflib
import typing
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar, cast

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from codecria.common.errors import CodecriaError, explain_os_error


class Recipe(BaseModel):
    """Base of every recipe: unknown keys are errors, values are checked, instances do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    not_inherited: ClassVar[tuple[str, ...]] = ()
    """Keys that `extends` does not bring along."""

    def to_yaml(self) -> str:
        """The whole recipe with every default written out; loading it again gives an equal recipe."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def resolved(value: Any) -> Any:
    """A recipe's values to compare: a text that is a path of what is there is that path from the root.

    The same place may be named from the working folder or from the root.
    """
    if isinstance(value, dict):
        return {key: resolved(each) for key, each in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [resolved(each) for each in cast("list[Any]", value)]
    if isinstance(value, str) and value:
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # nothing there, too long, with NUL, a loop
            return str(Path(value).resolve(strict=True))
    return value


R = TypeVar("R", bound=Recipe)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's floats, where PyYAML follows 1.1 and reads `3e-4` as text; a key twice is an error, as YAML has it."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        """Raise where a key stands twice: PyYAML keeps the last and says nothing."""
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            name = str(key.value)
            if name in lines:
                what = f"the key '{name}' stands twice, first in line {lines[name]}"
                raise yaml.MarkedYAMLError(problem=what, problem_mark=key.start_mark)
            lines[name] = key.start_mark.line + 1
        return node


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regex) for tag, regex in resolvers if tag != "tag:yaml.org,2002:float"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    __import__("re").compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|nan)$"),
    list("-+0123456789."),
)


def shipped_recipes() -> dict[str, Path]:
    """Recipes that come with the package, by name."""
    folder = Path(__file__).parent.parent / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_recipe(name_or_path: str | Path) -> Path:
    """A recipe's path from a path, or from the name of one that ships with the package."""
    path = Path(name_or_path)
    if path.is_file():
        return path
    shipped = shipped_recipes()
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    near = _nearest(str(name_or_path), list(shipped))
    mend = f"did you mean '{near}'?" if near else f"name a YAML file, or one of: {', '.join(shipped) or 'none ship'}"
    raise CodecriaError("no such recipe", where=name_or_path, mend=mend)


def load_recipe(schema: type[R], source: str | Path, overrides: list[str] | None = None) -> R:
    """Read, override and check a recipe.

    Args:
        schema: the class the recipe must fit.
        source: a YAML file, or the name of a recipe that ships with the package.
        overrides: `a.b=c` each; the value is read as YAML (`--set optimiser.peak_rate=1e-4`).

    Raises:
        CodecriaError: an unknown key (with the nearest that exists), a missing one, or a value that does not fit,
            each with file and line.
    """
    tree, files = _read([schema], find_recipe(source), ())
    return _checked(schema, tree, files, overrides)


def build_recipe(schema: type[R], values: dict[str, Any], overrides: list[str] | None = None) -> R:
    """Check a recipe that is not in a file: values of the command line, and overrides.

    Raises:
        CodecriaError: as `load_recipe`.
    """
    return _checked(schema, values, [], overrides)


def _checked(schema: type[R], tree: dict[str, Any], files: list[_File], overrides: list[str] | None) -> R:
    overridden = {_apply_override(tree, override) for override in overrides or []}
    try:
        return schema.model_validate(tree)
    except ValidationError as error:
        raise _explain(error, schema, files, overridden) from error


class _File(NamedTuple):
    """A file that a recipe was read from, and the place in the recipe where its mapping lies."""

    place: tuple[str | int, ...]
    path: Path
    node: Any


def _read(models: list[type[BaseModel]], path: Path, below: tuple[Path, ...]) -> tuple[dict[str, Any], list[_File]]:
    """The mapping in a file, what it extends filled in; and the files it came from, this one first."""
    if path.resolve() in below:
        chain = " → ".join(each.name for each in (*below[below.index(path.resolve()) :], path))
        raise CodecriaError(f"recipes that extend one another in a circle: {chain}", where=path)
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=_Loader)
        data = yaml.load(text, Loader=_Loader)
    except OSError as error:
        raise explain_os_error(error, path) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise CodecriaError("not UTF-8", where=f"{path}:{line}", mend="save it as UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f":{mark.line + 1}"
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise CodecriaError(f"not valid YAML: {problem}", where=f"{path}{line}") from error
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise CodecriaError("a recipe is a mapping of keys to values", where=path)
    files = [_File((), path, node)]
    return _extend(models, data, (), files, (*below, path.resolve())), files


def _extend(
    models: list[type[BaseModel]], value: Any, place: tuple[str | int, ...], files: list[_File], below: tuple[Path, ...]
) -> Any:
    """A value with every `extends` in it resolved; the files that were read for it join `files`."""
    if isinstance(value, list):
        items = cast("list[Any]", value)
        return [_extend(models, each, (*place, number), files, below) for number, each in enumerate(items)]
    if not isinstance(value, dict) or not models:
        return value
    mapping = cast("dict[str, Any]", value)
    own = {
        key: _extend(_models_at(models, key), each, (*place, key), files, below)
        for key, each in mapping.items()
        if key != "extends"
    }
    if "extends" not in mapping:
        return own
    name = str(mapping["extends"])
    beside = files[0].path.parent / name
    base, more = _read(models, find_recipe(beside if beside.is_file() else name), below)
    files += [_File((*place, *each.place), each.path, each.node) for each in more]
    left_out = {key for model in models for key in getattr(model, "not_inherited", ())}
    return _merge(models, {key: each for key, each in base.items() if key not in left_out}, own)


def _merge(models: list[type[BaseModel]], base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in own.items():
        inner, below = base.get(key), _models_at(models, key)
        both = isinstance(inner, dict) and isinstance(value, dict) and below
        merged[key] = _merge(below, cast("Any", inner), cast("Any", value)) if both else value
    return merged


def _apply_override(tree: dict[str, Any], override: str) -> str:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise CodecriaError(f"'{override}' is not of the form key.sub=value", where="--set")
    *parents, last = key.strip().split(".")
    place: Any = tree
    found: list[str] = []
    for part in parents:
        if isinstance(place, list):  # an item by its name: `stages.code.steps`
            items = cast("list[Any]", place)
            names = [item.get("name", "") if isinstance(item, dict) else "" for item in items]
            if part not in names:
                raise CodecriaError(f"nothing there is named '{part}'", where=f"--set {key}")
            place = items[names.index(part)]
            found.append(str(names.index(part)))
        else:
            place = place.setdefault(part, {})
            found.append(part)
        if not isinstance(place, dict | list):
            raise CodecriaError(f"'{part}' holds a value, not keys", where=f"--set {key}")
    if isinstance(place, list):
        raise CodecriaError(f"'{found[-1]}' holds a list: name an item of it", where=f"--set {key}")
    try:
        cast("dict[str, Any]", place)[last] = yaml.load(value, Loader=_Loader)
    except yaml.YAMLError as error:
        raise CodecriaError(f"'{value}' is not a YAML value", where=f"--set {key}") from error
    return ".".join([*found, last])


def _explain(error: ValidationError, schema: type[Recipe], files: list[_File], overridden: set[str]) -> CodecriaError:
    # A misspelt key often leaves the right one missing: the misspelling is the one to name.
    problem = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    location = [part for part in problem["loc"] if not (isinstance(part, str) and part.startswith("function-"))]
    dotted = ".".join(str(part) for part in location)
    where = f"--set {dotted}" if dotted in overridden else _line_of(files, location)
    if problem["type"] == "extra_forbidden":
        known = _keys_at(schema, location[:-1])
        near = _nearest(str(location[-1]), known)
        mend = f"did you mean '{near}'?" if near else f"known keys: {', '.join(known)}"
        return CodecriaError(f"unknown key '{dotted}'", where=where, mend=mend)
    if problem["type"] == "missing":
        return CodecriaError(f"the key '{dotted}' is missing", where=where, mend=f"add it, or --set {dotted}=VALUE")
    message = problem["msg"].removeprefix("Value error, ")
    return CodecriaError(f"'{dotted}' = {problem['input']!r}: {message[:1].lower()}{message[1:]}", where=where)


def _keys_at(schema: Any, location: list[Any]) -> list[str]:
    """Names of the fields a recipe has at `location`, looking through lists, dicts, optionals and unions."""
    schemas = _models_in(schema)
    for part in location:
        schemas = _models_at(schemas, part) or schemas
    return sorted({name for model in schemas for name in model.model_fields})


def _models_at(models: list[type[BaseModel]], key: Any) -> list[type[BaseModel]]:
    return [
        inner
        for model in models
        if key in model.model_fields
        for inner in _models_in(model.model_fields[key].annotation)
    ]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in typing.get_args(annotation) for model in _models_in(inner)]


def _line_of(files: list[_File], location: list[Any]) -> str:
    """`file:line` of the deepest part of `location` that stands in one of the files."""
    deepest, where = -1, str(files[0].path) if files else "command line"
    for place, path, node in files:
        if tuple(location[: len(place)]) == place:
            depth, line = _line_in(node, location[len(place) :])
            if len(place) + depth > deepest:
                deepest, where = len(place) + depth, f"{path}{line}"
    return where


def _line_in(node: Any, location: list[Any]) -> tuple[int, str]:
    line, depth = "", 0
    for part in location:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    line, node = f":{key.start_mark.line + 1}", value
                    break
            else:
                break
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = f":{node.start_mark.line + 1}"
        else:
            break
        depth += 1
    return depth, line


def _nearest(name: str, known: list[str]) -> str | None:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return close[0] if close else None
