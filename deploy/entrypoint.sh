#!/bin/sh
# Start a container: stay up idle for `docker exec`, or run the command that was given.
#
#   docker compose up -d                                           idle
#   docker compose run --rm cpu python3 main.py --mode doctor      a command
#   docker compose run --rm cpu --mode doctor                      the same: flags are main.py's
#   docker compose --profile ray up -d                             nodes of a Ray cluster
set -e

for folder in output weights work_dirs; do
    if [ ! -w "$folder" ]; then
        echo "$PWD/$folder: not writable for user $(id -u), group $(id -g); on the host make its" \
            "folder theirs (chown), or build with your own numbers: USER_ID, GROUP_ID in .env" >&2
    fi
done

case "${1:-idle}" in
    idle)
        # Process 1 hears no signal that it does not ask for: without the trap `docker stop`
        # would wait its ten seconds and then kill. KILL for the sleeper: just forked, it still has
        # this shell's handlers and would lose a TERM.
        trap 'kill -KILL "$!" 2>/dev/null || true; wait "$!" 2>/dev/null || true; exit 0' TERM INT HUP
        sleep infinity &
        wait "$!"
        ;;
    ray)
        # A node that was told to end drains and ends with 1, as one that failed: told apart here.
        # An INT it would take for Ctrl-C, and not drain.
        "$@" &
        node=$!
        trap 'kill -TERM "$node" 2>/dev/null || true; wait "$node" || true; exit 0' TERM INT HUP
        wait "$node"
        ;;
    -*) exec python3 main.py "$@" ;;
    *) exec "$@" ;;
esac
