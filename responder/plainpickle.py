"""How is a pickle of plain values read without running anything in it?

`pickle.loads` runs whatever a file asks for, and a dump folder is writable by others. This walks the opcodes instead
and knows only those that make numbers, text, lists, tuples and dicts; at the first that names an object it refuses.
"""

from __future__ import annotations

import pickletools
from typing import Any

MAX_BYTES = 64 << 20
MAX_OPCODES = 5_000_000


class NotPlain(ValueError):
    """The pickle names objects, or is broken: it is not read."""


class _Mark:
    pass


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_ARGUMENTS = frozenset(
    (
        "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
        "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    )
)  # fmt: skip
_EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
_NOTHING = frozenset(("PROTO", "FRAME"))


def read_plain(raw: bytes) -> Any:
    """The value of the pickle. NotPlain when it is anything but plain values."""
    if len(raw) > MAX_BYTES:
        raise NotPlain(f"larger than {MAX_BYTES >> 20} MiB")
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(raw)):
            if count > MAX_OPCODES:
                raise NotPlain("too long")
            if opcode.name == "STOP":
                return stack.pop()
            _do(opcode.name, argument, stack, memo)
    except NotPlain:
        raise
    except Exception as error:  # broken bytes break the walk in many ways; all of them mean the same
        raise NotPlain(f"broken: {type(error).__name__}: {error}"[:200]) from None
    raise NotPlain("it does not end")


def _do(name: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    if name in _NOTHING:
        return
    if name in _CONSTANTS:
        stack.append(_CONSTANTS[name])
    elif name in _ARGUMENTS:
        stack.append(argument)
    elif name in _EMPTY:
        stack.append(_EMPTY[name]())
    elif name == "MARK":
        stack.append(_Mark())
    elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
        memo[len(memo) if name == "MEMOIZE" else int(argument)] = stack[-1]
    elif name in ("GET", "BINGET", "LONG_BINGET"):
        stack.append(memo[int(argument)])
    elif name == "POP":
        stack.pop()
    else:
        _collect(name, stack)


def _collect(name: str, stack: list[Any]) -> None:
    """Opcodes that put values together."""
    if name == "APPEND":
        value = stack.pop()
        stack[-1].append(value)
    elif name == "SETITEM":
        value, key = stack.pop(), stack.pop()
        stack[-1][key] = value
    elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
        size = int(name[-1])
        stack[-size:] = [tuple(stack[-size:])]
    elif name in ("APPENDS", "SETITEMS", "LIST", "DICT", "TUPLE"):
        at = max(index for index, value in enumerate(stack) if isinstance(value, _Mark))
        values = stack[at + 1 :]
        del stack[at:]
        if name == "APPENDS":
            stack[-1].extend(values)
        elif name == "SETITEMS":
            stack[-1].update(zip(values[::2], values[1::2], strict=True))
        else:
            pairs = zip(values[::2], values[1::2], strict=True) if name == "DICT" else ()
            stack.append(dict(pairs) if name == "DICT" else values if name == "LIST" else tuple(values))
    else:
        raise NotPlain(f"it asks for {name}, which makes objects: not read")
