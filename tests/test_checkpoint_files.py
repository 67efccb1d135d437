"""Files of a trained flow: as readable as any other, and when they can not be read it is said why."""

import errno
import json
import os
import stat
from pathlib import Path

import pytest
import torch
from pieces import small_flow
from safetensors.torch import load_file, save_file
from test_training import run

from flowprior.errors import FlowpriorError
from flowprior.files import replacing
from flowprior.models.flows.checkpoint import load_flow, save_flow
from flowprior.tensors import read_tensors, write_tensors


@pytest.fixture
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def checkpoint(tmp_path):
    """A trained flow two folders down, as an experiment has it."""
    folder = tmp_path / "flows" / "prior"
    save_flow(folder, small_flow("haar_glow", dtype=torch.float32))
    return folder


def permissions(path):
    return stat.S_IMODE(path.stat().st_mode)


def by_hand(path):
    with replacing(path) as part:
        part.touch(mode=0o600)


def by_safetensors(path):
    with replacing(path) as part:
        save_file({"a": torch.zeros(2)}, part)


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077, 0o027], indirect=True)
@pytest.mark.parametrize(
    "write", [by_hand, by_safetensors, lambda path: write_tensors(path, {"a": torch.zeros(2)}, {"facts": "1"})]
)
def test_a_file_has_the_permissions_that_the_umask_says(tmp_path, umask, write):
    write(tmp_path / "folder" / "a.safetensors")
    assert permissions(tmp_path / "folder" / "a.safetensors") == 0o666 & ~umask
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("umask", [0o022, 0o002], indirect=True)
def test_all_files_of_a_flow_have_them(umask, tmp_path):
    save_flow(tmp_path / "flow", small_flow("haar_glow", dtype=torch.float32))
    assert {permissions(path) for path in (tmp_path / "flow").iterdir()} == {0o666 & ~umask}


@pytest.mark.parametrize("umask", [0o002], indirect=True)
def test_the_state_of_a_training_has_them_too(umask, tmp_path):
    run(folder=tmp_path)
    assert permissions(tmp_path / "state.safetensors") == 0o666 & ~umask


def test_tensors_come_back(tmp_path):
    tensors = {"a": torch.rand(3), "b": torch.arange(4)}
    write_tensors(tmp_path / "t.safetensors", tensors)
    assert all(torch.equal(value, tensors[key]) for key, value in read_tensors(tmp_path / "t.safetensors", "").items())
    assert load_file(tmp_path / "t.safetensors").keys() == tensors.keys()


def said(path):
    with pytest.raises(FlowpriorError) as caught:
        load_flow(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_what_is_missing_is_called_missing(checkpoint, tmp_path):
    assert "no checkpoint in" in said(tmp_path / "nowhere") and "there is no such folder" in said(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "config.json is missing; train a model" in said(tmp_path / "empty")
    (checkpoint / "weights.safetensors").unlink()
    assert "weights.safetensors is missing" in said(checkpoint)


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors"])
@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.EACCES, "may not be read by this user"), (errno.EIO, "can not be read (Input/output")],
)
def test_what_may_not_be_read_is_not_called_missing(checkpoint, monkeypatch, name, number, message):
    """Root may read everything: the system's answer is put in its place."""
    exact = Path.open

    def refusing(path, *given, **more):
        if path.name == name:
            raise OSError(number, os.strerror(number), str(path))
        return exact(path, *given, **more)

    monkeypatch.setattr(Path, "open", refusing)
    # Nor does safetensors, whose files are opened elsewhere, come to it.
    found = said(checkpoint)
    assert message in found and name in found and "missing" not in found


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["config.json", "weights.safetensors"])
def test_without_permission_it_is_said(checkpoint, name):
    (checkpoint / name).chmod(0)
    assert "may not be read by this user" in said(checkpoint)


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors"])
def test_a_folder_in_place_of_a_file_can_not_be_read(checkpoint, name):
    (checkpoint / name).unlink()
    (checkpoint / name).mkdir()
    assert f"{checkpoint / name} is there, but can not be read (Is a directory)" in said(checkpoint)


@pytest.mark.parametrize("damage", [b"", b"short", b"\xff" * 64])
def test_damaged_weights_are_called_damaged(checkpoint, damage):
    (checkpoint / "weights.safetensors").write_bytes(damage)
    assert f"{checkpoint / 'weights.safetensors'} is damaged" in said(checkpoint)
    whole = load_flow_bytes(checkpoint)
    (checkpoint / "weights.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "is damaged" in said(checkpoint)


def load_flow_bytes(folder):
    save_flow(folder, small_flow("haar_glow", dtype=torch.float32))
    return (folder / "weights.safetensors").read_bytes()


@pytest.mark.parametrize(
    "config",
    [b"{", b"\xff\xfe", b"[]", b"3", b'{"model_type": "bert"}', b'{"flow": "glow", "shape": 3, "settings": {}}',
     b'{"flow": "glow", "shape": [3, 8, 8], "settings": 5}'],
)  # fmt: skip
def test_a_description_of_something_else_is_no_flows(checkpoint, config):
    (checkpoint / "config.json").write_bytes(config)
    assert "is not a model's description" in said(checkpoint) and "name a model's folder" in said(checkpoint)


def test_a_flow_that_is_elsewhere_is_named(checkpoint, tmp_path):
    for file in checkpoint.iterdir():
        assert f"that is a file; name its folder, {checkpoint}" in said(file)
    (tmp_path / "note.txt").touch()
    assert "that is a file; name the folder of a trained model" in said(tmp_path / "note.txt")
    for above in (checkpoint.parent, tmp_path):
        assert f"config.json is missing there, but not in {checkpoint}; name that folder" in said(above)
    save_flow(checkpoint.with_name("second"), small_flow("haar_glow", dtype=torch.float32))
    assert "or another of the 2 below it" in said(checkpoint.parent)
    (checkpoint / "samples").mkdir()
    assert f"but not in {checkpoint}; name that folder" in said(checkpoint / "samples")


def test_weights_are_not_looked_for_when_the_description_is_of_another_flow(checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, "flow": "glo"}))
    assert "did you mean 'glow'" in said(checkpoint)
