"""What is handed out is whole: the wheel has all of the package, the source distribution all of the repository."""

from __future__ import annotations

import email
import re
import subprocess
import tarfile
import zipfile
from email.message import Message
from typing import Any

import pytest

from kdna_deploy.version import VERSION
from tests.conftest import REPOSITORY
from tests.distribution import source_distribution, wheel
from tests.versions import VERSIONS

tomllib = pytest.importorskip("tomllib", reason="reads pyproject.toml with Python 3.11's own library")

PROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
INFO = f"kdna_deploy-{VERSION}.dist-info"
NOT_HANDED_OUT = {".gitignore", ".ci/run"}  # of no use outside a clone


def repository_files() -> set[str]:
    """What git knows, and what it would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no clone, whose files git lists")
    return {name for name in listed.stdout.split("\0") if (REPOSITORY / name).is_file()}


def required(requirement: str) -> str:
    """The name in a requirement, as metadata spell it."""
    return re.split(r"[\s<>=!~;\[]", requirement)[0].lower()


@pytest.fixture(scope="module")
def opened() -> dict[str, bytes]:
    """Name → content of the files in the wheel."""
    with zipfile.ZipFile(wheel()) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def metadata(opened: dict[str, bytes]) -> Message:
    return email.message_from_string(opened[f"{INFO}/METADATA"].decode())


@pytest.mark.slow
def test_the_wheel_has_all_of_the_package_and_nothing_else(opened: dict[str, bytes]) -> None:
    assert {name for name in opened if not name.startswith(f"{INFO}/")} == {
        name for name in repository_files() if name.startswith("kdna_deploy/")
    }


@pytest.mark.slow
def test_the_source_distribution_has_all_of_the_repository() -> None:
    with tarfile.open(source_distribution()) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    written = {"PKG-INFO", "setup.cfg", *(name for name in names if ".egg-info/" in name)}
    assert names - written == repository_files() - NOT_HANDED_OUT


@pytest.mark.slow
def test_the_metadata_are_those_of_the_project(metadata: Message, opened: dict[str, bytes]) -> None:
    assert (metadata["Name"], metadata["Version"]) == (PROJECT["name"], VERSION)
    assert metadata["Requires-Python"] == PROJECT["requires-python"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert str(metadata.get_payload()).strip() == (REPOSITORY / "README.md").read_text(encoding="utf-8").strip()
    assert set(metadata.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])
    core = [one for one in metadata.get_all("Requires-Dist", []) if "extra ==" not in one]
    assert set(map(required, core)) == set(map(required, PROJECT["dependencies"]))
    assert set(metadata.get_all("Project-URL", [])) == {f"{name}, {url}" for name, url in PROJECT["urls"].items()}
    assert f"kdna-deploy = {PROJECT['scripts']['kdna-deploy']}" in opened[f"{INFO}/entry_points.txt"].decode()


@pytest.mark.slow
def test_the_licence_is_the_one_that_is_named_and_goes_along(metadata: Message, opened: dict[str, bytes]) -> None:
    text = (REPOSITORY / "LICENSE").read_bytes()
    assert metadata["License-Expression"] == PROJECT["license"] == "Apache-2.0"
    assert b"Apache License" in text[:200] and b"Version 2.0, January 2004" in text[:200]
    assert opened[f"{INFO}/licenses/LICENSE"] == text


def test_the_versions_of_python_are_those_that_are_tested() -> None:
    named = re.findall(r"Python :: 3\.(\d+)", "\n".join(PROJECT["classifiers"]))
    assert named == sorted(one.removeprefix("3.") for one in (*VERSIONS, "3.11"))
    assert PROJECT["requires-python"] == f">=3.{named[0]}"


def test_the_version_is_said_in_one_place() -> None:
    assert PROJECT["dynamic"] == ["version"]  # of `version.py`
    latest = re.search(r"^## (\S+)", (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert latest and latest[1] == VERSION


def test_running_files_of_other_runtimes_takes_no_pytorch() -> None:
    """ExecuTorch is an exception; pnnx, which writes ncnn files, requires PyTorch."""
    extras = PROJECT["optional-dependencies"]
    brought = {name: set(map(required, extras[name])) for name in ("openvino", "ncnn", "mnn", "litert")}
    assert brought["ncnn"] == {"ncnn"}
    assert not any(found & {"torch", "pnnx", "kdna-deploy", "executorch"} for found in brought.values())
    assert set(map(required, extras["ncnn-convert"])) == {"kdna-deploy", "pnnx"}


def test_every_extra_that_is_named_is_one() -> None:
    files = [
        *(REPOSITORY / "kdna_deploy").rglob("*.py"),
        *(REPOSITORY / "docs").rglob("*.md"),
        REPOSITORY / "README.md",
    ]
    named = {one for file in files for one in re.findall(r"kdna-deploy\[([\w,-]+)\]", file.read_text(encoding="utf-8"))}
    assert "ncnn-convert" in named
    assert {one for group in named for one in group.split(",")} <= set(PROJECT["optional-dependencies"])


def test_the_extras_are_those_of_the_documentation() -> None:
    page = (REPOSITORY / "docs" / "installation.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([\w-]+)` ", page, re.MULTILINE)) == set(PROJECT["optional-dependencies"])
