"""Safetensors files read by their header: names, types, shapes and single tensors, never a whole model in memory.

A file is an 8-byte little-endian header length, a JSON header and the tensors' bytes. bfloat16 has no numpy type, so
its values are looked at as raw 16-bit words.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from draftsmith.contract.errors import InputError

if TYPE_CHECKING:
    import numpy as np

MOST_INTEGERS = 1 << 26  # of a vocabulary map: what is larger is none
INDEX = "model.safetensors.index.json"
SHARD = re.compile(r"(.*?)(\d{1,9})-of-(\d{1,5})\.safetensors")
MAX_HEADER_BYTES = 100_000_000  # the format's own limit
SCAN_BYTES = 1 << 25
SAMPLE_BYTES = 4096

ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip
# All exponent bits set means infinity or NaN: (word type, mask).
_NOT_FINITE = {
    "F8_E4M3": ("u1", 0x7F),  # no infinity: all ones is NaN
    "F8_E5M2": ("u1", 0x7C),
    "F8_E8M0": ("u1", 0xFF),
    "F64": ("<u8", 0x7FF0000000000000),
    "BF16": ("<u2", 0x7F80),
    "F16": ("<u2", 0x7C00),
    "F32": ("<u4", 0x7F800000),
}
# Everything but the sign: (word type, mask).
_BITS = {"BF16": ("<u2", 0x7FFF), "F16": ("<u2", 0x7FFF), "F32": ("<u4", 0x7FFFFFFF)}
_NUMPY = {"BOOL": "?", "U8": "u1", "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8", "F16": "<f2", "F32": "<f4"}


@dataclass(frozen=True)
class Tensor:
    """One tensor as the header describes it. `start` is its first byte in `file`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    size: int


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files the folder's weights are made of: by its index, else model.safetensors, else all of them.

    Empty when there are none. Raises InputError for an index that does not parse, names a file that is missing, or
    points outside the folder.
    """
    index = folder / INDEX
    if index.is_file():
        weight_map = read_object(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise InputError(f"{index} has no weight_map", "download the model again")
        names = sorted({str(name) for name in weight_map.values()})
        for name in names:
            if Path(name).name != name or not name.endswith(".safetensors"):
                raise InputError(f"{index} names {name!r}, which is not a file of its own folder", "use another model")
            if not (folder / name).is_file():
                raise InputError(f"{index} names {name}, which is missing", "download the model again")
        return tuple(folder / name for name in names)
    single = folder / "model.safetensors"
    if single.is_file():
        return (single,)
    files = tuple(p for p in sorted(folder.glob("*.safetensors")) if p.is_file())
    _require_all_shards(files)
    return files


def _require_all_shards(files: tuple[Path, ...]) -> None:
    """Raise InputError if names like model-00001-of-00003.safetensors count further than the files that are there."""
    sets: dict[tuple[str, str], set[int]] = {}
    for file in files:
        if (shard := SHARD.fullmatch(file.name)) is not None:
            sets.setdefault((shard[1], shard[3]), set()).add(int(shard[2]))
    for (stem, count), numbers in sets.items():
        if missing := sorted(set(range(1, int(count) + 1)) - numbers):
            name = f"{stem}{missing[0]:0{len(count)}}-of-{count}.safetensors"
            raise InputError(
                f"{len(missing)} of {int(count)} shards are missing, such as {shown(name)}", "download the model again"
            )


def stray_files(folder: Path) -> tuple[Path, ...]:
    """Safetensors in a folder beside those its index or its model.safetensors name: an engine may load them as well, or instead."""
    return tuple(sorted(set(folder.glob("*.safetensors")) - set(weight_files(folder))))


def shown(text: str, longest: int = 200) -> str:
    """Text from a foreign file for a message: what steers a terminal or breaks a line is escaped, the rest of a long one left out."""
    kept = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:longest])
    return kept if len(text) <= longest else f"{kept}..."


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises InputError if it cannot be read, does not parse or is no object."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path.name} is no regular file", "use a folder of plain files")
    try:
        value = orjson.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", "check the path and its permissions") from error
    except orjson.JSONDecodeError as error:
        value = _with_infinity(path, error)
    if not isinstance(value, dict):
        raise InputError(f"{path} holds no JSON object", "download the file again")
    return value


def _with_infinity(path: Path, error: orjson.JSONDecodeError) -> Any:
    """The file as Python's own json reads it: published files hold Infinity, which JSON does not know. Such words become text."""
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=str)
    except (ValueError, RecursionError):
        raise InputError(f"{path} is not JSON: {error}", "download the file again") from error


def read_tensors(files: tuple[Path, ...]) -> dict[str, Tensor]:
    """All tensors of `files` by name. Raises InputError for a damaged, truncated or overlapping file."""
    by_name: dict[str, Tensor] = {}
    for path in files:
        for tensor in _header(path):
            if tensor.name in by_name:
                raise InputError(f"{tensor.name} is in {by_name[tensor.name].file.name} and in {path.name}",
                                 "keep one of the two files")  # fmt: skip
            by_name[tensor.name] = tensor
    return by_name


def read_array(tensor: Tensor) -> np.ndarray:
    """The values of one tensor, of a type that numpy has. Raises InputError for bfloat16 and 8-bit floats."""
    import numpy as np

    if tensor.dtype not in _NUMPY:
        raise InputError(f"{tensor.name} is {tensor.dtype}, an integer or bool tensor was expected", "convert it again")
    if tensor.size > MOST_INTEGERS * ITEM_BYTES[tensor.dtype]:
        raise InputError(
            f"{shown(tensor.name)} has {tensor.size:,} bytes: no map is so large", "export the draft again"
        )
    with tensor.file.open("rb") as source:
        source.seek(tensor.start)
        raw = source.read(tensor.size)
    return np.frombuffer(raw, dtype=_NUMPY[tensor.dtype]).reshape(tensor.shape)


