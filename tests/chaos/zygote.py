"""Processes of tools/train.py that start in no time: copies of one that has imported Paddle.

`python zygote.py SOCKET` imports it, and forks for each client; `python -S zygote.py SOCKET ARGUMENTS...` is a client:
tools/train.py with these arguments, in its own folder, with its own variables and output, until it ends.
A client that is killed takes its process with it.
"""
from __future__ import annotations

import array
import json
import os
import select
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

TOOL = Path(__file__).resolve().parents[2] / "tools" / "train.py"


def serve(address: str) -> None:
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
    sys.path[:0] = [str(TOOL.parent), str(TOOL.parents[1])]
    import program

    import ppadapt.runs.experiment  # noqa: F401

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    print("ready", flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    parent = os.getppid()
    listener.settimeout(1)
    while os.getppid() == parent:
        try:
            client, _ = listener.accept()
        except socket.timeout:
            continue
        client.setblocking(True)
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _care_for(client, program)
        client.close()


def _care_for(client: socket.socket, program) -> None:
    """Start a process, end it when the client goes, tell the client how it ended."""
    given, files = _receive(client)
    process = os.fork()
    if process == 0:
        client.close()
        for place, file in enumerate(files):
            os.dup2(file, place + 1)
        sys.stdout, sys.stderr = (open(place, "w", buffering=1, encoding="utf-8") for place in (1, 2))
        os.chdir(given["folder"])
        os.environ.clear()
        os.environ.update(given["environment"])
        sys.argv = [str(TOOL), *given["arguments"]]
        program.run()
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            client.sendall(json.dumps(os.waitstatus_to_exitcode(status)).encode())
            os._exit(0)
        if select.select([client], [], [], 0.02)[0] and not client.recv(1):
            os.kill(process, signal.SIGKILL)
            os._exit(0)


def _receive(client: socket.socket) -> tuple:
    size, files = array.array("Q"), array.array("i")
    head, ancillary, _, _ = client.recvmsg(8, socket.CMSG_SPACE(8))
    if not ancillary:
        os._exit(0)  # the client was killed before it had asked
    size.frombytes(head)
    files.frombytes(ancillary[0][2])
    text = b""
    while len(text) < size[0]:
        text += client.recv(size[0] - len(text))
    return json.loads(text), files


@contextmanager
def served(folder: Path) -> Iterator[list[str]]:
    """The command that, with its arguments, is tools/train.py in a process that has Paddle imported already."""
    address = folder / "zygote"
    server = subprocess.Popen([sys.executable, __file__, str(address)], stdout=subprocess.PIPE)
    try:
        server.stdout.readline()
        yield [sys.executable, "-S", __file__, str(address)]
    finally:
        server.kill()
        server.wait()


def ask(address: str, arguments: list) -> int:
    """Run tools/train.py in a copy of the one that serves; its exit code, negative for a signal."""
    text = json.dumps({"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}).encode()
    server = socket.socket(socket.AF_UNIX)
    server.connect(address)
    server.sendmsg([array.array("Q", [len(text)]).tobytes()],
                   [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [1, 2]))])
    server.sendall(text)
    return json.loads(server.recv(64) or b"1")


if __name__ == "__main__":
    if len(sys.argv) == 2:
        serve(sys.argv[1])
        sys.exit()
    code = ask(sys.argv[1], sys.argv[2:])
    os._exit(code if code >= 0 else 128 - code)
