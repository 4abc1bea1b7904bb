"""Start the student's process with as little power as this system lets us take away.

A program of the standard library, run by the grader as `python -I -S confine.py PLAN COMMAND ...`.
It takes these steps and reports on the channel, {"steps": {name: true or why not}}:

user        where the grader is root: an unprivileged user, who sees of root's folders only Python
namespaces  own user, process, network and mount namespace: when its first process ends the kernel
            ends all others; no network; a small file system in memory as working folder
limits      memory, processes, file size, no core files
landlock    read only Python and its libraries, write only in the working folder, no TCP

Then it becomes COMMAND. A step that the system refuses is left out; `grader.probe` tries out what
a submission can still do and says so. Linux; elsewhere only the limits.
"""

import ctypes
import json
import os
import signal
import socket
import sys

NEW_USER, NEW_PID, NEW_NET, NEW_NS, NEW_IPC = 0x10000000, 0x20000000, 0x40000000, 0x20000, 0x8000000
SET_PDEATHSIG, SET_DUMPABLE, SET_SUBREAPER, NO_NEW_PRIVS = 1, 4, 36, 38
BIND, REC, PRIVATE, NOSUID, NODEV = 1 << 12, 1 << 14, 1 << 18, 2, 4
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # Landlock's system calls
EXECUTE, WRITE, READ, LIST = 1, 2, 4, 8
INSIDE = 1000  # the user's number inside the namespace: not root, so that it has no capabilities

LINUX = sys.platform == "linux"
libc = ctypes.CDLL(None, use_errno=True) if LINUX else None


def system(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def prctl(option, value):
    system(libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0))


def mount(source, target, kind, flags, data=""):
    system(libc.mount(source.encode(), target.encode(), kind.encode(), flags, data.encode()))


# --------------------------------------------------------------------------- steps


def user(plan):
    if plan["user"] is None:
        return "the grader is not root" if os.getuid() else "others may not read this Python"
    if plan["private"]:
        system(libc.unshare(NEW_NS))
        mount("none", "/", "none", REC | PRIVATE)
    for folder in plan["private"]:
        open_up(folder, [p for p in plan["readable"] if p.startswith(folder + "/")])
    os.setgroups([])
    os.setgid(plan["user"])
    os.setuid(plan["user"])
    prctl(SET_DUMPABLE, 1)  # else /proc/self/uid_map belongs to root
    return True


def open_up(folder, wanted):
    """Show other users only those parts of a private folder that they need.

    In this process's own view of the file system only.
    """
    os.umask(0o022)
    handles = [(path, os.open(path, os.O_PATH)) for path in sorted(wanted)]
    mount("tmpfs", folder, "tmpfs", NOSUID | NODEV, "size=1m,mode=755")
    for path, handle in handles:
        if not os.path.exists(path):  # not below one that is there already
            directory = os.path.isdir(f"/proc/self/fd/{handle}")
            os.makedirs(path if directory else os.path.dirname(path), exist_ok=True)
            if not directory:
                os.close(os.open(path, os.O_CREAT))
            mount(f"/proc/self/fd/{handle}", path, "none", BIND | REC)
        os.close(handle)


def namespaces(plan):
    uid, gid = os.getuid(), os.getgid()
    system(libc.unshare(NEW_USER | NEW_PID | NEW_NET | NEW_NS | NEW_IPC))
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{INSIDE} {uid} 1"),
        ("gid_map", f"{INSIDE} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as f:
            f.write(line)
    return True


def mounts(plan):
    mount("none", "/", "none", REC | PRIVATE)
    size = f"size={plan['folder_bytes']},nr_inodes=2000,mode=700"
    mount("tmpfs", plan["folder"], "tmpfs", NOSUID | NODEV, size)
    try:
        mount("proc", "/proc", "proc", NOSUID | NODEV)
    except OSError:  # some containers forbid it; Landlock then hides the old one
        return False
    return True


def limits(plan):
    import resource

    for name, value in (
        ("AS", plan["address_bytes"]),
        ("FSIZE", plan["file_bytes"]),
        ("CPU", plan["cpu_seconds"]),
        ("NPROC", plan["processes"]),
        ("CORE", 0),
    ):
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))
    return True


class Ruleset(ctypes.Structure):
    _fields_ = [(n, ctypes.c_uint64) for n in ("fs", "net", "scoped")]


class Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("access", ctypes.c_uint64), ("descriptor", ctypes.c_int32)]


def landlock(plan):
    version = system(libc.syscall(CREATE_RULESET, None, 0, 1))
    everything = (1 << (13, 14, 15, 15, 16)[min(version, 5) - 1]) - 1
    # no TCP from version 4; no signals to, and no abstract sockets of, processes outside from 6
    rules = Ruleset(everything, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = system(libc.syscall(CREATE_RULESET, ctypes.byref(rules), size, 0))

    def allow(path, access):
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return  # nothing there, or nothing that we could read
        if not os.path.isdir(path):
            access &= EXECUTE | WRITE | READ | 1 << 14
        rule = Beneath(access & everything, descriptor)
        system(libc.syscall(ADD_RULE, ruleset, 1, ctypes.byref(rule), 0))
        os.close(descriptor)

    seen = set()

    def readable(path, hidden):
        """Allow reading everything below a path except the hidden folder."""
        path = os.path.realpath(path)  # lib64 of a virtual environment is a link to lib
        if path in seen or path == hidden:
            return
        seen.add(path)
        if not hidden.startswith(path.rstrip("/") + "/"):
            allow(path, EXECUTE | READ | LIST)
            return
        allow(path, LIST)  # names only: Python looks for modules in such a folder
        for name in os.listdir(path) if os.access(path, os.R_OK | os.X_OK) else ():
            readable(os.path.join(path, name), hidden)

    for path in plan["readable"]:
        readable(path, plan["hidden"])
    for path in ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"):
        allow(path, READ | WRITE)
    if plan["proc"]:
        allow("/proc", READ | LIST)
    allow(plan["folder"], everything)
    system(libc.syscall(RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)
    return True


# --------------------------------------------------------------------------- all of it


def attempt(step, plan):
    try:
        return step(plan)
    except (OSError, ValueError, AttributeError) as error:
        return str(error)


def main(plan, command):
    channel = plan["channel"]
    steps = {}
    if LINUX:
        steps["user"] = attempt(user, plan)
        prctl(SET_PDEATHSIG, signal.SIGKILL)  # after the change of user, which clears it
        prctl(SET_SUBREAPER, 1)  # what is orphaned stays a descendant, and is found
        steps["namespaces"] = attempt(namespaces, plan)
        if os.fork():  # a process namespace begins with the next child
            os.close(channel)
            while True:  # orphans too, so that the grader finds them below this process
                try:
                    os.wait()
                except ChildProcessError:
                    os._exit(0)
        prctl(SET_PDEATHSIG, signal.SIGKILL)
        plan["proc"] = steps["namespaces"] is True and attempt(mounts, plan) is True
    os.chdir(plan["folder"])
    steps["limits"] = attempt(limits, plan)
    if LINUX:
        prctl(NO_NEW_PRIVS, 1)
        steps["landlock"] = attempt(landlock, plan)
    report = socket.socket(fileno=os.dup(channel))
    report.sendall(json.dumps({"steps": steps}).encode() + b"\n")
    report.close()
    os.set_inheritable(channel, True)
    os.execve(command[0], command, plan["environment"])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2:])
