"""Fixtures of the integration tests: a finished project on tiny data, and an S3 server."""

from __future__ import annotations

import shutil

import pytest
import servers
from project import Project, make_project


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory) -> Project:
    """The tiny project after a complete run. Do not edit it: take `project`."""
    project = make_project(tmp_path_factory.mktemp("finished") / "project")
    project.run()
    return project


@pytest.fixture
def project(finished_project, tmp_path) -> Project:
    """A copy of the finished project, free to edit."""
    shutil.copytree(finished_project.folder, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


@pytest.fixture
def fresh_project(tmp_path) -> Project:
    """A project that has not run yet."""
    return make_project(tmp_path / "project")


@pytest.fixture(scope="session")
def s3_server():
    """An S3 server of our own."""
    with servers.s3_server() as server:
        yield server
