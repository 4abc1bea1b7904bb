"""The student's process: run a notebook's cells, then answer calls with numbers.

The grader hands its source to `python -c`, so that the process needs no file of this package, and
sees none. It talks JSON, one line a message, over one socket:

    ← {"cells": [source, ...], "site": [folder, ...]}
    → {"ran": ["code cell 3, line 2: NameError: ...", ...]}
    ← {"call": name, "args": [...]}          a number, {"array": [...]} or {"integers": [...]}
    → {"value": nested list of numbers, "precision": "float32"} or {"error": kind, "text": "..."}

Whatever the student's code does to this process, only such lines leave it, and the grader trusts
none of them.
"""

import __future__

import ast
import builtins
import itertools
import json
import os
import socket
import sys
import types

LARGEST = 100_000  # numbers in one answer


class NoNumbers(Exception):
    """An answer is not made of numbers; the message says what it is instead."""


def to_data(value):
    """Read an answer; returns it as nested lists of floats, and its dtype. Raises NoNumbers."""
    import numpy as np

    if value is None:
        raise NoNumbers(
            "gave nothing (None): does the function end without `return`? To print is not enough."
        )
    kind = type(value).__name__
    try:
        value, precision = unpacked(value)
        array = np.asarray(value)
        if array.dtype.kind == "c":
            kind = "complex numbers, as the root of a negative number does"
        if array.dtype.kind not in "biufO":  # O: numbers of sympy, say
            raise TypeError
        if array.dtype.kind == "O" and any(x is None for x in array.flat):
            raise TypeError  # numpy would make NaN of it
        precision = precision or array.dtype.name
        array = array.astype(np.float64)
    except (TypeError, ValueError, OverflowError, RecursionError):
        why = "which is not a number or an array of numbers."
        if isinstance(value, (list, tuple)):
            why = "whose entries are not all numbers, or whose rows are not equally long."
            why += " (One is None: is a `return` missing?)" if any(x is None for x in value) else ""
        raise NoNumbers(f"gave {kind}, {why}") from None
    if array.size > LARGEST:
        raise NoNumbers(f"gave {array.size} numbers; at most {LARGEST} are expected.")
    return array.tolist(), precision


def unpacked(value, depth=0):
    """A tensor, an iterator or a list of such as numpy can read it, and "bfloat16" if it is so."""
    if hasattr(value, "detach"):  # a tensor of torch
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # which numpy does not have
            return value.float(), "bfloat16"
        return value.numpy(), None
    if hasattr(value, "__next__") or type(value).__name__ in ("dict_values", "dict_keys"):
        value = list(itertools.islice(value, LARGEST + 1))
    if type(value) in (list, tuple) and depth < 4 and len(value) <= LARGEST:
        parts = [unpacked(x, depth + 1) for x in value]
        return [x for x, _ in parts], next((p for _, p in parts if p), None)
    return value, None


def call(namespace, name, args):
    """The reply to one call, as a dict that JSON can hold."""
    if not callable(namespace.get(name)):
        return {"error": "Missing", "text": name}
    try:
        value, precision = to_data(namespace[name](*args))
        return {"value": value, "precision": precision}
    except BaseException as error:  # whatever it is, the next law asks on
        return {"error": type(error).__name__[:80], "text": text(error)}


def text(error):
    try:
        return str(error)[:300]
    except BaseException:
        return "(its message cannot be shown)"


# --------------------------------------------------------------------------- cells, as Jupyter


class UsageError(Exception):
    """A cell magic is not on the first line of its cell, where Jupyter requires it."""


class Nothing:
    """Stands for what only Jupyter has: it is empty and accepts any attribute, item and call."""

    def __getattr__(self, name):
        if name.startswith("__"):  # else it would pass for an array, a context, anything
            raise AttributeError(name)
        return self

    def __call__(self, *args, **kwargs):
        return self

    def __getitem__(self, key):
        return self

    def __setitem__(self, key, value):
        pass

    def __iter__(self):
        return iter(())

    def __len__(self):
        return 0


class Lines(list):
    """What a command has printed: nothing, but with the attributes of IPython's list of lines."""

    n = s = nlstr = spstr = ""
    l = list = property(lambda self: self)  # noqa: E741 - IPython's names

    def grep(self, *args, **kwargs):
        return self

    fields = sort = grep


class Shell:
    """What get_ipython() returns: magics that run Python run it, all others do nothing."""

    def __init__(self, notebook):
        self._notebook, self.config = notebook, {}
        self.user_ns = self.user_global_ns = notebook.namespace

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing()

    def run_line_magic(self, name, line="", *args, **kwargs):
        if name.startswith("%"):
            raise UsageError(f"%{name} must be the first line of its cell")
        if name in ("time", "prun"):
            return self._notebook.execute(line, "<magic>")
        if name in ("sx", "system"):
            return Lines()
        if name == "pwd":
            return os.getcwd()
        if name in ("env", "set_env") and line.strip():
            variable, _, value = line.strip().replace("=", " ", 1).partition(" ")
            if value.strip():
                os.environ[variable] = value.strip()
            return os.environ.get(variable)

    def run_cell_magic(self, name, line, cell):
        body = "\n" + cell  # the magic's own line, so that errors name the right one
        if name == "capture":
            for word in line.split():
                if not word.startswith("-"):
                    self.user_ns[word] = Nothing()
        if name in ("time", "prun", "capture"):
            return self._notebook.execute(body)
        if name == "timeit":  # in a function of its own: it defines no names
            whole = self._notebook.namespace
            self._notebook.namespace = dict(whole)
            try:
                return self._notebook.execute(body)
            finally:
                self._notebook.namespace = whole
        if name in ("writefile", "file"):
            *options, file = line.split()
            with open(file, "a" if "-a" in options else "w", encoding="utf-8") as f:
                f.write(cell)

    def magic(self, line):
        name, _, rest = line.lstrip("%").partition(" ")
        return self.run_line_magic(name, rest)

    def getoutput(self, *args, **kwargs):
        return Lines()

    def system(self, *args, **kwargs):
        pass

    def run_cell(self, source, *args, **kwargs):
        self._notebook.execute(source, "<magic>")
        return Nothing()

    def ex(self, source):
        exec(source, self.user_ns)

    def ev(self, source):
        return eval(source, self.user_ns)


