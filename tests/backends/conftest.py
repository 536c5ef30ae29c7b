"""The places that the suite runs in. The Slurm one starts a real scheduler, once."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import CI, LocalPlace, Place, SlurmPlace


@pytest.fixture(scope="session")
def slurm_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder of a running one-node Slurm: the one SLURM_CONF names, or a new one if its daemons are installed."""
    if "SLURM_CONF" in os.environ:
        yield Path(os.environ["SLURM_CONF"]).parent
        return
    if os.getuid() != 0 or not shutil.which("slurmctld"):
        pytest.skip("needs root and Slurm: .ci/slurm.sh start DIR installs and starts it")
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run([str(CI / "slurm.sh"), "start", str(folder)], check=True, stdout=subprocess.DEVNULL)
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    try:
        yield folder
    finally:
        del os.environ["SLURM_CONF"]
        subprocess.run([str(CI / "slurm.sh"), "stop", str(folder)], check=True)


@pytest.fixture(params=["local", pytest.param("slurm", marks=pytest.mark.slurm)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "slurm":
        request.getfixturevalue("slurm_dir")
    made = SlurmPlace(tmp_path) if request.param == "slurm" else LocalPlace(tmp_path)
    yield made
    made.close()


@pytest.fixture
def slurm(slurm_dir: Path, tmp_path: Path) -> Iterator[SlurmPlace]:
    made = SlurmPlace(tmp_path)
    yield made
    made.close()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalPlace]:
    made = LocalPlace(tmp_path)
    yield made
    made.close()
