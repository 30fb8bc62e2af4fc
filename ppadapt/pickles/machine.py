"""Reads a pickle that holds arrays and plain data, and nothing else.

A pickle is a program: GLOBAL names any function of any module, REDUCE calls it. This is the machine for that
program (Python's pickletools describes the opcodes), written out so that it never imports, calls or hashes what
the file chooses: a name is looked up in one closed table of inert stand-ins (`plain`), every operation and every
byte handed to a stand-in is counted, and lengths are compared with the file before anything is taken. `pickle`'s
own Unpickler does none of that: a few bytes make it take gigabytes for its memo, or hash for years.
"""
from __future__ import annotations

import codecs
import gc
import struct
from typing import Any, Callable, Mapping, Optional, Union

from .. import limits
from ..errors import FileError, UnsafeFileError, UserError, brief
from .plain import PLAIN, StandIn, StandInFunction

_MARK = object()
_LONGEST_NUMBER = 64  # bytes; the longest that is pickled by anyone is a random generator's state
_ODD_KEYS = 1000  # keys that are neither text nor small numbers, whose hashes a file could make collide
_SMALL = 1 << 31
# What goes wrong where bytes are damaged; none of these is the caller's mistake.
_DAMAGED = (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError, RecursionError, MemoryError,
            struct.error, AssertionError)
_NUMBERS = {0x4a: "<i", 0x4b: "<B", 0x4d: "<H", 0x47: ">d"}  # BININT, BININT1, BININT2, BINFLOAT
_CONSTANTS = {0x4e: None, 0x88: True, 0x89: False, 0x29: ()}  # NONE, NEWTRUE, NEWFALSE, EMPTY_TUPLE
_EMPTY: dict[int, Callable] = {0x5d: list, 0x7d: dict, 0x8f: set}  # EMPTY_LIST, EMPTY_DICT, EMPTY_SET
# Opcode -> (format of the length, kind): s text of Python 2, u text, b bytes, i whole number, f frame.
_COUNTED = {
    0x54: ("<i", "s"), 0x55: ("<B", "s"), 0x58: ("<I", "u"), 0x8c: ("<B", "u"), 0x8d: ("<Q", "u"), 0x42: ("<I", "b"),
    0x43: ("<B", "b"), 0x8e: ("<Q", "b"), 0x96: ("<Q", "b"), 0x8a: ("<B", "i"), 0x8b: ("<i", "i")}
_MEMO = {0x71: "<B", 0x72: "<I", 0x68: "<B", 0x6a: "<I"}  # BINPUT, LONG_BINPUT, BINGET, LONG_BINGET
_TUPLES = {0x85: 1, 0x86: 2, 0x87: 3}


def read_pickle(data: Union[bytes, memoryview], path: str, more: Optional[Mapping[str, Any]] = None,
                persistent: Optional[Callable[[Any], Any]] = None, python2: str = "latin1",
                start: int = 0) -> tuple[Any, int]:
    """(the object, where its pickle ends) of the pickle that begins at `start`.

    Args:
        data: the file, such as a mapped one: long `bytes` in the result are views of it.
        path: what messages call it.
        more: names beside `plain.PLAIN`, and their stand-ins. persistent: what finds objects outside the pickle.
        python2: what text of Python 2 becomes, "latin1" or "bytes".

    Raises:
        UnsafeFileError: for a name that is not in the table; nothing was called.
        FileError: where bytes are damaged, or ask for more than a file may.
    """
    machine = _Machine(memoryview(data), more or {}, persistent, python2, start)
    collecting = gc.isenabled()
    gc.disable()  # it would go through what has been built over and over, and there is no garbage yet
    try:
        return machine.run(), machine.at
    except UnsafeFileError as error:
        raise UnsafeFileError(_named(path, error)) from None
    except UserError as error:
        raise FileError(_named(path, error)) from None
    except _DAMAGED as error:
        raise FileError(f"{path}: its pickle is cut short or damaged ({type(error).__name__}: {error}); get the file "
                        "again") from None
    finally:
        if collecting:
            gc.enable()


def _named(path: str, error: Exception) -> str:
    return str(error) if str(error).startswith(path) else f"{path}: {error}"


