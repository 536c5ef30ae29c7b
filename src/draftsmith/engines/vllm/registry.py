"""Which architectures an installed vLLM knows, and whether it hands out their hidden states.

Read from the package's own source files, without importing it (the import takes 20 to 60 s): the registry maps an
architecture to a class, and the class or one of its bases is SupportsEagle3 or not. The answer is kept by version.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from draftsmith.contract.errors import PrerequisiteError
from draftsmith.engines.models import FORMAT, KnownModels, Model
from draftsmith.kit.files import private_dir, read_json, write_json

REGISTRY = "model_executor/models/registry.py"
MODELS = "vllm.model_executor.models"
TEXT, MULTIMODAL = "_TEXT_GENERATION_MODELS", "_MULTIMODAL_MODELS"
INTERFACE = "SupportsEagle3"
LOCATE_TIMEOUT_S = 60.0

# How the source of a model says that it also hands out the state after the last layer (id L).
HANDS_OUT_LAST = (
    "_maybe_add_hidden_state(",
    "end_layer in self.aux_hidden_state_layers",
    "+ 1 in self.aux_hidden_state_layers",
    "+ 1) in self.aux_hidden_state_layers",
)
CHECKS_LAYERS = " in self.aux_hidden_state_layers"


@lru_cache(maxsize=8)
def known_models(version: str, device: str, python: str | None = None) -> KnownModels:
    """The registry of the vLLM in an interpreter (None = the current one), read once a version.

    Raises PrerequisiteError if that interpreter has no vLLM or its files are not laid out as expected.
    """
    kept = _cache_file(version, device)
    try:
        known = KnownModels.model_validate(read_json(kept))
        if known.format == FORMAT:
            return known
    except (OSError, ValueError, ValidationError):
        pass
    known = read_registry(locate(python), version, device, locate(python, "transformers"))
    try:
        private_dir(kept.parent)
        write_json(kept, known)
    except OSError:  # a home that cannot be written costs the time of reading again, nothing else
        pass
    return known


def locate(python: str | None = None, package: str = "vllm") -> Path:
    """Folder of a package in an interpreter, which may hold it elsewhere than vLLM. Nothing is imported. Raises PrerequisiteError."""
    interpreter = python or sys.executable
    code = f"import importlib.util as u; s = u.find_spec({package!r}); print(s.origin if s else '')"
    try:
        answer = subprocess.run(
            [interpreter, "-P", "-c", code], capture_output=True, text=True, timeout=LOCATE_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise PrerequisiteError(
            f"the engine's interpreter {interpreter} cannot be run ({type(error).__name__})",
            "set engine.python to a working Python that has vLLM",
        ) from None
    origin = answer.stdout.strip()
    if not origin:
        name = "vLLM" if package == "vllm" else package
        raise PrerequisiteError(f"no {name} in {interpreter}", "install it there, or set engine.python")
    return Path(origin).parent


def read_registry(package: Path, version: str, device: str, transformers: Path | None = None) -> KnownModels:
    """The registry of the vLLM in folder `package`, with the transformers that it imports (default: the one beside it).

    Raises PrerequisiteError if it is laid out otherwise.
    """
    try:
        tree = ast.parse((package / REGISTRY).read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        raise PrerequisiteError(
            f"vLLM {version} keeps its list of models elsewhere than {REGISTRY}",
            "use a released vLLM; a newer Draftsmith may know this one",
        ) from None
    sources = Sources(package, device)
    models = {}
    for table, name, module, cls in _entries(tree):
        models[name] = Model(
            module=module,
            hidden_states=sources.derives(module, cls, INTERFACE),
            last_state=sources.hands_out_last(module, cls),
            multimodal=table == MULTIMODAL,
        )
    if not models:
        raise PrerequisiteError(f"vLLM {version} lists no models", "use a released vLLM")
    types = _model_types(package, transformers or package.parent / "transformers")
    return KnownModels(engine="vLLM", version=version, device=device, models=models, model_types=types)


def _model_types(package: Path, transformers: Path) -> frozenset[str]:
    """Configurations that vLLM brings itself, or its transformers. Empty, so unknown, where transformers keeps them elsewhere."""
    auto = transformers / "models" / "auto"
    config_names = _table(auto / "auto_mappings.py", "CONFIG_MAPPING_NAMES")
    config_names |= _table(auto / "configuration_auto.py", "CONFIG_MAPPING_NAMES")
    own = _table(package / "transformers_utils" / "config.py", "_CONFIG_REGISTRY")
    return config_names | own if config_names else frozenset()


def _table(path: Path, name: str) -> frozenset[str]:
    """Keys of a table of a source file, of every statement that names it. Empty if the file cannot be read."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return frozenset()
    named = (node for node in tree.body if any(isinstance(n, ast.Name) and n.id == name for n in ast.walk(node)))
    return frozenset().union(*(_keys(node) for node in named))


def _keys(statement: ast.stmt) -> set[str]:
    """Strings that stand where a mapping has its keys: pairs, dict literals, keyword arguments."""
    result: set[str] = set()
    for node in ast.walk(statement):
        keys: list[ast.expr | None] = []
        if isinstance(node, ast.Dict):
            keys = list(node.keys)
        elif isinstance(node, ast.Tuple) and len(node.elts) == 2:
            keys = [node.elts[0]]
        elif isinstance(node, ast.Call):
            result |= {word.arg for word in node.keywords if word.arg}
        result |= {key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}
    return result


