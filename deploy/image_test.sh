#!/usr/bin/env bash
# Build the images with Docker Compose, and use the container as the guides do.
#
#   sudo make test-image                    the container without a GPU: minutes, 4 GB of disk
#   sudo make test-image TARGET=training    the same with the training image (torch for CPUs)
#   sudo make test-image TARGET=live        live detection: a camera, its event on the page, the end
#   sudo make test-image TARGET=ray         a Ray cluster of a head and two workers, one is killed
#   sudo make test-image TARGET=gpu         another kind of docker-compose.yml: built (several GB to
#                                           download) and loaded; it is not started without a GPU
#   sudo make test-image TARGET="cpu gpu"   several; all: every one of them
#
# Wanted: Compose 2 (`docker compose version`) and an engine, or root and Debian's docker.io; where
# no registry answers, debootstrap as well. An engine that runs is used; one that this starts is
# ended again, with all that it held. Settings of pip are taken along into the build.
#
# IMAGE_TEST_CLIPS    folder of videos in folders by class   ../shared/assets/fight_surv
# IMAGE_TEST_WEIGHTS  folder with the networks of configs/config.yaml   ../shared/assets/weights
# IMAGE_TEST_ROOT     where to work, kept afterwards: a second run is faster; default: a new
#                     folder in /tmp, removed at the end
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
home=/workspace/recognizer
clips=${IMAGE_TEST_CLIPS:-../shared/assets/fight_surv}
weights=${IMAGE_TEST_WEIGHTS:-../shared/assets/weights}
export USER_ID=${USER_ID:-1234} GROUP_ID=${GROUP_ID:-4321} COMPOSE_PROFILES=cpu
say() { printf '== %s\n' "$*"; }
fail() { printf 'image test: %s\n' "$*" >&2; exit 1; }