def transformed(source):
    """IPython's syntax as Python, by IPython itself, with as many lines before the first."""
    try:
        from IPython.core.inputtransformer2 import TransformerManager
    except ImportError:
        raise SyntaxError("not Python; to read magics the grader needs IPython") from None
    rest = source.lstrip("\n")
    return "\n" * (len(source) - len(rest)) + TransformerManager().transform_cell(rest)


class Notebook:
    """Runs cells one after the other in one namespace, as Jupyter's kernel does."""

    def __init__(self, namespace):
        self.namespace, self._name, self._flags, self._loop = namespace, "<cell>", 0, None
        self.shell = Shell(self)

    def run(self, source, number):
        self._name = f"<cell {number}>"
        self.execute(source)

    def execute(self, source, name=None):
        """Run source; returns its value if it is one expression. Raises whatever it raises."""
        code = self._compiled(source, name or self._name)
        value = eval(code, self.namespace)
        if code.co_flags & 0x80:  # a coroutine: there is an await at the top level
            if self._loop is None:
                import asyncio

                self._loop = asyncio.new_event_loop()
                asyncio.set_event_loop(self._loop)
            value = self._loop.run_until_complete(value)
        return value

    def _compiled(self, source, name):
        plain = None
        if name == "<magic>":
            try:
                return self._compile(source.strip(), name, "eval")
            except SyntaxError:
                pass  # a statement
        if not source.lstrip().startswith("In ["):  # IPython's prompt, an annotation to Python
            try:
                return self._compile(source, name, "exec")
            except SyntaxError as error:
                plain = error
        # what is Python needs no transformer, whose import takes time; what is not may be IPython's
        python = transformed(source)
        if python.rstrip() == source.rstrip() and plain:
            raise plain
        return self._compile(python, name, "exec")

    def _compile(self, source, name, mode):
        flags = self._flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile(source, name, mode, flags, dont_inherit=True)
        for feature in __future__.all_feature_names:  # holds for all later cells too
            self._flags |= code.co_flags & getattr(__future__, feature).compiler_flag
        return code


def place(error, number):
    """Where an error came from: "code cell 3, line 2"."""
    try:
        lines, name, trace = [], f"<cell {number}>", error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == name:
                lines.append(trace.tb_lineno)
            trace = trace.tb_next
        if type(error) in (SyntaxError, IndentationError, TabError) and error.filename == name:
            lines.append(error.lineno)
        return f"code cell {number}, line {int(lines[-1])}"
    except BaseException:  # a student's exception may be anything
        return f"code cell {number}"


def said(error):
    """An error's message, for a SyntaxError without the name and line that `place` gives."""
    try:
        return str(error.msg)[:300] if type(error) is SyntaxError else text(error)
    except BaseException:
        return text(error)


def run(cells):
    """Run every cell; an error ends only its own. Returns the namespace and the errors."""
    main = types.ModuleType("__main__")
    notebook = Notebook(main.__dict__)
    jupyter = {"display": lambda *a, **k: None, "get_ipython": lambda: notebook.shell}
    for names in (main.__dict__, builtins.__dict__):
        names.update(jupyter)
    sys.modules["__main__"] = main
    stub = types.ModuleType("exercises")  # marks are given outside
    stub.check = lambda *a, **k: None
    sys.modules["exercises"] = stub
    sys.path.insert(0, os.getcwd())  # what %%writefile has written can be imported
    if any("IPython" in source for source in cells):
        try:
            import IPython
            import IPython.core.getipython

            for module in (IPython, IPython.core.getipython):
                module.get_ipython = jupyter["get_ipython"]
        except ImportError:
            pass  # the cell that imports it says so
    errors = []
    for number, source in enumerate(cells, 1):
        try:
            notebook.run(source, number)
        except NotImplementedError:
            pass  # a blank
        except BaseException as error:
            kind = type(error).__name__[:80]
            errors.append(f"{place(error, number)}: {kind}: {said(error)}")
    return main.__dict__, errors[:20]


def encode(value):
    """A law's argument for JSON; `decode` makes the same array of it."""
    import numpy as np

    if isinstance(value, np.ndarray):
        kind = "integers" if value.dtype.kind in "iu" else "array"
        return {kind: value.tolist()}
    return value.item() if isinstance(value, np.generic) else value


def decode(value):
    import numpy as np

    if isinstance(value, dict):
        (kind, data), *_ = value.items()
        return np.array(data, dtype=np.int64 if kind == "integers" else np.float64)
    return value


def serve(descriptor):
    channel = socket.socket(fileno=descriptor).makefile("rwb")

    def send(message):
        channel.write(json.dumps(message).encode() + b"\n")
        channel.flush()

    start = json.loads(channel.readline())
    sys.path += [folder for folder in start["site"] if folder not in sys.path]
    namespace, errors = run(start["cells"])
    send({"ran": errors})
    for line in channel:
        request = json.loads(line)
        send(call(namespace, request["call"], [decode(a) for a in request["args"]]))
    os._exit(0)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
