#!/usr/bin/env bash
# Build and try the image without a Docker engine: every step of deploy/Dockerfile, read from it,
# in a bare Debian root (debootstrap), in which the program then runs as the image's user.
#
#   sudo make test-image                      the runtime image
#   sudo make test-image TARGET=training      the training image as well: larger, longer
#
# Debian, root, and `apt-get install debootstrap` are needed. Debian's own Python 3.11 stands in
# for the one of the python image. pip works as it does outside: its settings, certificates and
# local package folders are taken along.
#
# IMAGE_TEST_ROOT    where to work (some GB); default: a new folder in /tmp, removed at the end
# IMAGE_TEST_KEEP=1  keep that folder
set -euo pipefail
cd "$(dirname "$0")/.."

target=${1:-runtime}
python=${PYTHON:-python3}
suite=bookworm
user_id=${USER_ID:-1234}
group_id=${GROUP_ID:-4321}

say() { printf '== %s\n' "$*"; }
fail() { printf 'image test: %s\n' "$*" >&2; exit 1; }

[ "$(id -u)" -eq 0 ] || fail "expected root, for chroot and mounts; run: sudo make test-image"
command -v debootstrap >/dev/null || fail "debootstrap is missing; run: apt-get install debootstrap"

work=${IMAGE_TEST_ROOT:-$(mktemp -d /tmp/recognizer-image.XXXXXX)}
root=$work/root
stages=$work/stages
mkdir -p "$root" "$stages"
mounted=()

