"""What is pushed with a build: its documents, its signature, and the tag last; images and artifacts of a model alone."""

import hashlib
import json
from pathlib import Path

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from e2e_signing import key_pair
from e2e_small_model import write_model_folder

from gpuserve.kubernetes.errors import SpecError
from gpuserve_images.errors import RegistryError, SourceError
from gpuserve_images.oci import (
    File,
    ImageConfig,
    Layer,
    SignatureError,
    bake,
    read_artifact,
    resolve,
    sign,
    tag_image,
    verify_signature,
)
from gpuserve_images.oci.bill import BILL
from gpuserve_images.oci.keys import SigningKeyError, public_text
from gpuserve_images.oci.provenance import PREDICATE, STATEMENT
from gpuserve_images.oci.referrers import referrers
from gpuserve_images.pipeline import publishing
from gpuserve_images.pipeline.build import MODEL_ARTIFACT, build
from gpuserve_images.sources.resolving import fetch
from gpuserve_images.sources.spec import SourceSpec
from gpuserve_images.spec import ModelSpec, load_model

pytestmark = pytest.mark.slow  # whole builds

KEY = ec.generate_private_key(ec.SECP256R1())
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture(scope="module")
def shop(tmp_path_factory, registry):
    """Builds the small model with a `bake:` of its own; the stages are run once for all tests."""
    root = tmp_path_factory.mktemp("shop")
    base = bake(f"{registry.host}/base:1", [Layer({"/etc/base": File(b"base")})], config=ImageConfig(["/server"])).reference

    def run(name, bake_as=None, *, base=base, stands_on="", **changes):
        path = root / "model" / "small.yaml"
        if not path.exists():
            write_model_folder(root / "model", samples=8)
        model = load_model(path).model_dump(mode="json", exclude_defaults=True)
        model["bake"] = bake_as or {}
        model["builds"] = {"fp32": {**model["builds"]["fp32"], "base": stands_on}}
        spec = ModelSpec.parse(model | changes)
        return build(spec, "fp32", folder=root / "model", registry=f"{registry.host}/{name}", base=base, cache=root / "cache")

    run.base, run.folder = base, root / "model"
    return run


@pytest.fixture(autouse=True)
def _little_timing(monkeypatch):
    monkeypatch.setattr("gpuserve_images.verify.capacity.BUDGET", 0.02)


def get(reference, path, kind=MANIFEST):
    host, rest = reference.split("/", 1)
    answer = requests.get(f"http://{host}/v2/{rest.split('@')[0]}/{path}", headers={"Accept": kind}, timeout=10)
    answer.raise_for_status()
    return answer.json()


def manifest_and_config(reference):
    manifest = get(reference, f"manifests/{reference.split('@')[1]}")
    return manifest, get(reference, f"blobs/{manifest['config']['digest']}")


def only_document(image, kind):
    (found,) = referrers(image, artifact_type=kind)
    (content,) = read_artifact(found.reference).values()
    return found, json.loads(content)


