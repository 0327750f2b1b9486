"""`python -m tests.lua`: compile every Lua script as Redis does, and refuse undefined names.

A file may use the globals of Redis and the modules that its first line names, and of a module only
the names that it exports. Globals are found in the bytecode of Lua 5.1.
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Iterator, Mapping

from lupa.lua51 import LuaError, LuaRuntime

from settings import HERE
from wire.line import scripts
from wire.line.scripts.linking import LinkError, link, needs

FOLDERS = (
    HERE / "wire/line/scripts",
    HERE / "wire/item_scripts",
    HERE / "wire/keyring_scripts",
    HERE / "workers/pandora/deletion_scripts",
)
GLOBALS = {
    *("ARGV", "KEYS", "cjson", "cmsgpack", "redis", "math", "string", "table"),
    *("error", "ipairs", "pairs", "pcall", "select", "tonumber", "tostring", "type", "unpack"),
}
_REDIS = "redis = {call = function() return {0, 0} end}"  # enough to load every module
_GET_GLOBAL, _SET_GLOBAL = 5, 7


class Bytecode:
    """Reader of a chunk that `string.dump` has written (Lua 5.1, `ldump.c`)."""

    def __init__(self, dump: bytes) -> None:
        self._dump = dump
        self._at = 12  # after the header

    def globals(self) -> set[str]:
        """The globals that the next function, and those inside it, read or write."""
        self._text()
        self._take("=2i4B")
        code = self._take(f"={self._count()}I")
        constants = [self._constant() for _ in range(self._count())]
        used = {constants[i >> 14] for i in code if i & 63 in (_GET_GLOBAL, _SET_GLOBAL)}
        for _ in range(self._count()):
            used |= self.globals()
        self._take(f"={self._count()}i")  # line numbers
        for _ in range(self._count()):  # local variables
            self._text()
            self._take("=2i")
        for _ in range(self._count()):  # upvalues
            self._text()
        return used

    def _constant(self) -> str:
        (kind,) = self._take("B")
        return self._text() if kind == 4 else str(self._take({0: "", 1: "B", 3: "=d"}[kind]))

    def _count(self) -> int:
        (number,) = self._take("=i")
        return int(number)

    def _text(self) -> str:
        (size,) = self._take("=Q")
        (text,) = self._take(f"{size}s")
        return bytes(text).rstrip(b"\0").decode()

    def _take(self, form: str) -> tuple[int, ...]:
        self._at += struct.calcsize(form)
        return struct.unpack_from(form, self._dump, self._at - struct.calcsize(form))


def exports(module: str, modules: Mapping[str, str]) -> set[str]:
    """The names in the table that a module returns."""
    lua = LuaRuntime()
    lua.execute(_REDIS)
    return set(lua.execute(link(f"-- needs: {module}\nreturn {module}", modules, whole=True)))


def faults(source: str, modules: Mapping[str, str]) -> Iterator[str]:
    """Yield the faults of a script or module."""
    lua = LuaRuntime(encoding=None)
    dump = lua.eval(b"function(source) return string.dump(assert(loadstring(source))) end")
    needed = set(needs(source))
    try:
        used = Bytecode(dump(source.encode())).globals()
        dump(link(source, modules).encode())  # Lua limits the local variables of a script
        defined = {name: exports(name, modules) for name in sorted(needed)}
    except (LuaError, LinkError) as error:
        yield str(error)
        return
    yield from (f"undefined global: {name}" for name in sorted(used - GLOBALS - needed))
    yield from (f"needed but not used: {name}" for name in sorted(needed - used))
    code = re.sub("--.*", "", source)
    for module, names in defined.items():
        fields = set(re.findall(rf"\b{module}\.(\w+)", code))
        yield from (f"undefined: {module}.{name}" for name in sorted(fields - names))


def main() -> None:
    """Print every fault with its file. The status is 1 if there is one."""
    modules = scripts.modules("01234567")
    paths = [path for folder in FOLDERS for path in sorted(folder.rglob("*.lua"))]
    found = [
        f"{path.relative_to(HERE)}: {fault}"
        for path in paths
        for fault in faults(path.read_text(encoding="utf-8"), modules)
    ]
    print("\n".join([*found, f"{len(paths)} Lua scripts, {len(found)} faults"]))
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
