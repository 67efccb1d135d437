"""CelebA's archive: reading, downloading, and everything that can be wrong with it."""

import contextlib
import hashlib
import http.server
import itertools
import threading
import zipfile

import numpy as np
import pytest
from image_archives import celeba_name, encoded, files_below, write_celeba

from flowprior import images
from flowprior.errors import FlowpriorError
from flowprior.images.celeba import ARCHIVE, PARTITION
from flowprior.images.settings import DataSettings


def settings(path, **others):
    return DataSettings(source="celeba", path=str(path), **{"resolution": 16, **others})


def digest(path, algorithm="sha256"):
    return f"{algorithm}:{hashlib.new(algorithm, path.read_bytes()).hexdigest()}"


@pytest.fixture
def raw(tmp_path):
    return write_celeba(tmp_path / "raw")


def test_the_partition_file_decides_and_names_order(raw, tmp_path):
    splits = images.prepare(settings(raw), tmp_path / "out")["splits"]
    names = [celeba_name(number) for number in range(1, 14)]
    assert splits["train"]["names"] == names[:6]
    assert splits["validation"]["names"] == names[6:9]
    assert splits["test"]["names"] == names[9:]


def test_path_may_name_the_archive_itself(raw, tmp_path):
    images.prepare(settings(raw), tmp_path / "one")
    images.prepare(settings(raw / ARCHIVE), tmp_path / "two")
    one, two = files_below(tmp_path / "one"), files_below(tmp_path / "two")
    assert [one[f"{s}.npy"] for s in ("train", "test")] == [two[f"{s}.npy"] for s in ("train", "test")]


def test_raw_files_are_only_read(raw, tmp_path):
    before = files_below(raw)
    images.prepare(settings(raw), tmp_path / "out")
    assert files_below(raw) == before


def test_one_unreadable_image_is_named_and_the_rest_goes_on(tmp_path, capsys):
    whole = write_celeba(tmp_path / "whole")
    broken = write_celeba(tmp_path / "broken", damage=lambda n, c: c[:-500] if n == celeba_name(3) else c)
    images.prepare(settings(whole), tmp_path / "one")
    manifest = images.prepare(settings(broken), tmp_path / "two")
    facts = manifest["splits"]["train"]
    assert facts["unreadable"] == [celeba_name(3)]
    assert celeba_name(3) not in facts["names"]
    assert facts["count"] == 5
    assert f"can not read image {celeba_name(3)}" in capsys.readouterr().err
    one, two = (np.load(tmp_path / place / "train.npy") for place in ("one", "two"))
    assert np.array_equal(np.delete(one, 2, axis=0), two)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-700],
        lambda content: b"<html>quota exceeded</html>",
        lambda content: b"",
        lambda content: None,
    ],
    ids=["cut", "text", "empty", "missing"],
)
def test_more_than_one_percent_unreadable_stops_and_lists_them(damage, tmp_path):
    bad = {celeba_name(number) for number in (5, 60, 110)}
    raw = write_celeba(
        tmp_path / "raw",
        counts=(95, 5, 20),
        damage=lambda name, content: damage(content) if name in bad else content,
    )
    with pytest.raises(FlowpriorError, match=r"2 images so far of 120 .* 1%: 000005.jpg, 000060.jpg;"):
        images.prepare(settings(raw), tmp_path / "prepared/out")
    assert not list((tmp_path / "prepared").iterdir())


def test_one_percent_is_tolerated(tmp_path):
    bad = {celeba_name(5): b"", celeba_name(195): b""}
    raw = write_celeba(tmp_path / "raw", counts=(190, 5, 5), damage=lambda name, content: bad.get(name, content))
    splits = images.prepare(settings(raw), tmp_path / "out")["splits"]
    assert (splits["train"]["count"], splits["validation"]["count"], splits["test"]["count"]) == (189, 4, 5)


def test_a_member_that_fails_its_crc_is_unreadable(raw, tmp_path):
    content = (raw / ARCHIVE).read_bytes()
    image = encoded(2)
    place = content.index(image) + len(image) // 2
    (raw / ARCHIVE).write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
    assert images.prepare(settings(raw), tmp_path / "out")["splits"]["train"]["unreadable"] == [celeba_name(2)]


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_truncated_archive(raw, tmp_path, kept):
    content = (raw / ARCHIVE).read_bytes()
    (raw / ARCHIVE).write_bytes(content[: int(kept * len(content))])
    with pytest.raises(FlowpriorError, match=rf"{ARCHIVE} is truncated .* get it again"):
        images.prepare(settings(raw), tmp_path / "prepared/out")
    assert not list((tmp_path / "prepared").iterdir())


@pytest.mark.parametrize("file", [ARCHIVE, PARTITION])
def test_missing_file(raw, tmp_path, file):
    (raw / file).unlink()
    with pytest.raises(FlowpriorError, match=rf"no CelebA file at .*{file}; put .* data.url"):
        images.prepare(settings(raw), tmp_path / "out")