work=${IMAGE_TEST_ROOT:-$(mktemp -d /tmp/recognizer-image.XXXXXX)}
mkdir -p "$work"
work=$(realpath "$work")
ended=()
clean() {
    local i
    for ((i = ${#ended[@]} - 1; i >= 0; i--)); do "${ended[i]}" || true; done
    if [ -n "${IMAGE_TEST_ROOT:-}" ]; then
        say "kept: $work"
    elif grep -qF " $work/" /proc/self/mountinfo; then
        say "something is still mounted below $work: nothing is removed"
    else
        rm -rf --one-file-system "$work"
    fi
}
trap clean EXIT
trap 'exit 130' INT TERM

# shellcheck source=deploy/image_base.sh
source deploy/image_base.sh

compose() {
    docker compose --project-name recognizer-test --file docker-compose.yml --file "$work/test.yml" "$@"
}
take_down() {
    docker rm --force recognizer-test >/dev/null 2>&1 || true
    compose --profile '*' down --timeout 5 --remove-orphans
}
stopped_as() { # CONTAINER CODE: stop it and compare; killed because it did not hear is 137
    local code
    docker stop --time 20 "$1" >/dev/null
    code=$(docker inspect --format '{{.State.ExitCode}}' "$1")
    [ "$code" = "$2" ] || fail "docker stop: $1 ended with $code, expected $2"
}
inside() { docker exec mmlabs "$@"; }
wait_until() { # SECONDS WHAT COMMAND...
    local seconds=$1 what=$2
    shift 2
    for ((; seconds > 0; seconds--)); do "$@" && return; sleep 1; done
    docker compose --project-name recognizer-test logs --tail 20 >&2 || true
    docker ps --all >&2 || true
    fail "$what: not within its time"
}
health_is() { [ "$(docker inspect --format '{{.State.Health.Status}}' mmlabs)" = "$1" ]; }

# --- what differs from docker-compose.yml here: names, where the build finds packages, and how
# often the image's own health check is made (every five minutes is too seldom for a test) --------
build() { # SERVICE NAME LINE...: build one service under a name of its own
    local service=$1 name=$2
    shift 2
    printf '%s\n' "services:" "  $service:" "    image: recognizer-test:$name" \
        "    healthcheck: {interval: 20s}" "    build:" "      network: host" \
        "$@" >"$work/test.yml"
    say "docker compose build $service ($name)"
    compose build --progress plain "$service" >"$work/build-$name.log" 2>&1 ||
        { tail -40 "$work/build-$name.log" >&2; fail "the build of $name failed"; }
    say "built: $(docker image inspect --format '{{.Size}}' "recognizer-test:$name" | numfmt --to=si)B"
}

try_loading() { # NAME: an image whose GPU is not here
    local offered
    docker run --rm --network none "recognizer-test:$1" --list-modes >/dev/null
    offered=$(docker run --rm --network none "recognizer-test:$1" python3 -c \
        'import onnxruntime; print(*onnxruntime.get_available_providers())')
    say "$1 offers: $offered"
    case $offered in *CUDA*) ;; *) fail "$1 does not offer CUDA" ;; esac
}

# --- the container as the guides use it ----------------------------------------------------
lay_out() { # new folders as after a clone: videos and networks are there, the others are not
    rm -rf "$work/host"
    mkdir -p "$work/host/data" "$work/host/weights"
    local class found
    for class in "$clips"/*/; do
        mkdir -p "$work/host/data/$(basename "$class")"
        mapfile -t found < <(find "$class" -type f | sort | head -3)
        [ "${#found[@]}" -gt 0 ] || continue
        cp "${found[@]}" "$work/host/data/$(basename "$class")"
    done
    cp "$weights"/*.onnx "$work/host/weights"
    chown -R "$USER_ID:$GROUP_ID" "$work/host/weights"
    export DATA_DIR=$work/host/data WEIGHTS_DIR=$work/host/weights
    export OUTPUT_DIR=$work/host/output WORK_DIRS=$work/host/work_dirs
    count=$(find "$DATA_DIR" -type f | wc -l)
    [ "$count" -gt 1 ] || fail "$clips: expected folders with videos"
}

guide() { # the three lines of the guide, word for word
    docker exec mmlabs bash -c "cd /workspace/recognizer && python3 main.py --mode annotation.stage1"
    docker exec mmlabs bash -c "cd /workspace/recognizer && python3 main.py --mode annotation.stage2"
    docker exec mmlabs bash -c "cd /workspace/recognizer && python3 main.py --mode annotation.stage3"
}

all_accounted() { # every clip has an end state in each stage, and every other one is not lost
    "$python" - "$OUTPUT_DIR/dataset" "$count" <<'PYTHON'
import json
import sys
from collections import Counter
from pathlib import Path

dataset, count = Path(sys.argv[1]), int(sys.argv[2])
for stage in ("stage1_poses", "stage2_tracking", "stage3_dataset"):
    (manifest,) = dataset.glob(f"{stage}/*/manifest.json")
    inputs = json.loads(manifest.read_text(encoding="utf-8"))["inputs"]
    states = Counter(entry["state"] for entry in inputs.values())
    sys.stdout.write(f"== {stage}: {dict(states)}\n")
    if len(inputs) != count or not states["done"]:
        sys.exit(f"{manifest}: expected {count} inputs, some done")
    if stage == "stage1_poses" and states["done"] != count:
        sys.exit(f"{manifest}: expected all {count} done")
(folder,) = dataset.glob("stage3_dataset/*")
if not any((folder / f"{name}.pkl").stat().st_size for name in ("train", "val", "test")):
    sys.exit(f"{folder}: no pickle")
PYTHON
}

owned() { # all that the container wrote belongs to the user of the image
    local others
    others=$(find "$OUTPUT_DIR" "$WORK_DIRS" ! -user "$USER_ID" -o ! -group "$GROUP_ID" | head -5)
    [ -z "$others" ] || fail "not of user $USER_ID, group $GROUP_ID: $others"
    say "$(find "$OUTPUT_DIR" -type f | wc -l) files of $USER_ID:$GROUP_ID in output"
}

results() { find "$OUTPUT_DIR" -name '*.npz' | wc -l; }
more_results_than() { [ "$(results)" -gt "$1" ]; }
digests() { (cd "$OUTPUT_DIR" && find . -name '*.npz' -o -name manifest.json -o -name '*.pkl') | sort |
    (cd "$OUTPUT_DIR" && xargs sha256sum); }

run_shut_in() { # as tightly as an engine can: nothing but the mounted folders can be written
    docker run --network none --read-only --tmpfs /tmp --cap-drop ALL \
        --security-opt no-new-privileges --volume "$DATA_DIR:$home/data:ro" \
        --volume "$WEIGHTS_DIR:$home/weights" --volume "$OUTPUT_DIR:$home/output" \
        --volume "$WORK_DIRS:$home/work_dirs" "$@"
}

use() { # NAME: the image to start
    lay_out
    ended+=(take_down)
    take_down >/dev/null 2>&1 # what a run that was killed has left
    ! docker container inspect mmlabs >/dev/null 2>&1 || fail "a container mmlabs of yours is there"
    say "docker compose up -d"
    compose up --detach --no-build
    wait_until 600 "healthy" health_is healthy
    say "healthy; who runs it: $(inside id -u):$(inside id -g)"
    [ "$(inside id -u):$(inside id -g)" = "$USER_ID:$GROUP_ID" ] || fail "not $USER_ID:$GROUP_ID"
    ! inside sh -c 'echo x >>main.py' 2>/dev/null || fail "the program can be changed by its user"
    [ "$1" != cpu ] || ! inside python3 -c 'import torch' 2>/dev/null || fail "the image has torch"

    say "the guide's lines on $count clips"
    guide
    all_accounted
    owned
    digests >"$work/first"

    say "docker stop, idle"
    stopped_as mmlabs 0
    say "stage 1 again as process 1 of a container, docker stop in the middle"
    rm -rf "${OUTPUT_DIR:?}"/dataset
    run_shut_in --detach --name recognizer-test "recognizer-test:$1" --mode annotation.stage1 >/dev/null
    wait_until 900 "a first result" more_results_than 0
    stopped_as recognizer-test 130
    docker logs recognizer-test 2>&1 | tail -1
    docker rm recognizer-test >/dev/null
    say "docker compose up -d, on from $(results) of $count results, docker restart in the middle"
    compose up --detach --no-build
    local before
    before=$(results)
    inside bash -c "cd $home && python3 main.py --mode annotation.stage1" >"$work/cut.log" 2>&1 &
    wait_until 900 "another result" more_results_than "$before"
    docker restart --time 20 mmlabs >/dev/null
    ! wait $! || fail "stage 1 ended before the restart; nothing was cut off"
    say "on from $(results) of $count results"
    guide
    digests >"$work/second"
    cmp "$work/first" "$work/second" || fail "the results differ after a restart"
    owned

    say "docker compose run --rm cpu python3 main.py --mode doctor"
    compose run --rm cpu python3 main.py --mode doctor
    say "main.py --mode demo"
    run_shut_in --rm "recognizer-test:$1" --mode demo >"$work/demo.log" 2>&1 ||
        { tail -30 "$work/demo.log" >&2; fail "the demo failed"; }
    tail -12 "$work/demo.log"
    owned
    take_down
}

page() { # PATH: what the page of live detection answers
    "$python" -c 'import sys, urllib.request as r
sys.stdout.write(r.urlopen(f"http://127.0.0.1:{sys.argv[1]}", timeout=20).read().decode())' \
        "$LIVE_PAGE_PORT/$1"
}
is_ready() { [ "$(docker inspect --format '{{.State.Health.Status}}' mmlabs-live)" = healthy ] &&
    page readyz >/dev/null 2>&1; }
has_event() { page metrics 2>/dev/null | grep -E '^recognizer_events\{.*\} [1-9]' >"$work/events"; }

use_live() { # a camera of a clip that is played again and again, and its event on the page
    lay_out
    ended+=(take_down)
    take_down >/dev/null 2>&1
    mkdir -p "$OUTPUT_DIR" "$WORK_DIRS"
    chown "$USER_ID:$GROUP_ID" "$OUTPUT_DIR" "$WORK_DIRS"
    local clip
    clip=$(cd "$DATA_DIR" && find . -path './Fight/*' -type f | sort | head -1)
    [ -n "$clip" ] || fail "$clips: expected a folder Fight"
    say "a clip of three minutes of data/$clip"
    run_shut_in --interactive --rm recognizer-test:live python3 - "data/$clip" <<'PYTHON'
import sys

from recognizer.video.reader import VideoReader
from recognizer.video.writer import VideoWriter

with VideoReader(sys.argv[1]) as reader:
    frames = [frame.image.bgr() for frame in reader]
height, width = frames[0].shape[:2]
with VideoWriter("output/camera.mp4", (width, height), 25) as writer:
    for number in range(180 * 25):
        writer.write(frames[number % len(frames)], number / 25)
PYTHON
    export LIVE_CONFIG=$work/live.yaml LIVE_PAGE_PORT=18740 COMPOSE_PROFILES=live
    printf '%s\n' "live:" "  cameras: [{name: yard, path: ../output/camera.mp4}]" \
        "  page: {port: $LIVE_PAGE_PORT}" >"$LIVE_CONFIG"
    say "docker compose --profile live up -d"
    compose --profile live up --detach --no-build
    wait_until 300 "healthy and ready" is_ready
    wait_until 120 "an event" has_event
    say "events: $(tr '\n' ' ' <"$work/events")"
    say "docker stop"
    stopped_as mmlabs-live 0
    docker logs mmlabs-live 2>&1 | tail -4
    owned
    take_down
}

ray_node() { printf 'recognizer-test-ray-%s-%s' "$1" "${2:-1}"; } # head, or worker and its number
has_nodes() { # COUNT: of the cluster, alive
    docker exec "$(ray_node head)" python3 -c 'import sys, ray
ray.init("ray-head:6379", logging_level="ERROR", log_to_driver=False)
sys.exit(sum(node["Alive"] for node in ray.nodes()) != int(sys.argv[1]))' "$1" >/dev/null 2>&1
}
stage1_on_ray() { # the line of docker-compose.yml, word for word
    compose exec -T ray-head python3 main.py --mode annotation.stage1 \
        --set annotation.executor=ray --set annotation.ray_address=ray-head:6379 >"$work/$1.log" 2>&1
}

use_ray() { # stage 1 on a head and two workers gives the bytes of one machine, also if a worker dies
    lay_out
    ended+=(take_down)
    take_down >/dev/null 2>&1
    mkdir -p "$OUTPUT_DIR" "$WORK_DIRS"
    chown "$USER_ID:$GROUP_ID" "$OUTPUT_DIR" "$WORK_DIRS"
    export COMPOSE_PROFILES=ray RAY_WORKERS=2 RAY_CPUS=1 RAY_AUTH_TOKEN
    RAY_AUTH_TOKEN=$(openssl rand -hex 32)
    say "stage 1 of $count clips in one container, without Ray"
    run_shut_in --rm recognizer-test:ray --mode annotation.stage1 >"$work/local.log" 2>&1 ||
        { tail -20 "$work/local.log" >&2; fail "stage 1 without Ray failed"; }
    [ "$(results)" = "$count" ] || fail "expected $count results, found $(results)"
    digests >"$work/first"

    say "docker compose --profile ray up -d"
    rm -rf "${OUTPUT_DIR:?}"/dataset
    compose --profile ray up --detach --no-build
    wait_until 60 "a head and two workers" has_nodes 3
    stage1_on_ray whole || { tail -20 "$work/whole.log" >&2; fail "stage 1 on Ray failed"; }
    grep -o 'Ray .* inputs for .*' "$work/whole.log"
    digests >"$work/second"
    cmp "$work/first" "$work/second" || fail "the results differ from those without Ray"

    say "the same again, docker kill of a worker in the middle"
    rm -rf "${OUTPUT_DIR:?}"/dataset
    stage1_on_ray cut &
    wait_until 900 "a first result" more_results_than 0
    docker kill "$(ray_node worker 2)" >/dev/null
    say "killed at $(results) of $count results"
    [ "$(results)" -lt "$count" ] || fail "stage 1 ended before the kill; nothing was cut off"
    wait $! || { tail -20 "$work/cut.log" >&2; fail "stage 1 failed after the kill"; }
    grep -E 'WARNING' "$work/cut.log" || fail "the run has not noticed the kill"
    digests >"$work/second"
    cmp "$work/first" "$work/second" || fail "the results differ after a worker's death"
    owned

    say "docker stop"
    stopped_as "$(ray_node worker)" 0
    stopped_as "$(ray_node head)" 0
    take_down
}

test_one() {
    case $1 in
        live) build live live; use_live ;;
        ray) build ray-head ray "  ray-worker:" "    image: recognizer-test:ray"; use_ray ;;
        cpu) build cpu cpu; use cpu ;;
        training) build cpu training "      target: training"; use training ;;
        *) build "$1" "$1"; try_loading "$1" ;;
    esac
}

docker compose version >/dev/null 2>&1 ||
    fail "Compose 2 is missing (docker compose version): Docker's docker-compose-plugin, or from Debian 13 on docker-compose"
[ -d "$clips" ] && [ -d "$weights" ] || fail "$clips, $weights: expected folders; name yours:
  IMAGE_TEST_CLIPS (videos in a folder per class), IMAGE_TEST_WEIGHTS (networks of configs/config.yaml)"
start_engine
find_python_image
kinds=${*:-cpu}
if [ "$kinds" = all ]; then
    kinds="cpu training ray $(docker compose --profile '*' config --services |
        grep -vxE 'cpu|folders|ray-.*' | sort | xargs)"
fi
for kind in $kinds; do test_one "$kind"; done
say "everything as expected: $kinds"
