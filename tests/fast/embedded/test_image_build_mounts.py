"""What a killed build has mounted is found under the name that it has."""

import os
from pathlib import Path

from gpuserve_images.bases import buildah


def test_mount_points_of_any_name_are_unmounted_deepest_first(tmp_path, monkeypatch):
    places = [tmp_path / "größe" / "a b", tmp_path / "größe" / "a b" / os.fsdecode(b"\xff")]
    lines = [b"tmpfs %s tmpfs rw 0 0\n" % os.fsencode(place).replace(b" ", rb"\040") for place in (Path("/"), *places)]
    monkeypatch.setattr(Path, "read_bytes", lambda _: b"".join(lines))
    unmounted = []
    monkeypatch.setattr(buildah, "run", lambda command, **_: unmounted.append(command[-1]))
    (tmp_path / "größe").mkdir()
    buildah._clear(tmp_path / "größe")
    assert unmounted == [str(place) for place in reversed(places)]