class TestDocuments:
    def test_the_bill_names_the_model_its_hash_its_source_and_every_tool(self, shop):
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator

        report = shop("documents")
        _, bill = only_document(report.reference, BILL)
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill)) is None
        assert bill["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": report.digest[7:]}]
        models = [one for one in bill["components"] if one["type"] == "machine-learning-model"]
        assert [one["name"].rsplit("/", 1)[-1] for one in models] == ["model.onnx"]
        source = hashlib.sha256((shop.folder / "small.onnx").read_bytes()).hexdigest()
        assert [one["hashes"][0]["content"] for one in models[0]["pedigree"]["ancestors"]] == [source]
        tools = {one["name"]: one["version"] for one in bill["metadata"]["tools"]["components"]}
        import onnxruntime

        assert tools["onnxruntime"] == onnxruntime.__version__
        assert "gpuserve" in tools
        assert [one["name"] for one in bill["components"] if one["type"] == "container"] == [shop.base.split("@")[0]]

    def test_the_provenance_says_what_was_made_of_what(self, shop):
        report = shop("documents")
        found, statement = only_document(report.reference, STATEMENT)
        assert found.annotations["in-toto.io/predicate-type"] == statement["predicateType"] == PREDICATE
        assert statement["subject"][0]["digest"] == {"sha256": report.digest[7:]}
        definition = statement["predicate"]["buildDefinition"]
        digests = {one["digest"]["sha256"] for one in definition["resolvedDependencies"]}
        assert hashlib.sha256((shop.folder / "small.onnx").read_bytes()).hexdigest() in digests
        assert shop.base.split("@sha256:")[1] in digests
        assert definition["externalParameters"]["build"] == "fp32"
        assert {"source", "optimise", "verify"} <= {stage["stage"] for stage in definition["internalParameters"]["stages"]}
        assert str(shop.folder) not in json.dumps(statement), "no paths of this machine"

    def test_the_provenance_of_several_builds_in_one_image_says_what_was_asked_of_each(self, shop):
        builds = {name: {"engine": "onnxruntime"} for name in ("fp32", "again")}
        report = shop("together", builds=builds, layout={"numbers": {1: "fp32", 2: "again"}})
        asked = only_document(report.reference, STATEMENT)[1]["predicate"]["buildDefinition"]["externalParameters"]
        assert (asked["build"], [(one["model"]["name"], one["build"]) for one in asked["company"]]) == (
            "fp32",
            [("small", "again")],
        )

    def test_documents_may_be_left_out(self, shop):
        report = shop("plain", {"bill": False, "provenance": False})
        assert {BILL, STATEMENT}.isdisjoint(one.artifact_type for one in referrers(report.reference))

    def test_a_build_that_was_killed_before_its_tag_is_finished_by_the_next(self, shop, monkeypatch):
        def killed(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(publishing, "tag_image", killed)
            with pytest.raises(KeyboardInterrupt):
                shop("killed")
        report = shop("killed")
        assert report.pushed
        assert (
            len(referrers(report.reference, artifact_type=BILL))
            == len(referrers(report.reference, artifact_type=STATEMENT))
            == 1
        )
        assert not shop("killed").pushed


class TestImage:
    def test_it_says_what_it_is_and_does_not_run_as_root(self, shop):
        about = {"version": "3", "source": "https://example.com/small", "licenses": "Apache-2.0"}
        report = shop("about", {"about": about})
        manifest, config = manifest_and_config(report.reference)
        for notes in (manifest["annotations"], config["config"]["Labels"]):
            assert notes["org.opencontainers.image.title"] == "small"
            assert notes["org.opencontainers.image.version"] == "3"
            assert notes["org.opencontainers.image.licenses"] == "Apache-2.0"
            assert notes["org.opencontainers.image.created"] == "1970-01-01T00:00:00Z"
        assert config["config"]["User"] == "1000:1000"
        assert only_document(report.reference, BILL)[1]["components"][0]["type"]

    def test_the_user_may_be_named(self, shop):
        assert manifest_and_config(shop("user", {"user": "7:8"}).reference)[1]["config"]["User"] == "7:8"

    @pytest.mark.parametrize("compression", ["zstd", "gzip"])
    def test_compressed_layers_are_another_image_with_the_same_content(self, shop, compression):
        plain, packed = shop("packed"), shop("packed", {"compression": compression})
        assert plain.tag != packed.tag
        before, after = manifest_and_config(plain.reference), manifest_and_config(packed.reference)
        assert before[1]["rootfs"] == after[1]["rootfs"]
        assert {layer["mediaType"].rpartition("+")[2] for layer in after[0]["layers"][1:]} == {compression}
        assert packed.digest == shop("packed-elsewhere", {"compression": compression}).digest


class TestModelOnly:
    def test_an_image_volume_holds_the_files_and_nothing_else(self, shop):
        report = shop("volume", base="", stands_on="scratch")
        manifest, config = manifest_and_config(report.reference)
        assert (config["os"], config["architecture"]) == ("linux", "amd64")
        assert config["rootfs"]["type"] == "layers"
        assert len(manifest["layers"]) == len(config["rootfs"]["diff_ids"]) == len(config["history"])
        assert "org.opencontainers.image.base.name" not in manifest["annotations"]
        assert "User" not in config["config"]

    @pytest.mark.parametrize("as_what", [{}, {"form": "artifact"}, {"compression": "zstd"}, {"compression": "gzip"}])
    def test_an_oci_source_reads_it_back(self, shop, tmp_path, as_what):
        name = "back-" + "-".join(as_what.values())
        report = shop(name.strip("-"), as_what, base="", stands_on="scratch")
        manifest = get(report.reference, f"manifests/{report.digest}")
        assert manifest.get("artifactType") == (MODEL_ARTIFACT if "form" in as_what else None)
        source = SourceSpec.parse({"url": f"oci://{report.reference}", "format": "onnx"})
        found = fetch(source, Path(), cache=tmp_path)
        onnx = [path for path in found.root.rglob("*.onnx") if path.is_file()]
        expected = next(stage for stage in report.records if stage.stage == "optimise").outputs
        assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in onnx] == list(expected.values())

    def test_an_artifact_of_a_server_is_refused(self, shop):
        with pytest.raises(SpecError, match="stands on a server, which no artifact holds"):
            shop("never", {"form": "artifact"})


