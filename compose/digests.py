"""`make image-digests`: writes the digest of each image beside its tag, like nginx:1.29.3@sha256:…, in the files of
Compose and the Dockerfiles: so each start and each build takes exactly these images. Run again, it takes the digests of
today.

It asks the registries by `docker buildx imagetools inspect`, for which no Docker engine has to run. Exit status 0; 1
with what is wrong, and no file changed.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path("compose")
REFERENCE = r"(?P<tag>[a-z0-9][\w./-]*:[\w.-]+)(?:@sha256:[0-9a-f]{64})?"
# In Compose `image: TAG` or `image: ${VARIABLE:-TAG}`; in a Dockerfile `FROM TAG` or `ARG NAME=TAG`.
IN_COMPOSE = re.compile(rf"^(?P<before>\s+image: (?:\$\{{\w+:-)?){REFERENCE}(?=\}}?$)", re.MULTILINE)
IN_DOCKERFILE = re.compile(rf"^(?P<before>FROM |ARG \w+=){REFERENCE}(?= |$)", re.MULTILINE)
# Those that are built here.
OURS = ":local"
TIMEOUT_SECONDS = 60


class Refused(Exception):
    """The digests cannot be written. The text says why, and what to do."""


def files(folder: Path) -> list[tuple[Path, re.Pattern[str]]]:
    """Return the files that name images, each with how they are written there."""
    found = [(path, IN_COMPOSE) for path in sorted(folder.glob("*.yml"))]
    return found + [(path, IN_DOCKERFILE) for path in sorted(folder.rglob("Dockerfile"))]


def tags_in(texts: Iterable[tuple[str, re.Pattern[str]]]) -> list[str]:
    """Return the tags that are named, each once, without those of our own images."""
    found = {match["tag"] for text, pattern in texts for match in pattern.finditer(text)}
    return sorted(tag for tag in found if not tag.endswith(OURS))


def buildx(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Return how a command of buildx ended. Raises Refused where it could not run."""
    try:
        return subprocess.run(["docker", "buildx", *arguments], capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    except FileNotFoundError:
        raise Refused("docker is missing: install Docker with its plugin buildx") from None
    except subprocess.TimeoutExpired:
        raise Refused(f"{arguments[-1]}: no answer within {TIMEOUT_SECONDS} s") from None


def digest_of(tag: str) -> str:
    """Return the digest that the registry has for a tag now: that of all platforms. Raises Refused."""
    done = buildx("imagetools", "inspect", "--format", "{{json .Manifest}}", tag)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise Refused(f"{tag} cannot be asked for: {said[-1] if said else f'docker ended with {done.returncode}'}")
    try:
        digest = json.loads(done.stdout)["digest"]
    except (ValueError, KeyError, TypeError):
        digest = ""
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", str(digest)):
        raise Refused(f"docker names no digest of {tag}")
    return str(digest)


def pinned(text: str, pattern: re.Pattern[str], digests: dict[str, str]) -> str:
    """Return a file's text with these digests behind their tags; an older one is replaced."""
    return pattern.sub(
        lambda found: (
            f"{found['before']}{found['tag']}@{digests[found['tag']]}" if found["tag"] in digests else found[0]
        ),
        text,
    )


def write(texts: dict[Path, str]) -> None:
    """Write the files: first all of them beside the old ones, so that a full disk changes none. Raises Refused."""
    made: list[tuple[Path, Path]] = []
    try:
        for path, text in texts.items():
            new = path.with_name(f".{path.name}.new")
            made.append((new, path))
            new.write_text(text, encoding="utf-8")
            new.chmod(path.stat().st_mode & 0o777)
        for new, path in made:
            os.replace(new, path)
    except OSError as error:
        raise Refused(f"{error.filename} cannot be written: {error.strerror}") from None
    finally:
        for new, _ in made:
            new.unlink(missing_ok=True)


def main(folder: Path = FOLDER) -> int:
    named = files(folder)
    texts = {path: path.read_text(encoding="utf-8") for path, _ in named}
    tags = tags_in((texts[path], pattern) for path, pattern in named)
    try:
        if buildx("version").returncode:
            raise Refused("docker has no plugin buildx: install it")
        digests = {tag: digest_of(tag) for tag in tags}
        changed = {path: pinned(texts[path], pattern, digests) for path, pattern in named}
        write({path: text for path, text in changed.items() if text != texts[path]})
    except Refused as error:
        print(f"image-digests: {error}. No file is changed.", file=sys.stderr)
        return 1
    for tag, digest in digests.items():
        print(f"image-digests: {tag}@{digest}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