clean() {
    local point
    # Never remove what is mounted: these are folders of this machine.
    for ((i = ${#mounted[@]} - 1; i >= 0; i--)); do
        point=${mounted[i]}
        umount "$point" || { say "cannot unmount $point: nothing is removed"; return; }
    done
    if [ -n "${IMAGE_TEST_KEEP:-}" ]; then
        say "kept: $work"
    else
        rm -rf --one-file-system "$work"
    fi
}
trap clean EXIT

bring() { # a folder of this machine into the root, at the same place, read-only
    mkdir -p "$root$1"
    mount --bind "$1" "$root$1"
    mounted+=("$root$1")
    mount -o remount,bind,ro "$root$1" 2>/dev/null || true
}

# --- a bare root ---------------------------------------------------------------------------
if [ ! -x "$root/usr/bin/apt-get" ]; then
    say "debootstrap $suite (minbase and Python)"
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates "$suite" "$root" \
        >"$work/debootstrap.log" 2>&1 || { tail -20 "$work/debootstrap.log" >&2; exit 1; }
fi
mkdir -p "$root/proc" "$root/dev/shm"
mount -t proc proc "$root/proc" && mounted+=("$root/proc")
mount -t tmpfs tmpfs "$root/dev/shm" && mounted+=("$root/dev/shm")
cp /etc/resolv.conf "$root/etc/resolv.conf"

# How pip reaches packages here: its settings and every file or folder that they name.
"$python" -m pip config list >"$work/pip-config" 2>/dev/null || true
sed -nE "s/^[^:.]+\.([a-z-]+)='(.*)'\$/\1 = \2/p" "$work/pip-config" | sort -u |
    { echo '[global]'; cat; } >"$root/etc/pip.conf"
# A local index links to files beside itself, so its parent comes along.
grep -oE "(file:/+)?/[^' ]+" "$work/pip-config" |
    sed -E 's#^file:/*(/.*)/[^/]*/?$#\1#' | sort -u >"$work/places"
while read -r place; do
    if [ -d "$place" ] && [ "$place" != / ]; then
        bring "$place"
    elif [ -f "$place" ]; then
        install -D -m 644 "$place" "$root$place"
    fi
done <"$work/places"

# --- the steps of the Dockerfile, as deploy/dockerfile.py names them --------------------------
# Variables of this shell that say how to reach packages; the image itself never sees them.
outside() { env | grep -E '^(PIP_[A-Z_]+|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|https?_proxy|HTTPS?_PROXY|no_proxy|NO_PROXY)=' || true; }

in_root() { # USER FOLDER NAME=VALUE... -- COMMAND...
    local user=$1 folder=$2 variables=()
    shift 2
    while [ "$1" != -- ]; do variables+=("$1"); shift; done
    shift
    local settings=()
    [ "$user" != 0:0 ] || mapfile -t settings < <(outside)
    # shellcheck disable=SC2016 # expanded inside
    ${AS_ITSELF:-} env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp \
        LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "${settings[@]}" "${variables[@]}" \
        chroot --userspec="$user" "$root" \
        /bin/sh -c 'cd "$1" && shift && exec "$@"' sh "$folder" "$@"
}

step_run() {
    local words=("$@")
    say "RUN as $1: ${words[-1]}"
    unset 'words[-1]'
    in_root "${words[@]}" /bin/sh -c "${!#}"
}
step_workdir() { mkdir -p "$root$1"; }
step_stage() { mkdir -p "$stages/$1"; }
step_fill() { local stage=$1; shift; put . "$stages/$stage" "$@"; }
step_copy() {
    local from=. folder=$2
    [ "$1" = . ] || from=$stages/$1
    shift 2
    case ${!#} in /*) put "$from" "$root" "$@" ;; *) put "$from" "$root$folder" "$@" ;; esac
}
put() { # FROM TO SOURCE... GOAL: as COPY does, the content of a folder, not the folder
    local from=$1 goal=$2/${!#} source
    shift 2
    for source in "${@:1:$#-1}"; do
        if [ -d "$from/$source" ]; then
            mkdir -p "$goal"
            tar -C "$from/$source" --exclude=__pycache__ --exclude='*.pyc' -cf - . |
                tar -C "$goal" --no-same-owner -xf -
        else
            case $goal in */) mkdir -p "$goal" ;; esac
            cp "$from/$source" "$goal"
        fi
    done
}
step_end() { ending=("$@"); }

# The Dockerfile's default PATH is that of its image.
"$python" - "$target" "$user_id" "$group_id" >"$work/steps" <<'PYTHON'
import sys
from pathlib import Path

from deploy.dockerfile import shell_lines

usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
target, user_id, group_id = sys.argv[1:]
text = "ARG PATH\n" + Path("deploy/Dockerfile").read_text(encoding="utf-8")
given = {"PATH": usual, "USER_ID": user_id, "GROUP_ID": group_id, "RUNTIME": "cpu"}
sys.stdout.writelines(f"{line}\n" for line in shell_lines(text, target, given))
PYTHON
ending=()
# shellcheck source=/dev/null
source "$work/steps"
size=$(du -sh "${mounted[@]/#/--exclude=}" "$root" | cut -f1)
say "built: $size ($(grep -c ^step_run "$work/steps") RUN, $(grep -c ^step_copy "$work/steps") COPY steps)"

# --- what the image must do ------------------------------------------------------------------
as_user() { in_root "${ending[@]}" -- ./deploy/entrypoint.sh "$@"; }

[ "${ending[0]}" = "$user_id:$group_id" ] || fail "ends as ${ending[0]}, expected $user_id:$group_id"
say "who runs it: $(as_user id -u):$(as_user id -g)"
say "main.py --list-modes"
as_user python3 main.py --list-modes
say "main.py --mode doctor"
as_user python3 main.py --mode doctor
say "main.py --mode demo"
as_user --mode demo >"$work/demo.log" 2>&1 || { tail -30 "$work/demo.log"; fail "the demo failed"; }
tail -12 "$work/demo.log"

output=$root/workspace/recognizer/output
for name in train val test; do
    find "$output" -name "$name.pkl" -size +0 | grep -q . || fail "the demo left no $name.pkl"
done
others=$(find "$output" ! -user "$user_id" -o ! -group "$group_id" | head -5)
[ -z "$others" ] || fail "not of user $user_id, group $group_id: $others"
if as_user sh -c 'echo x >>main.py' 2>/dev/null; then fail "the program can be changed by its user"; fi
if [ "$target" = runtime ]; then
    as_user python3 -c 'import torch' 2>/dev/null && fail "the runtime image has torch"
    [ "$(as_user python3 -c 'import sys; print(sys.prefix)')" = /opt/venv ] || fail "not the venv"
fi

say "idle: up until it is told to stop"
AS_ITSELF="exec" as_user &  # so that the process to stop is the container's first one
idle=$!
sleep 2
kill -0 "$idle" 2>/dev/null || fail "the idle container ended by itself"
kill -TERM "$idle"
wait "$idle" || fail "the idle container ended with $?, expected 0 after TERM"

say "$(find "$output" -type f | wc -l) files of user $user_id in output; everything as expected"
