"""An artifact's name is what its files are, and files that run code are refused."""

from __future__ import annotations

import json
import os
import pickle
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from harness.errors import HarnessError, Refused, StoreError
from harness.records import Artifact
from harness.store.artifacts import adopt, folder_digest, verify


def folder(place: Path, files: dict[str, bytes]) -> Path:
    for name, held in files.items():
        file = place / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(held)
    return place


ADAPTER = {
    "adapter.safetensors": b"\0weights" * 1000,
    "adapter_config.json": b'{"r": 16, "auto_mapping": null, "auto_map": null}',
    "tokenizer/vocab.json": b"{}",
}


def test_a_digest_depends_on_names_and_bytes_and_nothing_else(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", ADAPTER)
    two = folder(tmp_path / "two", dict(reversed(ADAPTER.items())))
    (two / "adapter.safetensors").touch()
    os.utime(two / "adapter.safetensors", (1, 1))
    (two / "empty folder").mkdir()
    first = folder_digest(one)
    assert len(first) == 64
    assert folder_digest(two) == first
    (two / "tokenizer" / "vocab.json").write_bytes(b"{} ")
    assert folder_digest(two) != first
    (one / "tokenizer" / "vocab.json").rename(one / "vocab.json")
    assert folder_digest(one) != first


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.binary(max_size=4))), max_size=6))
def test_different_folders_have_different_digests(
    tmp_path_factory: pytest.TempPathFactory, folders: list[list[tuple[str, bytes]]]
) -> None:
    held = [dict(files) for files in folders if files]
    digests = [folder_digest(folder(tmp_path_factory.mktemp("f"), files)) for files in held]
    for files, found in zip(held, digests, strict=True):
        assert [other for other, d in zip(held, digests, strict=True) if d == found] == [
            other for other in held if other == files
        ]


@pytest.mark.parametrize(
    "name", ["model.bin", "a/optimizer.pt", "x.PKL", "y.pth", "z.ckpt", "p.pickle", "m.joblib"]
)
def test_what_may_be_a_pickle_is_refused_and_never_loaded(tmp_path: Path, name: str) -> None:
    class Canary:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "sang",))

    place = folder(tmp_path / "f", {**ADAPTER, name: pickle.dumps(Canary())})
    with pytest.raises(Refused, match=r"may be a pickle.*safetensors") as refused:
        adopt(place, tmp_path / "artifacts")
    assert Path(name).name in str(refused.value)
    assert not (tmp_path / "sang").exists()
    assert not (tmp_path / "artifacts").exists()
    assert place.exists()


def test_code_that_comes_with_a_model_is_refused(tmp_path: Path) -> None:
    config = {"auto_map": {"AutoModel": "evil.Model"}}
    place = folder(tmp_path / "f", {"config.json": json.dumps(config).encode()})
    with pytest.raises(Refused, match=r"auto_map.*would run code"):
        folder_digest(place)
    (place / "config.json").write_bytes(b'{"auto\\u005Fmap": {"AutoModel": "evil.Model"}}')
    with pytest.raises(Refused, match=r"auto_map.*would run code"):
        folder_digest(place)
    (place / "config.json").write_bytes(b'{"auto_map": ')
    with pytest.raises(Refused, match="not readable JSON"):
        folder_digest(place)


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("s3cret")
    for name, target in (("file", "secret/key"), ("dir", "secret"), ("dangling", "nowhere")):
        place = folder(tmp_path / name, ADAPTER)
        (place / "link").symlink_to(tmp_path / target)
        with pytest.raises(Refused, match="is a link"):
            folder_digest(place)
    place = folder(tmp_path / "fifo", ADAPTER)
    os.mkfifo(place / "pipe")
    with pytest.raises(Refused, match="not a plain file"):
        folder_digest(place)
    whole = tmp_path / "whole"
    whole.symlink_to(tmp_path / "secret")
    with pytest.raises(StoreError, match="no artifact folder"):
        folder_digest(whole)


def test_a_folder_without_files_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    with pytest.raises(StoreError, match="the tuner wrote nothing"):
        folder_digest(tmp_path / "empty")
    with pytest.raises(StoreError, match="no artifact folder"):
        folder_digest(tmp_path / "absent")


def test_adopting_moves_the_folder_to_the_name_of_its_content(tmp_path: Path) -> None:
    place = folder(tmp_path / "f", ADAPTER)
    found, home = adopt(place, tmp_path / "deep" / "artifacts")
    assert home == tmp_path / "deep" / "artifacts" / found[:16]
    assert folder_digest(home) == found
    assert not place.exists()
    assert (home / "tokenizer" / "vocab.json").read_bytes() == b"{}"


def test_adopting_the_same_content_again_is_no_second_copy(tmp_path: Path) -> None:
    first = adopt(folder(tmp_path / "a", ADAPTER), tmp_path / "artifacts")
    assert adopt(folder(tmp_path / "b", ADAPTER), tmp_path / "artifacts") == first
    assert not (tmp_path / "b").exists()
    assert len(list((tmp_path / "artifacts").iterdir())) == 1


def test_a_damaged_artifact_is_not_taken_for_the_new_one(tmp_path: Path) -> None:
    _, home = adopt(folder(tmp_path / "a", ADAPTER), tmp_path / "artifacts")
    (home / "adapter.safetensors").write_bytes(b"bit rot")
    again = folder(tmp_path / "b", ADAPTER)
    with pytest.raises(StoreError, match="is damaged"):
        adopt(again, tmp_path / "artifacts")
    assert again.exists()


def test_a_folder_on_another_disk_is_adopted_too(tmp_path: Path) -> None:
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK) or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has one disk alone")
    place = folder(shm / f"harness-test-{os.getpid()}", ADAPTER)
    found, home = adopt(place, tmp_path / "artifacts")
    assert folder_digest(home) == found
    assert not place.exists()
    assert [p.name for p in (tmp_path / "artifacts").iterdir()] == [found[:16]]
    place = folder(place, ADAPTER)
    assert adopt(place, tmp_path / "artifacts") == (found, home)
    assert not place.exists()


def test_many_may_adopt_the_same_content_at_once(tmp_path: Path) -> None:
    places = [folder(tmp_path / f"f{n}", ADAPTER) for n in range(8)]
    found: list[object] = []

    def work(place: Path) -> None:
        try:
            found.append(adopt(place, tmp_path / "artifacts"))
        except HarnessError as exc:
            found.append(exc)

    threads = [threading.Thread(target=work, args=(place,)) for place in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(found) == 8
    assert len(set(map(str, found))) == 1, found


def test_a_changed_artifact_does_not_verify(tmp_path: Path) -> None:
    digest, home = adopt(folder(tmp_path / "f", ADAPTER), tmp_path / "artifacts")
    artifact = Artifact(
        digest=digest,
        name="tuned",
        task="t",
        tuner="torch-lora",
        base="tiny",
        base_digest="",
        template_digest="",
        prompt="slim",
        prompt_digest="",
        data_digest="",
        rows=1,
        recipe={},
        seed=0,
        folder=f"artifacts/{home.name}",
    )
    assert verify(artifact, base=tmp_path) == home
    assert verify(replace(artifact, folder=str(home))) == home
    assert verify(replace(artifact, folder="")) is None
    (home / "extra.txt").write_text("x")
    with pytest.raises(StoreError, match=r"'tuned' in .* is not what was tuned: recorded"):
        verify(artifact, base=tmp_path)
    with pytest.raises(StoreError, match="no artifact folder"):
        verify(replace(artifact, folder="elsewhere"), base=tmp_path)
