"""Fixtures of the integration tests: a finished project on tiny data, and an S3 server."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

import pytest
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


@dataclass
class S3Server:
    """moto's S3 on loopback, open to unsigned readers."""

    url: str

    def put(self, bucket: str, key: str, content: bytes) -> None:
        client = self._client()
        if bucket not in [entry["Name"] for entry in client.list_buckets()["Buckets"]]:
            client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
        client.put_object(Bucket=bucket, Key=key, Body=content, ACL="public-read")

    def keys(self, bucket: str) -> list[str]:
        pages = self._client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def get(self, bucket: str, key: str) -> bytes:
        return self._client().get_object(Bucket=bucket, Key=key)["Body"].read()

    def _client(self):
        import boto3

        credentials = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-west-2"}
        return boto3.client("s3", endpoint_url=self.url, **credentials)


@pytest.fixture(scope="session")
def s3_server():
    """An S3 server of our own."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield S3Server(f"http://{host}:{port}")
    server.stop()
