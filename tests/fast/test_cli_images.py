"""`gpuserve bake` and `images`, and `python -m gpuserve_images`: each alone, on real files and a real registry."""

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from e2e_commands import run
from e2e_small_model import classifier

from gpuserve_images.__main__ import main
from gpuserve_images.oci import File, Layer, bake
from gpuserve_images.verify.attached import attach_report
from gpuserve_images.verify.capacity import Capacity
from gpuserve_images.verify.report import VerifyReport


@pytest.fixture
def base(registry):
    return bake(f"{registry.host}/base:1", [Layer({"/etc/base": File(b"base")})]).reference


def said(*arguments: object):
    return json.loads(run(*arguments, "--json").stdout)


@pytest.mark.slow
class TestBake:
    def test_a_model_and_its_second_name(self, place, registry, base):
        arguments = ("bake", "small.yaml", "--build", "fp32", "--registry", f"{registry.host}/bake", "--base", base)
        first = said(*arguments, "--tag", "1.0")
        assert first["pushed"]
        assert first["tags"] == ["1.0"]
        assert "the registry had it" in run(*arguments).stderr
        (image,) = said("images", "ls", f"{registry.host}/bake/small")
        assert (image["reference"], image["summary"]["build"]) == (first["reference"], "fp32")
        assert first["summary"]["key"][:16] in run("images", "ls", f"{registry.host}/bake/small").stdout
        later = Capacity(where="the server", requests_at_slo=1234.5)
        attach_report(image["reference"], VerifyReport(model="small", capacity=later))
        (again,) = said("images", "ls", f"{registry.host}/bake/small")
        assert again["created"] == image["created"] is not None
        assert again["capacity"]["requests_at_slo"] == 1234.5 != image["capacity"]["requests_at_slo"] > 0
        assert "1,234.5" in run("images", "ls", f"{registry.host}/bake/small").stdout

    def test_the_report_that_is_attached_is_shown(self, place, registry, base):
        image = said("bake", "small.yaml", "--build", "fp32", "--registry", f"{registry.host}/report", "--base", base)
        report = said("images", "report", image["tag"])
        assert report["image"] == image["reference"]
        assert report["parity"] == image["summary"]["parity"]
        assert report["capacity"]["points"]
        assert "max_abs_error" in run("images", "report", image["reference"]).stdout
        run("images", "report", image["reference"], "-o", "page.html")
        assert "<html" in (place / "page.html").read_text()
        nowhere = run("images", "report", image["reference"], "-o", "nowhere/page.html", fails=True)
        assert (
            "--output = 'nowhere/page.html': cannot be written: No such file or directory. Fix: name another" in nowhere.output
        )
        nothing = said("bake", "small.onnx:/m/", "--image", f"{registry.host}/report/none:1")
        assert "has no report" in run("images", "report", nothing["reference"], fails=True).output
        gone = f"{image['reference'].partition('@')[0]}@sha256:{'0' * 64}"
        assert "is not in its registry. Fix: list its repository" in run("images", "report", gone, fails=True).output

    @pytest.mark.slow
    def test_plain_files_on_a_base_and_on_nothing(self, place, registry, base):
        arguments = ("bake", "small.onnx:/models/small/1/", "samples:/samples")
        on_base = said(*arguments, "--image", f"{registry.host}/files:1", "--base", base)
        alone = said(*arguments, "--image", f"{registry.host}/files:2")
        assert "/models/small/1/small.onnx" in on_base["files"]
        assert "/samples/0.npz" in on_base["files"]
        assert on_base["digest"] != alone["digest"]
        assert "the registry had it" in run(*arguments, "--image", f"{registry.host}/files:2").stderr

    def test_of_a_folder_not_what_git_and_a_hub_keep_there(self, place, registry):
        for name in ("model.bin", ".git/config", ".cache/huggingface/download/model.bin.metadata", "deep/.gitignore"):
            file = place / "folder" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(name)
        made = said("bake", "folder:/models", "--image", f"{registry.host}/folder:1")
        assert list(made["files"]) == ["/models/deep/.gitignore", "/models/model.bin"]

    def test_a_yaml_file_with_a_place_is_a_file(self, place, registry):
        made = said("bake", "small.yaml:/models/small.yaml", "--image", f"{registry.host}/yaml:1")
        assert list(made["files"]) == ["/models/small.yaml"]

    def test_signed_and_verified(self, place, registry):
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import (
            Encoding,
            NoEncryption,
            PrivateFormat,
            PublicFormat,
        )

        for name in ("mine", "other"):
            key = ec.generate_private_key(ec.SECP256R1())
            Path(f"{name}.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            Path(f"{name}.pub").write_bytes(public)
        image = said("bake", "small.onnx:/m/", "--image", f"{registry.host}/signed:1", "--sign", "mine.key")
        assert "is signed by this key" in run("images", "verify", image["reference"], "--key", "mine.pub").stdout
        checked = said("images", "verify", image["reference"], "--key", "mine.pub")
        assert (checked["digest"], checked["named"]) == (image["digest"], f"{registry.host}/signed")
        assert (
            "none of them by this key" in run("images", "verify", image["reference"], "--key", "other.pub", fails=True).output
        )

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("small.yaml",), "--registry: is needed"),
            (("small.yaml", "--registry", "r", "--image", "x"), "content key as tag"),
            (("small.onnx:/m/",), "--image: is needed"),
            (("small.yaml:/m/small.yaml",), "--image: is needed"),
            (("small.onnx", "--image", "localhost:1/x:1"), "does not say where in the image"),
            (("none:/m/", "--image", "localhost:1/x:1"), "does not exist"),
            (("small.onnx:/m/", "--image", "localhost:1/x:1", "--build", "b"), "leave --registry"),
            (("small.onnx:/m/", "--image", "localhost:1/x:1", "--tag", "a b"), "is no tag"),
            (("small.onnx:/m/", "--image", "localhost:1/x:1", "--sign", "small.onnx"), "small.onnx"),
            (("small.yaml", "--build", "fp32", "--registry", "localhost:1/x"), "is down or not reachable"),
        ],
    )
    def test_bad_input_is_a_sentence(self, place, arguments, words, monkeypatch):
        monkeypatch.setattr("gpuserve_images.oci.retries._FIRST_WAIT_SECONDS", 0.0, raising=False)
        assert words in " ".join(run("bake", *arguments, fails=True).output.split())


