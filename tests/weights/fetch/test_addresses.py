"""Where downloads are kept and asked of."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitsmith.errors import DownloadError
from vitsmith.files.cache import cache_folder
from vitsmith.weights.fetch.addresses import cached_path, source_of


def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path / "chosen"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "chosen"
    monkeypatch.delenv("VITSMITH_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "vitsmith"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / "home" / ".cache" / "vitsmith"
    encoded = cached_path("https://host:8080/imagenet21k%2Bimagenet2012/R50%2BViT-B_16.npz")
    assert encoded.relative_to(cache_folder()) == Path("host_8080/imagenet21k+imagenet2012/R50+ViT-B_16.npz")
    assert cached_path("https://host/f.npz?version=1") != cached_path("https://host/f.npz?version=2")


def test_an_address_is_encoded_and_moved_to_the_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    published = "https://storage.googleapis.com/vit_models/imagenet21k+imagenet2012/R50%2BViT-B_16.npz"
    encoded = "/vit_models/imagenet21k%2Bimagenet2012/R50%2BViT-B_16.npz"
    monkeypatch.delenv("VITSMITH_MIRROR", raising=False)
    assert source_of(published) == "https://storage.googleapis.com" + encoded
    assert source_of("https://other.example/a b.npz?x=1#top") == "https://other.example/a%20b.npz?x=1"
    monkeypatch.setenv("VITSMITH_MIRROR", "http://mirror.example:8080/copies/")
    assert source_of(published) == "http://mirror.example:8080/copies" + encoded
    assert source_of("https://other.example/a.npz") == "https://other.example/a.npz"
    monkeypatch.setenv("VITSMITH_MIRROR", "mirror.example")
    with pytest.raises(DownloadError, match=r"VITSMITH_MIRROR 'mirror\.example'"):
        source_of(published)


@pytest.mark.parametrize(
    "bad",
    [
        "file:///etc/passwd",
        "ftp://host/model.npz",
        "model.npz",
        "http://host",
        "http://host/folder/",
        "http://host/../model.npz",
        "http://host/..%2F..%2Fmodel.npz",
        "http://host/a/..%5Cmodel.npz",
        "http://user:secret@host/model.npz",
        "http://host:port/model.npz",
    ],
)
def test_an_address_that_is_not_of_a_file_on_the_web_is_refused(bad: str) -> None:
    with pytest.raises(DownloadError, match="cannot download"):
        cached_path(bad)
