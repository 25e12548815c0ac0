"""Images as other tools see them, large ones, and base images built by the real buildah."""

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from e2e_registry import RegistryServer

from gpuserve_images.bases import buildah, debian
from gpuserve_images.bases import recipes as base
from gpuserve_images.bases.recipes import RECIPES
from gpuserve_images.bases.serving import DEFAULT_TENSORRT
from gpuserve_images.errors import BaseImageError
from gpuserve_images.oci import File, ImageConfig, Layer, TarLayer, bake, resolve

pytestmark = pytest.mark.e2e

RSS_LIMIT_MIB = 256
BAKE_AND_MEASURE = """
import json, re, sys
from pathlib import Path
from gpuserve_images.oci import File, Layer, bake
target, compression, *files = sys.argv[1:]
layers = [Layer({f"/models/m/{number}/model.plan": File(Path(file))}) for number, file in enumerate(files)]
result = bake(target, layers, compression=compression, uploads=4)
# Not ru_maxrss: a child begins with its parent's, and this parent is a whole test run.
peak_kib = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
print(json.dumps({"uploaded": result.uploaded_bytes, "rss_mib": peak_kib / 1024}))
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    folder = tmp_path_factory.mktemp("registry")
    with RegistryServer(folder) as server:
        yield server
    shutil.rmtree(folder)  # 8 GB, which the tests that run beside and after these may need


def tool(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def store(tmp_path):
    """A store for buildah that goes away with the test."""
    options = ["--root", str(tmp_path / "root"), "--runroot", str(tmp_path / "run"), "--storage-driver", "vfs"]
    yield options
    tool("buildah", *options, "rm", "--all")


@pytest.mark.slow
@pytest.mark.parametrize(("compression", "files"), [("none", 1), ("none", 4), ("zstd", 4)])
def test_four_gigabytes_bake_in_flat_memory(registry, tmp_path, compression, files):
    paths = [tmp_path / f"{number}.plan" for number in range(files)]
    for number, path in enumerate(paths):
        with path.open("wb") as stream:
            stream.write(bytes([number]))
            stream.truncate((4 << 30) // files)
    target = f"{registry.host}/large/{compression}{files}:1"
    out = json.loads(tool(sys.executable, "-c", BAKE_AND_MEASURE, target, compression, *map(str, paths)))
    assert out["uploaded"] > (100_000 if compression == "zstd" else 4 << 30)
    assert out["rss_mib"] < RSS_LIMIT_MIB


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_buildah_reads_a_model_only_image(registry, store, compression):
    """Another tool finds the configuration valid, checks every digest and unpacks the layers: what mounting an image volume does."""
    layers = [Layer({"/small/1/model.onnx": File(b"weights" * 1000)}), Layer({"/small/config.pbtxt": File(b"config")})]
    image = bake(f"{registry.host}/volume/{compression}:1", layers, compression=compression)
    container = tool("buildah", *store, "from", "--tls-verify=false", image.reference).strip()
    mounted = Path(tool("buildah", *store, "mount", container).strip())
    files = {str(path.relative_to(mounted)): path.read_bytes() for path in mounted.rglob("*") if path.is_file()}
    assert files == {"small/1/model.onnx": b"weights" * 1000, "small/config.pbtxt": b"config"}


def test_buildah_takes_its_platform_of_an_index_that_we_baked(registry, store, tmp_path):
    """buildah makes the base for two platforms, we put a model on both, buildah takes one."""
    base = f"{registry.host}/multi/base:1"
    tool("buildah", *store, "manifest", "create", "multi")
    for platform in ("linux/amd64", "linux/arm64"):
        (tmp_path / "which").write_text(platform)
        (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY which /which\n")
        tool("buildah", *store, "bud", "--isolation", "chroot", "--platform", platform, "--manifest", "multi", str(tmp_path))
    tool("buildah", *store, "manifest", "push", "--all", "--tls-verify=false", "multi", f"docker://{base}")
    image = bake(f"{registry.host}/multi/model:1", [Layer({"/model.onnx": File(b"weights")})], base=base)
    for platform in ("linux/amd64", "linux/arm64"):
        container = tool("buildah", *store, "from", "--platform", platform, "--tls-verify=false", image.reference).strip()
        mounted = Path(tool("buildah", *store, "mount", container).strip())
        assert ((mounted / "which").read_text(), (mounted / "model.onnx").read_text()) == (platform, "weights")


def test_files_go_into_the_directories_of_a_base_and_replace_none(registry, store, tmp_path):
    root = tmp_path / "root.tar"
    with tarfile.open(root, "w") as tar:
        for name, mode, owner in (("tmp", 0o1777, 0), ("home", 0o755, 0), ("home/app", 0o700, 1000), ("data", 0o755, 0)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.uid = tarfile.DIRTYPE, mode, owner
            tar.addfile(entry)
        link = tarfile.TarInfo("models")
        link.type, link.linkname = tarfile.SYMTYPE, "data"
        tar.addfile(link)
    base = bake(f"{registry.host}/merged/base:1", [TarLayer(root)]).reference
    files = {"/tmp/x": File(b"x"), "/home/app/x": File(b"x"), "/models/x": File(b"x")}  # noqa: S108 - in an image
    image = bake(f"{registry.host}/merged/image:1", [Layer(files)], base=base)
    container = tool("buildah", *store, "from", "--tls-verify=false", image.reference).strip()
    mounted = Path(tool("buildah", *store, "mount", container).strip())
    found = {name: (mounted / name).stat() for name in ("tmp", "home/app")}
    assert {name: (status.st_mode & 0o7777, status.st_uid) for name, status in found.items()} == {
        "tmp": (0o1777, 0),
        "home/app": (0o700, 1000),
    }
    assert (mounted / "models").is_symlink()
    assert (mounted / "data/x").read_bytes() == b"x"


def test_buildah_builds_on_a_baked_image(registry, store, tmp_path):
    """It refuses images whose history does not match their layers, and checks every digest."""
    first = bake(f"{registry.host}/on/base:1", [Layer({"/a": File(b"a")}), Layer({"/b": File(b"b")})])
    second = bake(
        f"{registry.host}/on/model:1", [Layer({"/c": File(b"c", 0o755)})], base=first.reference, config=ImageConfig(["/c"])
    )
    (tmp_path / "Dockerfile").write_text(f"FROM {second.reference}\nCOPY d /d\n")
    (tmp_path / "d").write_text("d")
    tool("buildah", *store, "bud", "--isolation", "chroot", "--tls-verify=false", "--tag", "built", str(tmp_path))
    about = json.loads(tool("buildah", *store, "inspect", "--type", "image", "built"))["OCIv1"]
    assert about["config"]["Entrypoint"] == ["/c"]
    assert len(about["rootfs"]["diff_ids"]) == 4
    container = tool("buildah", *store, "from", "built").strip()
    mounted = tool("buildah", *store, "mount", container).strip()
    assert tool("cat", *(f"{mounted}/{name}" for name in "abcd")) == "abcd"


def test_a_recipe_is_built_pushed_and_cleaned_away(registry, tmp_path):
    recipe, work = tmp_path / "recipe", tmp_path / "work"
    recipe.mkdir()
    (recipe / "hello").write_text("hello")
    (recipe / "Dockerfile").write_text("FROM scratch\nCOPY hello /hello\nUSER 1000\n")
    lines = []
    reference = f"{registry.host}/recipe:1"
    buildah.build(recipe, reference, work=work, report=lines.append)
    assert resolve(reference) is not None
    assert any("COPY hello" in line for line in lines)
    assert not work.exists()


def test_a_build_that_fails_says_why_and_leaves_nothing(registry, tmp_path):
    recipe, work = tmp_path / "recipe", tmp_path / "work"
    recipe.mkdir()
    (recipe / "Dockerfile").write_text("FROM scratch\nCOPY missing /\n")
    with pytest.raises(BaseImageError, match="missing"):
        buildah.build(recipe, f"{registry.host}/recipe:2", work=work, report=lambda _: None)
    assert resolve(f"{registry.host}/recipe:2") is None
    assert not work.exists()


@pytest.fixture
def nvidia_index(tmp_path, monkeypatch):
    """A mirror of NVIDIA's index, with a wheel of the right name and other content: the real one has gigabytes and is not for others to keep."""
    name = f"tensorrt_cu13_libs-{DEFAULT_TENSORRT}"
    wheel = tmp_path / "index" / "tensorrt-cu13-libs" / f"{name}-py3-none-manylinux_2_28_x86_64.whl"
    wheel.parent.mkdir(parents=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tensorrt_libs/__init__.py", "stand_in = True\n")
        archive.writestr(
            f"{name}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: tensorrt-cu13-libs\nVersion: {DEFAULT_TENSORRT}\n"
        )
        tag = "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-manylinux_2_28_x86_64\n"
        archive.writestr(f"{name}.dist-info/WHEEL", tag)
        archive.writestr(f"{name}.dist-info/RECORD", "")
    link = f'<a href="{wheel.name}#sha256={hashlib.sha256(wheel.read_bytes()).hexdigest()}">{wheel.name}</a>'
    (wheel.parent / "index.html").write_text(link)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "index"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("WHEEL_STUB_PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/")
        yield
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_the_builders_tensorrt_comes_from_nvidias_index(registry, nvidia_index, store, tmp_path):
    """The stage with all that comes from elsewhere; the one that is left adds it to the builder's image, which others build."""
    recipe, reference = RECIPES / "builder", f"{registry.host}/tensorrt-packages:1"
    debian.ensure_roots(recipe / "Dockerfile", registry.host, lambda _: None)
    work, said = tmp_path / "work", list[str]()
    buildah.build(recipe, reference, work=work, report=said.append, target="tensorrt-packages")
    assert not any("AS builder" in line for line in said)
    container = tool("buildah", *store, "from", "--tls-verify=false", reference).strip()
    packages = Path(tool("buildah", *store, "mount", container).strip()) / "packages"
    found = {path.name.removesuffix(".dist-info") for path in packages.glob("*.dist-info")}
    assert found >= {f"{name}-{DEFAULT_TENSORRT}" for name in ("tensorrt_cu13", "tensorrt_cu13_libs", "tensorrt_cu13_bindings")}
    assert (packages / "tensorrt_libs" / "__init__.py").read_text() == "stand_in = True\n"
    assert list(packages.glob("tensorrt_lean_libs/libnvinfer_lean.so.*"))
    assert (packages / "pynvml.py").is_file()
    assert not (packages.parent / "run" / "nvidia_index").exists()


@pytest.mark.slow
def test_the_triton_image_is_built_once(registry):
    """From nothing: a Debian root from packages where Docker Hub cannot be reached, then the ordinary Dockerfile."""
    assert shutil.which("mmdebstrap"), "apt-get install mmdebstrap"
    reference = base.ensure_base("triton-cpu", registry.host)
    before = len(registry.requests())
    assert base.ensure_base("triton-cpu", registry.host) == reference
    assert [method for method, _, _ in registry.requests()[before:]] == ["GET"]
