"""What is behind the fetch rules needs no network: a run whose objects are there ends with the network cut off."""

import shutil
import subprocess
import sys
from copy import deepcopy

import pytest
import tiny
from project import CONFIG, make_project

WATCH = """
import os, sys
def watch(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], (str, bytes)):
        return  # a socket of this machine alone
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        with open(os.environ["CELLGAUGE_WATCH"], "a") as file:
            file.write(f"{sys.argv} {event} {arguments[1:]}\\n")
        raise OSError("the network is cut off")
sys.addaudithook(watch)
"""


def cut_off():
    """Return the start of a command that runs another without network, as root or as a user; empty where neither may."""
    for command in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
        if (
            shutil.which("unshare")
            and subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
        ):
            return command
    return []


@pytest.mark.reliability(
    fault="there is no network once all is fetched",
    provoked="a run in a network namespace without interfaces; every Python process is watched for connections",
    outcome="tables and report; no process asks for a connection",
    tries=1,
)
def test_jobs_behind_the_fetch_rules_need_no_network(tmp_path):
    config = deepcopy(CONFIG)
    config["run"] |= {"models": ["random"], "tasks": ["clustering"], "datasets": ["tiny/human"]}
    config["datasets"]["tiny"]["splits"]["human"]["url"] = "https://host.example/fetched.h5ad"
    project = make_project(tmp_path / "project", config)
    fetched = project.folder / "resources/datasets/tiny/fetched.h5ad"
    fetched.parent.mkdir(parents=True)
    tiny.published().write_h5ad(fetched)
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch/sitecustomize.py").write_text(WATCH)
    asked = tmp_path / "asked"
    environment = {"PYTHONPATH": str(tmp_path / "watch"), "CELLGAUGE_WATCH": str(asked)}
    probe = [sys.executable, "-c", "import socket; socket.create_connection(('192.0.2.1', 80), 1)"]
    assert subprocess.run(probe, env=environment, capture_output=True, check=False).returncode  # the watch watches
    assert asked.read_text()
    asked.unlink()

    project.run(before=cut_off(), real=True, **environment)

    assert not asked.exists(), asked.read_text()
    assert (project.folder / "results/report.html").is_file()
    assert {*project.table()["status"]} == {"ok"}