def _entries(tree: ast.Module) -> Iterator[tuple[str, str, str, str]]:
    """(table, architecture, module, class) of the tables that hold generating models."""
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        table = next((t.id for t in targets if isinstance(t, ast.Name) and t.id in (TEXT, MULTIMODAL)), None)
        value = getattr(node, "value", None)
        if table is None or not isinstance(value, ast.Dict):
            continue
        for key, entry in zip(value.keys, value.values, strict=True):
            try:
                name, (module, cls) = ast.literal_eval(key) if key else "", ast.literal_eval(entry)
            except (ValueError, TypeError):
                continue  # an entry that is computed cannot be read without running it
            yield table, str(name), module if module.startswith("vllm.") else f"{MODELS}.{module}", str(cls)


class Sources:
    """The package's source files: classes, their bases, and what a name in a module stands for on one device."""

    def __init__(self, package: Path, device: str) -> None:
        self.root, self.device = package.parent, device
        self._names: dict[str, dict[str, ast.ClassDef | tuple[str, str]]] = {}
        self._texts: dict[str, str] = {}

    def derives(self, module: str, cls: str, interface: str) -> bool:
        """Whether a class is, or has among all its bases, `interface`."""
        return any(name == interface for _, name in self._ancestry(module, cls))

    def hands_out_last(self, module: str, cls: str) -> bool:
        """False if the files that check for layer ids never do so after the last layer."""
        checked = False
        for place, _ in self._ancestry(module, cls):
            text = self._text(place)
            if CHECKS_LAYERS in text and not place.endswith(".interfaces"):
                if not any(sign in text for sign in HANDS_OUT_LAST):
                    return False  # the nearest class of the ancestry decides
                checked = True
            if checked:
                return True
        return True

    def _ancestry(self, module: str, cls: str) -> Iterator[tuple[str, str]]:
        """(module, class), then its bases, breadth first, each once. Names that lead out of vLLM end there."""
        queue, seen = [(module, cls)], set()
        while queue:
            place = self._resolve(*queue.pop(0))
            if place in seen:
                continue
            seen.add(place)
            yield place
            definition = self._module(place[0]).get(place[1])
            if isinstance(definition, ast.ClassDef):
                queue += [(place[0], name) for base in definition.bases if (name := _base_name(base))]

    def _resolve(self, module: str, name: str) -> tuple[str, str]:
        """Follow imports to where a class is defined."""
        for _ in range(12):
            definition = self._module(module).get(name)
            if not isinstance(definition, tuple):
                break
            module, name = definition
        return module, name

    def _path(self, module: str) -> Path | None:
        place = self.root.joinpath(*module.split("."))
        return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)

    def _text(self, module: str) -> str:
        if module not in self._texts:
            path = self._path(module) if module.startswith("vllm") else None
            self._texts[module] = path.read_text(encoding="utf-8", errors="replace") if path else ""
        return self._texts[module]

    def _module(self, module: str) -> dict[str, ast.ClassDef | tuple[str, str]]:
        if module not in self._names:
            names: dict[str, ast.ClassDef | tuple[str, str]] = {}
            self._names[module] = names
            path = self._path(module)
            try:
                tree = ast.parse(self._text(module))
            except SyntaxError:
                return names
            package = module if path and path.name == "__init__.py" else module.rpartition(".")[0]
            self._collect(tree.body, package, names)
        return self._names[module]

    def _collect(self, body: list[ast.stmt], package: str, names: dict[str, ast.ClassDef | tuple[str, str]]) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef):
                names[node.name] = node
            elif isinstance(node, ast.ImportFrom):
                source = _absolute(package, node)
                names.update({alias.asname or alias.name: (source, alias.name) for alias in node.names})
            elif isinstance(node, ast.If):
                self._collect(self._branch(node), package, names)
            elif isinstance(node, ast.Try):
                self._collect(node.body, package, names)

    def _branch(self, node: ast.If) -> list[ast.stmt]:
        """Of a choice by platform the branch for this device; of any other choice the first."""
        query = (
            node.test.func.attr if isinstance(node.test, ast.Call) and isinstance(node.test.func, ast.Attribute) else ""
        )
        if not query.startswith("is_"):
            return node.body
        return node.body if query in (f"is_{self.device}", f"is_{self.device}_alike") else node.orelse


def _absolute(package: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    base = parts[: len(parts) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def _base_name(node: ast.expr) -> str | None:
    if isinstance(node, ast.Subscript):
        return _base_name(node.value)
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else None


def _cache_file(version: str, device: str) -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "draftsmith" / f"vllm-{version}-{device}.json"


def main() -> None:
    """Print the registry of this interpreter's vLLM as JSON: how the list for machines without an engine is made."""
    from draftsmith.engines.vllm.features import installed

    result = installed()
    value = read_registry(locate(), result.version, sys.argv[1], locate(package="transformers")).model_dump(
        mode="json", exclude_defaults=True
    )
    print(json.dumps(value | {"model_types": sorted(value["model_types"])}, sort_keys=True, indent=1))


if __name__ == "__main__":
    main()
