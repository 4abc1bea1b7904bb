"""The student's process: run a notebook's cells, then answer calls with numbers.

The grader hands its source to `python -c`, so that the process needs no file of this package, and
sees none. It talks JSON, one line a message, over one socket:

    ← {"cells": [source, ...], "site": [folder, ...]}
    → {"ran": ["cell 3: NameError: ...", ...]}
    ← {"call": name, "args": [...]}          a number, {"array": [...]} or {"integers": [...]}
    → {"value": nested list of numbers} or {"error": kind, "text": "..."}

Whatever the student's code does to this process, only such lines leave it, and the grader trusts
none of them.
"""

import json
import os
import re
import socket
import sys
import types

LARGEST = 100_000  # numbers in one answer
MAGIC = re.compile(r"(?m)^(\s*)(?:[%!?].*|[\w.]+\?\??)$")  # %magic, !command, ?name, name?


def to_data(value):
    """A student's answer as nested lists of floats; raises TypeError for what is no numbers."""
    import numpy as np

    if hasattr(value, "detach"):  # a tensor of torch
        value = value.detach().cpu()
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "biufO":  # O: numbers of sympy, say
            raise TypeError
        array = array.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(
            f"gave {type(value).__name__}, which is no number or array of numbers"
        ) from None
    if array.size > LARGEST:
        raise TypeError(f"gave {array.size} numbers; at most {LARGEST} are expected")
    return array.tolist()


def call(namespace, name, args):
    """The reply to one call, as a dict that JSON can hold."""
    if not callable(namespace.get(name)):
        return {"error": "Missing", "text": name}
    try:
        return {"value": to_data(namespace[name](*args))}
    except BaseException as error:  # whatever it is, the next law asks on
        return {"error": type(error).__name__[:80], "text": text(error)}


def text(error):
    try:
        return str(error)[:300]
    except BaseException:
        return "(its message cannot be shown)"


def compiled(source, name):
    """The code of a cell; lines of magic count as nothing."""
    try:
        return compile(source, name, "exec")
    except SyntaxError:
        if source.lstrip().startswith("%%"):
            source = source.lstrip().split("\n", 1)[-1] if "\n" in source else ""
        return compile(MAGIC.sub(r"\1pass", source), name, "exec")


def run(cells):
    """(namespace, errors) after every cell; an error ends its cell only."""
    main = types.ModuleType("__main__")
    main.__dict__.update(display=lambda *a, **k: None, get_ipython=lambda: None)
    sys.modules["__main__"] = main
    stub = types.ModuleType("exercises")  # marks are given outside
    stub.check = lambda *a, **k: None
    sys.modules["exercises"] = stub
    errors = []
    for number, source in enumerate(cells, 1):
        try:
            exec(compiled(source, f"<cell {number}>"), main.__dict__)
        except NotImplementedError:
            pass  # a blank
        except BaseException as error:
            errors.append(f"cell {number}: {type(error).__name__[:80]}: {text(error)}")
    return main.__dict__, errors[:20]


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
