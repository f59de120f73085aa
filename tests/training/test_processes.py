"""Two processes compute what one computes: the same global batches, the same losses, the same bundle."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.training.small_runs import FIELDS, logged, recipe, run, settings, write_folder
from vitsmith.errors import ConfigError
from vitsmith.training.devices import Devices, check_batch
from vitsmith.training.recipes.file import merge

WANTED = merge(
    FIELDS,
    {"augment": {"grade": "light2"}, "batch": {"micro": 2}, "optimizer": {"lr": 0.05}, "run": {"checkpoint_every": 5}},
)


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """A run in one process, and the folder it learned from."""
    place = tmp_path_factory.mktemp("single")
    data = write_folder(place / "data")
    done = run("train", *options(data), "--out", str(place / "run"))
    assert done.returncode == 0, done.stderr
    return place


_EACH_IN_ITS_OWN = """
import os
from vitsmith.cli.main import main

os.chdir(os.path.join(os.environ["PLACES"], os.environ["RANK"]))
main()
"""


def options(data, **changes) -> list[str]:
    return settings(merge(WANTED, {"data": {"path": str(data)}}, changes))


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_lose_what_one_does(single, tmp_path, parallel) -> None:
    chosen = options(single / "data", run={"parallel": parallel})
    done = run("train", *chosen, "--out", str(tmp_path / "run"), "--json", processes=2)
    assert done.returncode == 0, done.stderr
    for event, field in (("step", "loss"), ("step", "gradient_norm"), ("evaluation", "nll")):
        np.testing.assert_allclose(
            logged(tmp_path / "run", event, field), logged(single / "run", event, field), rtol=1e-5
        )
    assert json.loads(done.stdout)["num_images"] == 9  # every held-out image, once
    assert logged(tmp_path / "run", "step", "step") == list(range(1, 13))  # the main process alone writes


def test_two_processes_with_different_data_are_refused(single, tmp_path) -> None:
    """Each finds its data in a folder of its own, as machines do; one of them lacks an image."""
    write_folder(tmp_path / "0" / "data")
    write_folder(tmp_path / "1" / "data")
    (tmp_path / "1" / "data" / "red" / "00.png").unlink()
    script = tmp_path / "each.py"
    script.write_text(_EACH_IN_ITS_OWN)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run(
        [*launcher, "train", *options("data"), "--out", "run"],
        env=os.environ | {"PLACES": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode != 0
    assert "processes 0 and 1 see different data" in done.stderr
    assert "exitcode  : 2" in done.stderr
    assert not (tmp_path / "0" / "run" / "model").exists()


def test_a_batch_must_be_shared_out_evenly() -> None:
    three = Devices(None, 0, 3)
    check_batch(recipe(), three)
    with pytest.raises(ConfigError, match="12 images cannot be shared out over 5 processes"):
        check_batch(recipe(), Devices(None, 0, 5))
    with pytest.raises(ConfigError, match=r"4 images of each of 3 processes are no multiple of batch\.micro = 6"):
        check_batch(recipe(batch={"micro": 6}), three)
    with pytest.raises(ConfigError, match=r"mixup mixes pairs: set batch\.size to a multiple of 8"):
        check_batch(recipe(augment={"mixup": 0.2}), Devices(None, 0, 4))