class _Machine:
    def __init__(self, data: memoryview, more: Mapping[str, Any], persistent: Optional[Callable], python2: str,
                 start: int):
        self.data, self.at, self.more, self.persistent, self.python2 = data, start, more, persistent, python2
        self.stack: list = []
        self.memo: dict[int, Any] = {}
        self.steps = limits.limit("PPADAPT_MAX_PICKLE_STEPS")
        self.bytes_for_calls = 4 * len(data) + (1 << 16)
        self.odd_keys = _ODD_KEYS

    # What an operation takes: bytes of the file, and its share of the budgets.

    def take(self, count: int) -> memoryview:
        if not 0 <= count <= len(self.data) - self.at:
            raise FileError(f"its pickle is cut short: {count} bytes are needed at byte {self.at}, the file has "
                            f"{len(self.data)}; get the file again")
        self.at += count
        return self.data[self.at - count:self.at]

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> bytes:
        end, piece = self.at, b""
        while b"\n" not in piece:  # in pieces: a line of a damaged file may be all that follows
            piece = bytes(self.data[end:end + 256])
            if not piece:
                raise ValueError("a line without an end")
            end += len(piece)
        end = end - len(piece) + piece.index(b"\n")
        text = bytes(self.data[self.at:end])
        self.at = end + 1
        return text

    def charge(self, steps: int) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise FileError("its pickle takes " + limits.beyond(
                "PPADAPT_MAX_PICKLE_STEPS", limits.limit("PPADAPT_MAX_PICKLE_STEPS") + 1))

    def charge_for(self, value: Any, depth: int = 0) -> None:
        """A call may copy what it is given, and may be given it over and over."""
        if isinstance(value, (str, bytes, bytearray, memoryview)):
            self.bytes_for_calls -= len(value)
            if self.bytes_for_calls < 0:
                raise FileError("its pickle copies its text or bytes over and over; it is not a checkpoint")
        elif isinstance(value, (list, tuple, dict, set, frozenset)):
            self.charge(len(value))
            if depth < 2 and isinstance(value, tuple):
                for part in value:
                    self.charge_for(part, depth + 1)

    def key(self, value: Any) -> Any:
        """A key or member: text, or what surely hashes at once and apart from the others."""
        if type(value) is str or value is None or (type(value) in (bool, int) and -_SMALL < value < _SMALL):
            return value
        simple = value if type(value) is tuple and len(value) <= 8 else (value,)
        if not all(isinstance(part, (str, bytes, int, float, type(None))) for part in simple):
            raise ValueError(f"{brief(value)} as a key")
        self.odd_keys -= 1
        if self.odd_keys < 0:
            raise FileError(f"its pickle has over {_ODD_KEYS} keys that are no text; it is not a checkpoint")
        return value

    # The machine.

    def run(self) -> Any:
        stack, data = self.stack, self.data
        while True:
            self.charge(1)
            code = data[self.at]
            self.at += 1
            if code in _CONSTANTS:
                stack.append(_CONSTANTS[code])
            elif code in _NUMBERS:
                stack.append(self.number(_NUMBERS[code]))
            elif code in _COUNTED:
                stack.append(self.counted(*_COUNTED[code]))
            elif code in _MEMO:
                index = self.number(_MEMO[code])
                if code in (0x71, 0x72):
                    self.memo[index] = self.top()
                else:
                    stack.append(self.memo[index])
            elif code in _EMPTY:
                stack.append(_EMPTY[code]())
            elif code in _TUPLES:
                stack.append(tuple([self.pop() for _ in range(_TUPLES[code])][::-1]))
            elif code == 0x2e:  # STOP
                return self.pop()
            elif code == 0x28:
                stack.append(_MARK)
            else:
                self.rare(code)

    def rare(self, code: int) -> None:
        operation = _OPERATIONS.get(code)
        if operation is None:
            raise ValueError(f"opcode {code:#x} at byte {self.at - 1}")
        operation(self)

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("a mark where a value is needed")
        return value

    def top(self) -> Any:
        if self.stack[-1] is _MARK:
            raise ValueError("a mark where a value is needed")
        return self.stack[-1]

    def to_mark(self) -> list:
        items = []
        while True:
            item = self.stack.pop()
            if item is _MARK:
                return items[::-1]
            items.append(item)

    def counted(self, form: str, kind: str) -> Any:
        count = self.number(form)
        if kind == "i" and count > _LONGEST_NUMBER:
            raise ValueError(f"a whole number of {count} bytes")
        piece = self.take(count)
        if kind == "i":
            return int.from_bytes(piece, "little", signed=True)
        if kind == "b" or (kind == "s" and self.python2 == "bytes"):
            return piece if count > 4096 else bytes(piece)
        return str(piece, "utf-8", "surrogatepass") if kind == "u" else str(piece, "latin1")

    def add_pairs(self, target: Any, items: list) -> None:
        if not isinstance(target, dict) or len(items) % 2:
            raise TypeError("items for what is no dict")
        for i in range(0, len(items), 2):
            target[self.key(items[i])] = items[i + 1]

    def add(self, target: Any, items: list) -> None:
        if type(target) is not list:
            raise TypeError("items for what is no list")
        target.extend(items)

    def add_members(self, target: Any, items: list) -> None:
        if type(target) is not set:
            raise TypeError("members for what is no set")
        target.update(map(self.key, items))

    def find(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        found = PLAIN.get(full, self.more.get(full))
        if found is None:
            raise UnsafeFileError(
                f"refused {full}, which its pickle asks for; only tensors and plain data are taken and nothing was "
                "executed. If you trust the file, load it where it came from and save the weights alone: "
                "torch.save(model.state_dict(), ...) or safetensors")
        return found

    def call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, StandInFunction) or type(arguments) is not tuple:
            raise TypeError(f"a call of {brief(function)}")
        self.charge_for(arguments)
        return function.call(self.key, *arguments)

    # Operations that need a line.

    def build(self) -> None:
        state, target = self.pop(), self.top()
        if not isinstance(target, StandIn):
            raise FileError(f"its pickle tries to alter {brief(target)}")
        self.charge_for(state)
        target.set_state(state)

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        if type(name) is not str or type(module) is not str:
            raise TypeError("the name of a function that is no text")
        self.stack.append(self.find(module, name))

    def find_by_lines(self) -> Any:
        return self.find(self.line().decode("utf-8"), self.line().decode("utf-8"))

    def persist(self, pid: Any) -> None:
        if self.persistent is None:
            raise UnsafeFileError(f"refused the persistent id {brief(pid)}, which only PyTorch files have")
        self.stack.append(self.persistent(pid))

    def text_number(self) -> None:
        text = self.line().rstrip(b"L")
        if len(text) > 2 * _LONGEST_NUMBER:
            raise ValueError(f"a whole number of {len(text)} digits")
        self.stack.append({b"00": False, b"01": True}.get(text, int(text)))

    def quoted(self) -> None:
        text = self.line()
        if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in b"'\"":
            raise ValueError("text without quotes")
        piece = codecs.escape_decode(text[1:-1])[0]
        self.stack.append(piece if self.python2 == "bytes" else piece.decode("latin1"))

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        self.stack.append(self.call(function, arguments))

    def new_with_keywords(self) -> None:
        keywords = self.pop()
        if keywords != {}:
            raise ValueError("a call with keywords")
        self.reduce()

    def instance(self) -> None:
        function = self.find_by_lines()
        self.stack.append(self.call(function, tuple(self.to_mark())))

    def instance_of_stack(self) -> None:
        items = self.to_mark()
        self.stack.append(self.call(items[0], tuple(items[1:])))

    def dictionary(self) -> None:
        items, made = self.to_mark(), {}
        self.add_pairs(made, items)
        self.stack.append(made)

    def frozen(self) -> None:
        self.stack.append(frozenset(map(self.key, self.to_mark())))

    def append(self) -> None:
        value = self.pop()
        self.add(self.top(), [value])

    def set_item(self) -> None:
        value, key = self.pop(), self.pop()
        self.add_pairs(self.top(), [key, value])

    def appends(self) -> None:
        items = self.to_mark()
        self.add(self.top(), items)

    def set_items(self) -> None:
        items = self.to_mark()
        self.add_pairs(self.top(), items)

    def new_members(self) -> None:
        items = self.to_mark()
        self.add_members(self.top(), items)

    def put(self) -> None:
        self.memo[int(self.line()[:20])] = self.top()

    def memoize(self) -> None:
        self.memo[len(self.memo)] = self.top()