@pytest.mark.parametrize("line", ["000001.jpg", "000001.jpg 3", "000001.jpg 0 1", "image_id,partition"])
def test_bad_partition_line(raw, tmp_path, line):
    (raw / PARTITION).write_text(f"000002.jpg 0\n{line}\n")
    with pytest.raises(FlowpriorError, match=rf"{PARTITION}, line 2 .*'{line}'"):
        images.prepare(settings(raw), tmp_path / "out")


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_checksum_of_the_archive(raw, tmp_path, algorithm):
    right = digest(raw / ARCHIVE, algorithm)
    manifest = images.prepare(settings(raw, checksum=right.upper()), tmp_path / "out")
    assert manifest["checksums"][ARCHIVE] == digest(raw / ARCHIVE)
    wrong = right[:-1] + ("0" if right[-1] != "0" else "1")
    with pytest.raises(FlowpriorError, match=f"wrong checksum of .*{ARCHIVE}: expected {wrong}, got {right}"):
        images.prepare(settings(raw, checksum=wrong), tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("checksum", "message"),
    [("abc", "must be 'sha256:'"), ("md5:12", "must be 'sha256:'"), ("sha265:00", "did you mean 'sha256'")],
)
def test_misspelt_checksum(raw, tmp_path, checksum, message):
    with pytest.raises(FlowpriorError, match=message):
        images.prepare(settings(raw, checksum=checksum), tmp_path / "out")


def test_members_with_paths_outside_do_no_harm(raw, tmp_path):
    with zipfile.ZipFile(raw / ARCHIVE, "a") as archive:
        archive.writestr("../../outside.jpg", encoded(1))
        archive.writestr(str(tmp_path / "absolute.jpg"), encoded(1))
    with (raw / PARTITION).open("a") as file:
        file.write("outside.jpg 0\nabsolute.jpg 0\n")
    before = set(tmp_path.rglob("*"))
    images.prepare(settings(raw), tmp_path / "out")
    new = {path.relative_to(tmp_path).parts[0] for path in set(tmp_path.rglob("*")) - before}
    assert new == {"out"}


@pytest.fixture
def remote(raw, tmp_path, monkeypatch):
    """Settings that download the small archive from a file:// address into an empty place."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    url = (raw / ARCHIVE).as_uri()
    return DataSettings(source="celeba", resolution=16, url=url, checksum=digest(raw / ARCHIVE))


def test_download(remote, raw, tmp_path):
    images.fetch(remote)
    assert files_below(tmp_path / "here/data/celeba") == files_below(raw)
    images.fetch(remote.model_copy(update={"url": "https://nowhere.invalid/a.zip"}))  # nothing is missing
    assert images.prepare(remote, tmp_path / "out")["splits"]["train"]["count"] == 6


def test_download_gets_only_what_is_missing(remote, tmp_path):
    place = tmp_path / "here/data/celeba"
    place.mkdir(parents=True)
    (place / PARTITION).write_text("000001.jpg 0\n")
    images.fetch(remote)
    assert (place / PARTITION).read_text() == "000001.jpg 0\n"
    assert (place / ARCHIVE).is_file()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"checksum": "sha256:" + 64 * "0"}, "wrong checksum of file://.*expected sha256:0000"),
        ({"checksum": None}, "wrong checksum of file://.*expected md5:00d2c5bc6d35e252742224ab0c1e8fcb"),
        ({"checksum": "md5:12"}, "checksum must be"),
        ({"url": "file:///nowhere/img_align_celeba.zip"}, "can not download file:///nowhere"),
        ({"url": "ftp://example.org/a.zip"}, "must begin with https://"),
        ({"url": "img_align_celeba.zip"}, "must begin with https://"),
    ],
)
def test_download_that_fails_leaves_nothing(remote, tmp_path, change, message):
    with pytest.raises(FlowpriorError, match=message):
        images.fetch(remote.model_copy(update=change))
    assert not files_below(tmp_path / "here")
    assert not (tmp_path / "here/data/celeba").exists()


def test_downloaded_file_has_to_be_an_archive(remote, raw, tmp_path):
    (raw / ARCHIVE).write_text("<html>quota exceeded</html>")
    with pytest.raises(FlowpriorError, match="no zip archive"):
        images.fetch(remote.model_copy(update={"checksum": digest(raw / ARCHIVE)}))
    assert not files_below(tmp_path / "here")


@contextlib.contextmanager
def serving(*answers):
    """The address of a server that gives these answers in turn, the last for ever, each announced as long as it."""
    turns = itertools.chain(answers, itertools.repeat(answers[-1]))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(max(1000, len(answers[-1]))))
            self.end_headers()
            self.wfile.write(next(turns))

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{ARCHIVE}"
        server.shutdown()


def test_download_that_stops_early(remote, tmp_path):
    with serving(b"PK") as url, pytest.raises(FlowpriorError, match=r"can not download http://.*2 bytes read"):
        images.fetch(remote.model_copy(update={"url": url}))
    assert not files_below(tmp_path / "here")


def test_download_that_stops_early_is_begun_again(remote, raw, tmp_path):
    place = tmp_path / "here/data/celeba"
    place.mkdir(parents=True)
    (place / PARTITION).write_text("000001.jpg 0\n")
    with serving(b"PK", (raw / ARCHIVE).read_bytes()) as url:
        images.fetch(remote.model_copy(update={"url": url}))
    assert (place / ARCHIVE).read_bytes() == (raw / ARCHIVE).read_bytes()


def test_a_users_own_path_is_never_written_to(raw, tmp_path):
    place = tmp_path / "own"
    place.mkdir()
    with pytest.raises(FlowpriorError, match=r"data\.path is only read"):
        images.fetch(settings(place, url=(raw / ARCHIVE).as_uri()))
    assert not list(place.iterdir())
