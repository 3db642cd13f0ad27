"""A Python whose libraries are imported: a server imports them once and forks a process for each command.

`warm_python()` is an executable that takes a script, `-m` or `-c`, as Python does. A command gets its arguments, working
directory, environment, standard streams and exit status; no module of ours is imported before it. Other flags and variables
PYTHON... start a new Python. What depends on being a child of the caller needs one too: limits, groups of processes, what a
command used.
"""

from __future__ import annotations

import atexit
import gc
import os
import runpy
import selectors
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import weakref
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path

LIBRARIES = (
    "anndata",
    "concurrent.futures.process",
    "concurrent.futures.thread",
    "h5py",
    "igraph",
    "jinja2",
    "jsonschema",
    "matplotlib.backends.backend_svg",
    "matplotlib.pyplot",
    "numba",
    "pandas",
    "psutil",
    "pyarrow.parquet",
    "requests",
    "safetensors",
    "scipy.sparse.csgraph",
    "scipy.stats",
    "sklearn.decomposition",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.manifold",
    "sklearn.metrics",
    "sklearn.model_selection",
    "sklearn.neighbors",
    "snakemake.api",
    "snakemake.assets",
    "snakemake.cli",
    "snakemake.executors.dryrun",
    "snakemake.executors.local",
    "snakemake.profiles",
    "snakemake.report.html_reporter",
    "snakemake.storage",
    "snakemake_logger_plugin_rich.handler",
    "snakemake_storage_plugin_fs",
    "snakemake_storage_plugin_s3",
    "torch",
    "yaml",
)
"""What jobs and Snakemake import. None of them may read variables that tests set: huggingface_hub does."""

CLIENT = """#!{python} -IS
import os, socket, struct, sys
words = sys.argv[1:]
form = words[0] if words and words[0].startswith("-") else "script"
variables = [name for name in os.environ if name.startswith("PYTHON") and name not in ("PYTHONPATH", "PYTHONUNBUFFERED")]
if variables or form not in ("script", "-c", "-m") or len(words) < (1 if form == "script" else 2):
    os.execv({python!r}, [{python!r}, *words])
parts = [str(len(words)).encode(), *map(os.fsencode, words), os.fsencode(os.getcwd())]
message = b"\\0".join([*parts, *(name + b"=" + text for name, text in os.environb.items())])
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [struct.pack("=I", len(message))], [0, 1, 2])
    server.sendall(message)
    answer = server.recv(4)
code = struct.unpack("=i", answer)[0] if len(answer) == 4 else 70
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@cache
def warm_python() -> str:
    """Return the path of a warm `python`, started by the first call; its server ends with this process.

    Beside it lies what lies beside the real one. Where the system is not Linux it is the real one.
    """
    if sys.platform != "linux":
        return sys.executable
    folder = Path(tempfile.mkdtemp(prefix="warm"))  # short: the address of a socket has at most 107 bytes
    client, address = folder / "python", folder / "socket"
    client.write_text(CLIENT.format(python=sys.executable, address=str(address)), encoding="utf-8")
    client.chmod(stat.S_IRWXU)
    for program in Path(sys.executable).parent.iterdir():
        if not program.name.startswith("python"):
            (folder / program.name).symlink_to(program)
    environment = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    environment["JE_ARROW_MALLOC_CONF"] = "background_thread:false"  # Arrow's allocator would start a thread
    command = [sys.executable, __file__, str(address), str(client)]
    server = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(_stop, server)
    if server.stdout.readline() != "ready\n":
        raise RuntimeError("the warm Python did not start, see above")
    return str(client)


def _stop(server: subprocess.Popen) -> None:
    server.stdin.close()
    server.wait()


def serve(address: str, client: str) -> None:
    """Import LIBRARIES, then fork for each command until standard input ends."""
    for name in LIBRARIES:
        import_module(name)
    if len([*Path("/proc/self/task").iterdir()]) != 1:
        sys.exit("a library has started a thread, which a fork would lose: take it out of LIBRARIES")
    for finalizer in weakref.finalize._registry:
        finalizer.atexit = False  # what libraries clean up at their end is the server's
    gc.collect()
    gc.freeze()  # else the first collection of each child copies every page
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    events = selectors.DefaultSelector()
    events.register(sys.stdin.fileno(), selectors.EVENT_READ)
    events.register(listener, selectors.EVENT_READ)
    print("ready", flush=True)
    while True:
        for key, _ in events.select():
            if key.fileobj == sys.stdin.fileno():
                shutil.rmtree(Path(client).parent)
                os._exit(0)
            elif key.fileobj is listener:
                connection, _ = listener.accept()
                request = _received(connection)
                if request is None:
                    connection.close()
                    continue
                words, folder, environment, streams = request
                if not (pid := os.fork()):
                    events.close()
                    listener.close()
                    connection.close()
                    _become(client, words, folder, environment, streams)
                for stream in streams:
                    os.close(stream)
                process = os.pidfd_open(pid)
                events.register(process, selectors.EVENT_READ, (pid, connection))
                events.register(connection, selectors.EVENT_READ, (pid, None))
            elif isinstance(key.fileobj, socket.socket):  # the client was killed, and its command with it
                events.unregister(key.fileobj)
                with suppress(ProcessLookupError):
                    os.kill(key.data[0], signal.SIGKILL)
            else:
                pid, connection = key.data
                events.unregister(key.fileobj)
                os.close(key.fileobj)
                with suppress(KeyError):
                    events.unregister(connection)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with suppress(BrokenPipeError), connection:
                    connection.sendall(code.to_bytes(4, sys.byteorder, signed=True))


def _received(connection: socket.socket) -> tuple[list[str], str, dict[str, str], list[int]] | None:
    """Return the words of a command, its working directory, environment and standard streams; None if its client is gone."""
    header, streams, _, _ = socket.recv_fds(connection, 4, 3)
    message = bytearray()
    while len(header) == 4 and len(message) < int.from_bytes(header, sys.byteorder):
        piece = connection.recv(1 << 20)
        if not piece:
            break
        message += piece
    else:
        if len(header) == 4:
            n_words, *texts = map(os.fsdecode, bytes(message).split(b"\0"))
            words, folder, pairs = texts[: int(n_words)], texts[int(n_words)], texts[int(n_words) + 1 :]
            return words, folder, dict(pair.split("=", 1) for pair in pairs), streams
    for stream in streams:
        os.close(stream)
    return None


def _become(client: str, words: list[str], folder: str, environment: dict[str, str], streams: list[int]) -> None:
    """Run a command in this process, which was forked for it, and end."""
    code = 1
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        if environment.get("PYTHONUNBUFFERED"):
            sys.stdout.reconfigure(write_through=True)
        sys.executable = client  # what Python starts itself is warm too
        form = words[0] if words[0] in ("-c", "-m") else "script"
        sys.argv = words if form == "script" else [form, *words[2:]]
        place = {"-c": "", "-m": folder, "script": str(Path(words[0]).resolve().parent)}[form]
        sys.path[:1] = [place, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
        if form == "-c":
            exec(compile(words[1], "<string>", "exec"), vars(sys.modules["__main__"]))
        elif form == "-m":
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(words[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if code == 1 and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with suppress(BaseException):
            threading._shutdown()
            atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code & 0xFF)


if __name__ == "__main__":
    serve(*sys.argv[1:])