_OPERATIONS: dict[int, Callable[[_Machine], Any]] = {
    0x80: lambda m: m.take(1), 0x95: lambda m: m.take(8),  # PROTO, FRAME
    0x30: lambda m: m.stack.pop(), 0x31: lambda m: m.to_mark(), 0x32: lambda m: m.stack.append(m.top()),
    0x70: _Machine.put, 0x94: _Machine.memoize, 0x67: lambda m: m.stack.append(m.memo[int(m.line()[:20])]),
    0x49: _Machine.text_number, 0x4c: _Machine.text_number, 0x46: lambda m: m.stack.append(float(m.line()[:400])),
    0x53: _Machine.quoted, 0x56: lambda m: m.stack.append(str(m.line(), "raw-unicode-escape")),
    0x61: _Machine.append, 0x65: _Machine.appends, 0x6c: lambda m: m.stack.append(m.to_mark()),
    0x74: lambda m: m.stack.append(tuple(m.to_mark())), 0x64: _Machine.dictionary,
    0x73: _Machine.set_item, 0x75: _Machine.set_items, 0x90: _Machine.new_members, 0x91: _Machine.frozen,
    0x63: lambda m: m.stack.append(m.find_by_lines()), 0x93: _Machine.stack_global, 0x52: _Machine.reduce,
    0x81: _Machine.reduce, 0x92: _Machine.new_with_keywords, 0x69: _Machine.instance, 0x6f: _Machine.instance_of_stack,
    0x62: _Machine.build, 0x50: lambda m: m.persist(m.line().decode("ascii")), 0x51: lambda m: m.persist(m.pop()),
}
