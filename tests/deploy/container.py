"""The Dockerfile, docker-compose.yml and .env as the tests of the container read them."""

import re
from pathlib import Path, PurePosixPath

import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
TEXT = DOCKERFILE.read_text(encoding="utf-8")
LINES = re.sub(r"\\\n\s*", "", TEXT)
STAGES = dict(
    re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", LINES, re.MULTILINE | re.DOTALL)
)
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load(COMPOSE_TEXT)
SERVICES = COMPOSE["services"]
KINDS = ("cpu", "gpu", "tensorrt", "train")
WORK_DIR = PurePosixPath("/workspace/recognizer")
ENTRYPOINT = ROOT / "deploy" / "entrypoint.sh"


def settings(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
