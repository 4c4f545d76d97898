"""JSONL manifests: one request a line, as the API takes it.

A further member `var`, an object of texts, or members `var.NAME` hold the row's variables. Blank lines are skipped.
"""

import asyncio
import codecs
import hashlib
import json
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from typing import Any, TypeAlias

from batchsubmit.errors import ManifestError
from batchsubmit.manifest.defaults import complete
from batchsubmit.manifest.file import (
    MOST_LINE_BYTES,
    LineTooLongError,
    ManifestFile,
    in_temporary_folder,
    physical_lines,
    temporary_file,
)
from batchsubmit.manifest.rows import Reader, Row
from batchsubmit.schema import Fault, JsonError, Problem, read_json, without_nulls
from batchsubmit.schema.faults import below, described

_VARIABLE_PREFIX = "var."


class JsonlReader(Reader):
    """Reads a JSONL manifest."""

    def rows(self) -> Iterator[Row]:
        """Read every row, in order."""
        line, offset = 1, 0
        try:
            for raw in physical_lines(self._spooled.file, 0):
                if not raw.removeprefix(codecs.BOM_UTF8).isspace():
                    yield self._row(raw, offset, line)
                line += 1
                offset += len(raw)
        except LineTooLongError:
            wrong = f"has more than {MOST_LINE_BYTES:,} bytes"
            problem = self.problem(line, Fault(path="", wrong=wrong, right="write one request a line"))
            yield Row(line, offset, {}, {}, (problem,))

    def request_at(self, offset: int) -> dict[str, Any]:
        """Read the request of one row again."""
        raw = next(physical_lines(self._spooled.file, offset), b"")
        try:
            request = _parse(raw)
        except JsonError:
            return {}
        variables, _ = take_variables(request)
        self._defaults.fill(request, variables)
        return without_nulls(request)

    def _row(self, raw: bytes, offset: int, line: int) -> Row:
        try:
            request = _parse(raw)
        except JsonError as exc:
            fault = Fault(path="", wrong=exc.wrong, right=exc.right)
            return Row(line, offset, {}, {}, (self.problem(line, fault, column=exc.column),))
        variables, faults = take_variables(request)
        wrong, spelled, part = complete(request, variables, self._defaults, self._checker)
        if faults := faults + wrong:
            return Row(line, offset, request, variables, tuple(self.problem(line, fault) for fault in faults))
        request = without_nulls(request) if b"null" in raw else request
        return Row(line, offset, request, variables, (), spelled, part)


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        text = raw.decode().rstrip("\r\n")
    except UnicodeDecodeError as exc:
        column = len(raw[: exc.start].decode()) + 1
        wrong = f"byte {exc.start + 1} of the line, 0x{raw[exc.start]:02x}, is not UTF-8"
        raise JsonError(column, wrong, "save the file as UTF-8") from exc
    value = read_json(text)
    if not isinstance(value, dict):
        raise JsonError(1, f"is {described(value)}, not an object", 'write one request a line, {"name": …}')
    return value


def take_variables(request: dict[str, Any]) -> tuple[dict[str, str], list[Fault]]:
    """Move the variables out of a line's members."""
    variables: dict[str, str] = {}
    faults: list[Fault] = []
    nested = request.pop("var", None)
    if not isinstance(nested, dict | None):
        faults.append(Fault(path="var", wrong=f"is {described(nested)}", right="must be an object of texts"))
        nested = None
    dotted = [name for name in request if name.startswith(_VARIABLE_PREFIX)]
    given = [*(nested or {}).items(), *((name.removeprefix(_VARIABLE_PREFIX), request.pop(name)) for name in dotted)]
    for name, value in given:
        if isinstance(value, str) and name not in variables:
            variables[name] = value
        elif value is not None:
            wrong, right = f"is {described(value)}", "must be text"
            if isinstance(value, str):
                wrong, right = "is given twice", "keep one of them"
            faults += below(f"var.{name}", [Fault(path="", wrong=wrong, right=right)])
    return variables, faults


LABEL = "requests"
_MOST_PROBLEMS = 100
_AT_A_TIME = 256
_DEEPEST = 20

Requests: TypeAlias = Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]]


@asynccontextmanager
async def open_requests(requests: Requests) -> AsyncIterator[ManifestFile]:
    """Read all requests into a file without a name. Raises ManifestError where one is no JSON."""
    with ExitStack() as stack:
        file, digest = temporary_file(stack), hashlib.sha256()
        problems, row = list[Problem](), 0
        async for request in _each(requests):
            row += 1
            try:
                whole = dict(request) if isinstance(request, Mapping) else request
                line = json.dumps(whole, allow_nan=False).encode() + b"\n"  # ASCII, so a line end in it is escaped
            except (TypeError, ValueError, RecursionError) as exc:
                right = "give objects, lists, texts, numbers, booleans and None, as the API takes them"
                fault = Fault(path=_no_json_at(request), wrong=f"cannot be JSON: {exc}", right=right)
                problems.append(Problem.of(fault, label=LABEL, line=row, column=1))
                continue
            digest.update(line)
            with in_temporary_folder():
                file.write(line)
        if problems:
            raise ManifestError(LABEL, problems[:_MOST_PROBLEMS], len(problems))
        file.seek(0)
        yield ManifestFile(label=LABEL, format="jsonl", sha256=digest.hexdigest(), file=file)


async def _each(requests: Requests) -> AsyncIterator[object]:
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield request
        return
    for number, request in enumerate(requests, 1):
        yield request
        if number % _AT_A_TIME == 0:
            await asyncio.sleep(0)  # the loop is the caller's, who may have other things to do


def _no_json_at(value: object, path: tuple[str, ...] = ()) -> str:
    """Name the first member that cannot be JSON; empty where it is the request itself, or too deep to look into."""
    items = enumerate(value) if isinstance(value, list | tuple) else ()
    inside = value.items() if isinstance(value, Mapping) else items
    for name, each in inside if len(path) < _DEEPEST else ():
        try:
            json.dumps(each, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            return _no_json_at(each, (*path, str(name)))
    return ".".join(path)