class TestSigned:
    @pytest.fixture
    def signer(self, monkeypatch):
        monkeypatch.setenv("SIGNING_KEY", PEM)
        return {"sign": {"key": "env://SIGNING_KEY"}}

    def test_the_image_and_its_documents_are_signed_before_the_tag_is_there(self, shop, signer, registry):
        report = shop("signed", signer)
        for reference in (report.reference, *(one.reference for one in referrers(report.reference))):
            assert verify_signature(reference, public_text(KEY))
        puts = [
            path
            for method, path, _ in registry.requests()
            if method == "PUT" and path.startswith("/v2/signed/small/manifests/")
        ]
        assert puts[-1].endswith(report.tag.rpartition(":")[2])
        assert not shop("signed", signer).pushed

    def test_the_key_is_nowhere_but_in_the_variable(self, shop, signer, caplog, capfd):
        caplog.set_level("DEBUG")
        report = shop("secret", signer)
        secret = PEM.splitlines()[1]
        documents = [content for one in referrers(report.reference) for content in read_artifact(one.reference).values()]
        shown = [report.model_dump_json(), caplog.text, *capfd.readouterr(), *(text.decode() for text in documents)]
        assert not [text for text in shown if secret in text]

    def test_what_somebody_else_put_under_the_tag_is_not_used(self, shop, signer):
        report = shop("stolen", signer)
        annotations = dict(resolve(report.tag).annotations)
        bake(report.tag, [Layer({"/models/small/1/model.onnx": File(b"evil")})], annotations=annotations)
        with pytest.raises(SignatureError, match="is not signed"):
            shop("stolen", signer)

    def test_an_older_image_of_the_same_signer_under_the_tag_is_not_used(self, shop, signer):
        """Its signature holds, because it names the image and no tag."""
        older = shop("moved", signer)
        newer = shop("moved", signer | {"about": {"version": "2"}})
        tag_image(older.reference, newer.tag)
        with pytest.raises(SourceError, match="is the image of model small, build fp32, whose own tag is") as caught:
            shop("moved", signer | {"about": {"version": "2"}})
        assert older.tag.rpartition(":")[2] in caught.value.reason
        assert (caught.value.where, caught.value.value) == (newer.tag, older.digest)
        assert shop("moved", signer).reference == older.reference

    def test_a_key_that_is_missing_is_said_before_anything_is_done(self, shop, registry, monkeypatch):
        monkeypatch.delenv("SIGNING_KEY", raising=False)
        before = len(registry.requests())
        with pytest.raises(SigningKeyError, match="SIGNING_KEY, which is not set"):
            shop("nokey", {"sign": {"key": "env://SIGNING_KEY"}})
        assert {method for method, _, _ in registry.requests()[before:]} <= {"GET", "HEAD"}

    def test_the_public_key_is_enough_for_an_image_that_is_there(self, shop, signer, monkeypatch):
        made = shop("known", signer)
        monkeypatch.delenv("SIGNING_KEY")
        with pytest.raises(SigningKeyError, match="SIGNING_KEY, which is not set"):
            shop("known", signer)
        known = {"sign": {**signer["sign"], "public_key": public_text(KEY)}}
        again = shop("known", known)
        assert (again.reference, again.tag, again.pushed) == (made.reference, made.tag, False)
        with pytest.raises(SignatureError, match="has 1 signatures, none of them by this key"):
            shop("known", {"sign": {**signer["sign"], "public_key": key_pair()[1]}})
        (shop.folder / "cosign.pub").write_text("no key")
        with pytest.raises(SigningKeyError, match=r"sign\.public_key \(cosign\.pub\): is no public key in PEM"):
            shop("known", {"sign": {**signer["sign"], "public_key": "cosign.pub"}})

    def test_two_halves_of_different_keys_are_refused_before_anything_is_done(self, shop, signer, registry):
        before = len(registry.requests())
        with pytest.raises(
            SigningKeyError, match=r"sign\.key \(env://SIGNING_KEY\): is not the private half of sign\.public_key"
        ):
            shop("halves", {"sign": {**signer["sign"], "public_key": key_pair()[1]}})
        assert {method for method, _, _ in registry.requests()[before:]} <= {"GET", "HEAD"}

    def test_a_base_must_be_signed_where_the_model_says_so(self, shop, registry):
        wanted = {"base_key": public_text(KEY)}
        base = bake(f"{registry.host}/signed/base:1", [Layer({"/b": File(b"b")})]).reference
        with pytest.raises(SignatureError, match="is not signed"):
            shop("onbase", wanted, base=base)
        assert resolve(f"{registry.host}/onbase/small:latest") is None
        sign(base, KEY)
        assert shop("onbase", wanted, base=base).pushed


def test_a_tag_of_something_that_is_not_there_is_refused(registry):
    with pytest.raises(RegistryError, match="has no image"):
        tag_image(f"{registry.host}/never/heard@sha256:{'0' * 64}", f"{registry.host}/never/heard:1")
