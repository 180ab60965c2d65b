"""`make pin`: add the digest of each image to its tag, in `Dockerfile` and `docker-compose.yml`.

A tag may move, a digest can't. Docker asks the registry, so that its mirrors and logins are used.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

FILES = (Path("Dockerfile"), Path("docker-compose.yml"))
ANSWERS_WITHIN_SECONDS = 60

_IMAGE = re.compile(
    r"^(?P<before>FROM | *image: )"
    r"(?P<image>[a-z][\w./-]*:v?\d+\.\d+\.\d+[\w.-]*)"
    r"(?:@sha256:[0-9a-f]{64})?(?= |$)",
    re.MULTILINE,
)
_INSPECT = ("docker", "buildx", "imagetools", "inspect", "--format", "{{.Manifest.Digest}}")


def main(files: Iterable[Path] = FILES) -> int:
    """Pin all images whose registry answers; the exit code is 1 when one did not."""
    texts = {file: file.read_text() for file in files}
    images = {found["image"] for text in texts.values() for found in _IMAGE.finditer(text)}
    digests = {image: _digest(image) for image in sorted(images)}

    def pinned(found: re.Match[str]) -> str:
        digest = digests[found["image"]]
        return f"{found['before']}{found['image']}@{digest}" if digest else found[0]

    for file, text in texts.items():
        file.write_text(_IMAGE.sub(pinned, text))
    return 0 if all(digests.values()) else 1


def _digest(image: str) -> str | None:
    """The digest of the image's tag today. None when the registry does not answer, which is printed."""
    try:
        done = subprocess.run(
            [*_INSPECT, image],
            capture_output=True,
            text=True,
            timeout=ANSWERS_WITHIN_SECONDS,
            check=False,
        )
        digest, complaint = done.stdout.strip(), done.stderr.strip()
    except FileNotFoundError:
        digest, complaint = "", "there is no docker command on this machine"
    except subprocess.TimeoutExpired:
        digest, complaint = "", f"no answer within {ANSWERS_WITHIN_SECONDS} seconds"
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        print(f"{image} is not pinned and stays as it is: {complaint or digest}", file=sys.stderr)
        return None
    print(f"{image}@{digest}")
    return digest


if __name__ == "__main__":
    sys.exit(main())