@pytest.mark.slow
class TestKept:
    def test_what_is_kept_is_listed_and_collected(self, place, registry, base):
        assert said("images", "ls")["stages"] == []
        run("bake", "small.yaml", "--build", "fp32", "--registry", f"{registry.host}/kept", "--base", base)
        kept = said("images", "ls")
        assert {stage["stage"] for stage in kept["stages"]} == {"optimise", "verify", "capacity", "layout"}
        assert [build["build"] for build in kept["builds"]] == ["fp32"]
        assert "small fp32" in run("images", "ls").stdout
        dry = said("images", "gc", "--keep", "0", "--dry-run")
        assert dry["freed_bytes"] == sum(stage["bytes"] for stage in kept["stages"])
        assert said("images", "ls")["stages"] == kept["stages"]
        assert "were freed" in run("images", "gc", "--keep", "0").stdout
        assert said("images", "ls")["stages"] == []

    def test_nothing_is_old_yet(self, place):
        run("compile", "small.yaml", "--build", "fp32", "-o", "out")
        assert said("images", "gc")["removed"] == []
        assert said("images", "gc", "--older-than", "9999999d")["removed"] == []

    def test_what_the_stacks_need_stays(self, place, sandbox):
        run("compile", "small.yaml", "--build", "fp32", "-o", "out")
        needed = said("compile", sandbox.models / "tiny.yaml", "--build", "fp32", "-o", "tiny")
        gone = said("images", "gc", "--unreferenced", "--stacks", sandbox.stacks)
        assert {stage["key"] for stage in needed["stages"]} == {stage["key"] for stage in said("images", "ls")["stages"]}
        assert len(gone["removed"]) == 3

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("gc", "--older-than", "soon"), "write for example --older-than 30d"),
            (("gc", "--older-than", "14"), "write for example --older-than 14d"),
            (("gc", "--older-than", "2 hours"), "write for example --older-than 2h"),
            (("gc", "--keep", "lots"), "write for example --keep 20Gi"),
            (("gc", "--keep", "50GB"), "write for example --keep 50Gi"),
            (("gc", "--unreferenced", "--stacks", "samples"), "has no stack file"),
            (("pin", "ftp://x/y"), "ftp"),
            (("ls", "localhost:1/models/x"), "is down or not reachable"),
        ],
    )
    def test_bad_input_is_a_sentence(self, place, arguments, words, monkeypatch):
        monkeypatch.setattr("gpuserve_images.oci.retries._FIRST_WAIT_SECONDS", 0.0, raising=False)
        assert words in " ".join(run("images", *arguments, fails=True).output.split())

    def test_a_model_without_images_has_none(self, registry):
        assert "no images" in run("images", "ls", f"{registry.host}/nobody/nothing").stdout


class TestModule:
    """What a Job in a cluster runs."""

    def arguments(self, registry, base, *more: str) -> list[str]:
        where = ["--registry", f"{registry.host}/module", "--base", base]
        return ["build", "--spec", "small.yaml", "--build", "fp32", *where, "--report", "report.json", *more]

    def test_it_hands_a_report_back(self, place, registry, base, capsys):
        assert main(self.arguments(registry, base)) == 0
        report = json.loads((place / "report.json").read_text())["report"]
        assert "@sha256:" in report["reference"]
        assert [run["origin"] for run in report["stages"]] == ["made"] * 4
        assert "optimise" in capsys.readouterr().err
        assert main(self.arguments(registry, base, "--key", report["summary"]["key"])) == 0

    def test_what_can_be_put_right_is_a_sentence(self, place, registry, base, capsys):
        assert main([*self.arguments(registry, base), "--key", "0" * 64]) == 1
        assert "tool versions differ" in json.loads((place / "report.json").read_text())["error"]["message"]
        onnx.save(classifier(batch=1), place / "small.onnx")
        (place / "small.onnx").write_bytes(b"no model")
        assert main(self.arguments(registry, base)) == 1
        error = json.loads((place / "report.json").read_text())["error"]
        assert error["kind"] == "SourceError"
        assert "Fix: " in capsys.readouterr().err

    @pytest.mark.slow
    def test_a_program_can_start_it(self, place, registry, base):
        done = subprocess.run(
            [sys.executable, "-m", "gpuserve_images", *self.arguments(registry, base)],
            capture_output=True,
            text=True,
            env=os.environ,
            check=False,
        )
        assert done.returncode == 0, done.stderr
