"""`make image-digests`, on copies of the files and with a program that stands in for docker."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from compose import digests

ROOT = Path(__file__).resolve().parents[2]
NAMED = ["compose/docker-compose.yml", "compose/Dockerfile", "compose/celery-exporter/Dockerfile"]
# Prints what DIGESTS has for a tag, as buildx does, and notes that it was asked.
DOCKER = """#!{python}
import json, os, sys
if sys.argv[1:] == ["buildx", "version"]:
    sys.exit("DIGESTS" not in os.environ)
command, tag = sys.argv[1:-1], sys.argv[-1]
assert command == ["buildx", "imagetools", "inspect", "--format", "{{{{json .Manifest}}}}"], command
print(tag, file=open(os.environ["ASKED"], "a"))
known = json.loads(os.environ["DIGESTS"])
if tag not in known:
    sys.exit(f"WARNING: something\\nERROR: failed to do request: Head https://registry.lan/{{tag}}: no such host")
print(json.dumps({{"mediaType": "application/vnd.oci.image.index.v1+json", "digest": known[tag], "size": 1}}))
"""


def digest(tag: str, *, of: str = "today") -> str:
    return f"sha256:{hashlib.sha256(f'{tag} {of}'.encode()).hexdigest()}"


@pytest.fixture
def copy(tmp_path):
    """Return a folder with the project's files."""
    for name in NAMED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    return tmp_path


def texts(folder: Path) -> dict[str, str]:
    """Return file -> its text, of all files in the folder of the containers."""
    found = (path for path in (folder / "compose").rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in found}


def pin(
    folder: Path, known: dict[str, str] | None, *, has_docker: bool = True
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run it in the folder, and return how it ended and which tags docker was asked for. known: None: without
    its plugin."""
    programs, asked = folder / "bin", folder / "asked"
    programs.mkdir(exist_ok=True)
    if has_docker:
        (programs / "docker").write_text(DOCKER.format(python=sys.executable), encoding="utf-8")
        (programs / "docker").chmod(0o755)
    asked.write_text("")
    done = subprocess.run(
        [sys.executable, ROOT / "compose/digests.py"],
        cwd=folder,
        env={"PATH": str(programs), "ASKED": str(asked)} | ({} if known is None else {"DIGESTS": json.dumps(known)}),
        capture_output=True,
        text=True,
    )
    return done, asked.read_text().split()


def named_tags() -> set[str]:
    """Return the tags of others' images, read in another way than the program does."""
    found = set()
    for name in NAMED:
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            if re.match(r"\s*image:|FROM |ARG (PYTHON|NODE)=", line):
                text = re.split(r":-|image: |FROM |=", line)[-1].removesuffix("}").partition(" AS ")[0]
                found.add(text.partition("@")[0])
    return {tag for tag in found if "$" not in tag and not tag.endswith(":local")}


def test_every_tag_gets_the_digest_that_its_registry_has_and_nothing_else_changes(copy):
    before, known = texts(copy), {tag: digest(tag) for tag in named_tags()}
    done, asked = pin(copy, known)

    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(asked) == sorted(known)
    assert len(known) > 10
    after = texts(copy)
    written = set(re.findall(r"(?<=[ =-])\w[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", "".join(after.values())))
    assert written == {f"{tag}@{of_tag}" for tag, of_tag in known.items()}
    assert {name: re.sub("@sha256:[0-9a-f]{64}", "", text) for name, text in after.items()} == before
    assert "image: ${NGINX_IMAGE:-nginx:1" in after["compose/docker-compose.yml"]
    assert "image: ${FINTECH_IMAGE:-fake-fintech-oss:local}" in after["compose/docker-compose.yml"]


def test_a_later_run_takes_the_digests_of_its_day(copy):
    tags = named_tags()
    pin(copy, {tag: digest(tag) for tag in tags})
    done, asked = pin(copy, {tag: digest(tag, of="later") for tag in tags})

    assert (done.returncode, sorted(asked)) == (0, sorted(tags))
    written = "".join(texts(copy).values())
    assert all(f"{tag}@{digest(tag, of='later')}" in written for tag in tags)
    assert not any(digest(tag) in written for tag in tags)


def test_where_a_registry_is_not_reached_it_says_so_and_changes_no_file(copy):
    before, tags = texts(copy), sorted(named_tags())
    done, _ = pin(copy, {tag: digest(tag) for tag in tags[:-1]})

    assert done.returncode == 1
    assert done.stderr == (
        f"image-digests: {tags[-1]} cannot be asked for: ERROR: failed to do request: Head "
        f"https://registry.lan/{tags[-1]}: no such host. No file is changed.\n"
    )
    assert texts(copy) == before


@pytest.mark.parametrize("answer", ["", "sha256:12", "sha512:" + "a" * 64])
def test_what_is_no_digest_is_not_written(copy, answer):
    before = texts(copy)
    done, _ = pin(copy, dict.fromkeys(named_tags(), answer))

    assert (done.returncode, "docker names no digest of" in done.stderr) == (1, True)
    assert texts(copy) == before


@pytest.mark.parametrize(
    ("has_docker", "said"),
    [
        (False, "docker is missing: install Docker with its plugin buildx"),
        (True, "docker has no plugin buildx: install it"),
    ],
)
def test_without_docker_or_its_plugin_it_says_what_to_install(copy, has_docker, said):
    before = texts(copy)
    done, _ = pin(copy, None, has_docker=has_docker)

    assert (done.returncode, done.stderr) == (1, f"image-digests: {said}. No file is changed.\n")
    assert texts(copy) == before


def test_a_disk_that_is_full_changes_no_file(copy, monkeypatch, capsys):
    """The last of the files cannot be written any more."""
    before = texts(copy)
    monkeypatch.setattr(digests, "buildx", lambda *arguments: subprocess.CompletedProcess(arguments, 0))
    monkeypatch.setattr(digests, "digest_of", digest)
    write, written = Path.write_text, []

    def write_or_fail(path, *arguments, **named):
        written.append(path)
        if len(written) == len(NAMED):
            raise OSError(28, os.strerror(28), str(path))
        return write(path, *arguments, **named)

    monkeypatch.setattr(Path, "write_text", write_or_fail)
    assert digests.main(copy / "compose") == 1
    assert "No space left on device. No file is changed." in capsys.readouterr().err
    assert texts(copy) == before