def count_not_finite(tensor: Tensor) -> int:
    """How many values are NaN or infinite. 0 for integers."""
    import numpy as np

    if tensor.dtype not in _NOT_FINITE:
        return 0
    word, mask = _NOT_FINITE[tensor.dtype]
    total, left = 0, tensor.size
    with tensor.file.open("rb") as source:
        source.seek(tensor.start)
        while left > 0 and (raw := source.read(min(SCAN_BYTES, left))):
            bits = np.frombuffer(raw, dtype=word) & np.array(mask, dtype=word)
            total += int((bits == mask).sum())
            left -= len(raw)
    return total


def only_value(tensor: Tensor) -> float | int | None:
    """The one magnitude that every value has; None where they differ, as they do in weights that were filled."""
    import numpy as np

    word, mask = _BITS.get(tensor.dtype, ("u1", 0xFF))
    first, left = None, tensor.size
    with tensor.file.open("rb") as source:
        source.seek(tensor.start)
        while left > 0 and (raw := source.read(min(SCAN_BYTES, left))):
            bits = np.frombuffer(raw, dtype=word) & np.array(mask, dtype=word)
            first = bits[0] if first is None else first
            if (bits != first).any():
                return None
            left -= len(raw)
    if first is None:
        return None
    value = np.array([first], dtype=word)
    if tensor.dtype == "BF16":
        return float((value.astype("<u4") << 16).view("<f4")[0])
    return float(value.view(_NUMPY[tensor.dtype])[0]) if tensor.dtype in ("F16", "F32") else int(first)


def row_likeness(left: Tensor, right: Tensor, rows: int = 256) -> tuple[float, ...]:
    """Cosines between the same sampled rows of two matrices of one width, of those that `right` fills.

    0 for a row that `left` leaves empty. Nothing for types that are not plain floats, or for other widths.
    """
    import numpy as np

    plain = {left.dtype, right.dtype} <= {"BF16", "F16", "F32"}
    if len(left.shape) != 2 or len(right.shape) != 2 or left.shape[1] != right.shape[1] or not plain:
        return ()
    common = min(left.shape[0], right.shape[0])  # a vocabulary may be padded in one of the two
    places = np.unique(np.linspace(0, common - 1, rows).astype(int))
    cosines = []
    for place in places:
        a, b = (read_row(tensor, int(place)) for tensor in (left, right))
        if not b.any():
            continue
        length = float(np.linalg.norm(a) * np.linalg.norm(b))
        cosines.append(float(a @ b) / length if length > 0 else 0.0)
    return tuple(cosines)


def read_row(tensor: Tensor, row: int) -> np.ndarray:
    """One row of a matrix of 16- or 32-bit floats, as float64."""
    import numpy as np

    size = tensor.shape[1] * ITEM_BYTES[tensor.dtype]
    with tensor.file.open("rb") as source:
        source.seek(tensor.start + row * size)
        raw = source.read(size)
    if tensor.dtype == "BF16":
        return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4").astype(np.float64)
    return np.frombuffer(raw, _NUMPY[tensor.dtype]).astype(np.float64)


def sample_digest(tensor: Tensor) -> str:
    """sha256 of 4 KiB from the tensor's middle: tells apart weights of equal shape without reading them all."""
    with tensor.file.open("rb") as source:
        source.seek(tensor.start + max(0, tensor.size - SAMPLE_BYTES) // 2)
        return hashlib.sha256(source.read(min(SAMPLE_BYTES, tensor.size))).hexdigest()


def _header(path: Path) -> list[Tensor]:
    next_step = "copy or download the file again"
    try:
        size = path.stat().st_size
        with path.open("rb") as source:
            (length,) = struct.unpack("<Q", source.read(8))
            if length > min(MAX_HEADER_BYTES, size - 8):
                raise InputError(f"{path.name} is no safetensors file, or its header is cut off", next_step)
            header = orjson.loads(source.read(length))
        tensors = [
            _tensor(path, name, entry, 8 + length, size) for name, entry in header.items() if name != "__metadata__"
        ]
        _require_tiled(path, tensors, 8 + length, size)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", "check the path and its permissions") from error
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path.name} has a damaged safetensors header", next_step) from error
    return tensors


def _require_tiled(path: Path, tensors: list[Tensor], base: int, size: int) -> None:
    """The format allows neither gaps nor overlaps nor bytes behind the last tensor: what reads such a file reads what it likes."""
    place = base
    for tensor in sorted(tensors, key=lambda t: (t.start, t.size)):
        if tensor.start != place:
            raise InputError(f"{path.name}: its tensors overlap or leave gaps", "save or download the file again")
        place += tensor.size
    if place != size:
        raise InputError(f"{path.name}: there are bytes behind its last tensor", "save or download the file again")


def _tensor(path: Path, name: str, entry: dict[str, Any], base: int, file_size: int) -> Tensor:
    begin, end = (int(offset) for offset in entry["data_offsets"])
    shape = tuple(int(side) for side in entry["shape"])
    if entry["dtype"] not in ITEM_BYTES:
        raise InputError(
            f"{path.name}: {shown(name)} is of the unknown type {shown(str(entry['dtype']))}", "save it again"
        )
    count = 1
    for side in shape:
        count *= side
    expected = count * ITEM_BYTES.get(entry["dtype"], 0)
    if base + end > file_size or begin < 0 or end < begin or (expected and end - begin != expected):
        raise InputError(
            f"{path.name}: the bytes of {shown(name)} are cut off or do not match its shape",
            "copy or download the file again",
        )
    return Tensor(name, str(entry["dtype"]), shape, path, base + begin, end - begin)
