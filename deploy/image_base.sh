#!/usr/bin/env bash
# Sourced by image_test.sh: an engine where none answers, a Python image where none can be pulled.
#
# Each of these leaves in `ended` what must be called at the end, last first.
# shellcheck disable=SC2154  # work and python: of image_test.sh

start_engine() { # its own data, socket and process: an engine of yours is never touched
    docker info >/dev/null 2>&1 && return
    [ "$(id -u)" -eq 0 ] || fail "no engine answers (docker info), and only root can start one"
    command -v dockerd >/dev/null ||
        fail "no engine answers, and dockerd is missing; run: apt-get install docker.io"
    say "dockerd, for this test only"
    export DOCKER_HOST=unix://$work/docker.sock
    # A session of its own: Ctrl-C is for the script, which ends containers before the engine.
    setsid dockerd --host "$DOCKER_HOST" --data-root "$work/engine" --exec-root "$work/exec" \
        --pidfile "$work/dockerd.pid" --bridge=none --iptables=false --ip-forward=false \
        --ip-masq=false >"$work/dockerd.log" 2>&1 &
    engine=$!
    ended+=(stop_engine)
    for _ in {1..60}; do
        docker info >/dev/null 2>&1 && return
        kill -0 "$engine" 2>/dev/null || break
        sleep 1
    done
    tail -20 "$work/dockerd.log" >&2
    fail "dockerd does not answer"
}
stop_engine() {
    kill "$engine" 2>/dev/null || true
    wait "$engine" 2>/dev/null || true
    # It leaves the mount of a network namespace behind.
    grep -oE " $work/(exec|engine)/[^ ]+" /proc/self/mountinfo | tac | xargs -r umount
}

find_python_image() { # sets PYTHON_IMAGE, which docker-compose.yml reads
    export PYTHON_IMAGE=${PYTHON_IMAGE:-python:3.11-slim-bookworm}
    docker image inspect "$PYTHON_IMAGE" >/dev/null 2>&1 && return
    say "docker pull $PYTHON_IMAGE"
    timeout 300 docker pull --quiet "$PYTHON_IMAGE" && return
    say "no registry answers: a Debian root with Debian's Python stands in"
    [ "$(id -u)" -eq 0 ] || fail "expected root, for debootstrap; or a Python image: PYTHON_IMAGE"
    command -v debootstrap >/dev/null ||
        fail "debootstrap is missing; run: apt-get install debootstrap"
    PYTHON_IMAGE=recognizer-test:python
    if [ ! -e "$work/root/.complete" ]; then
        debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm \
            "$work/root" >"$work/debootstrap.log" 2>&1 ||
            { tail -20 "$work/debootstrap.log" >&2; fail "debootstrap failed"; }
        rm -rf "$work/root/var/cache/apt/archives" "$work"/root/var/lib/apt/lists/*
        touch "$work/root/.complete"
    fi
    offer_packages
    # Made once in a kept folder: a new one would have the build install everything again.
    docker image inspect "$PYTHON_IMAGE" >/dev/null 2>&1 ||
        tar -C "$work/root" --exclude=./dev --exclude='./proc/*' --exclude='./sys/*' -cf - . |
        docker import \
            --change "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
            - "$PYTHON_IMAGE" >/dev/null
}

# pip in that root works as it does outside: with its settings and the files they name; its local
# folders of packages are served on the loopback interface, which a build on the host's network has.
offer_packages() {
    local port=${IMAGE_TEST_PORT:-8461}
    rm -rf "$work/packages" "$work/packages.log"
    mkdir -p "$work/packages"
    "$python" -m pip config list >"$work/pip-config" 2>/dev/null || true
    "$python" - "$work" "http://127.0.0.1:$port" <<'PYTHON'
import re
import shutil
import sys
from pathlib import Path

work, server = Path(sys.argv[1]), sys.argv[2]
root, served = work / "root", work / "packages"


def reached_inside(word):
    """Return what stands for one word of a setting inside the root."""
    place = Path(re.sub("^file:/*", "/", word))
    if not place.is_absolute() or not place.exists():
        return word
    if place.is_file():
        inside = root / place.relative_to("/")
        inside.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(place, inside)
        return word
    link = served / str(len(list(served.iterdir())))
    link.symlink_to(place.parent)  # a local index links to files beside itself
    return f"{server}/{link.name}/{place.name}/"


settings = {}
for line in (work / "pip-config").read_text(encoding="utf-8").splitlines():
    if match := re.fullmatch(r"[^.]+\.([a-z-]+)='(.*)'", line):
        settings[match[1]] = " ".join(map(reached_inside, match[2].replace("\\n", " ").split()))
text = "".join(f"{name} = {value}\n" for name, value in sorted(settings.items()))
(root / "etc" / "pip.conf").write_text(f"[global]\n{text}", encoding="utf-8")
PYTHON
    "$python" -u -m http.server "$port" --bind 127.0.0.1 --directory "$work/packages" \
        >"$work/packages.log" 2>&1 &
    server=$!
    ended+=(stop_server)
    until grep -qs "^Serving" "$work/packages.log"; do
        kill -0 "$server" 2>/dev/null || fail "port $port is taken; name another: IMAGE_TEST_PORT"
        sleep 0.2
    done
}
stop_server() {
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
}
