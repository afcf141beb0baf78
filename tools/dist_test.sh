#!/usr/bin/env bash
# Measure a checkpoint: tools/dist_test.sh CONFIG CHECKPOINT N [options of tools/test.py]
# Measuring runs in one process, so N changes nothing; it is taken because OpenMMLab's script does.
set -euo pipefail
if [[ $# -lt 3 || ! $3 =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: tools/dist_test.sh CONFIG CHECKPOINT N [options]; N processes, got '${3:-}'" >&2
    exit 2
fi
[[ $3 == 1 ]] || echo "measuring runs in one process; $3 would change nothing" >&2
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
command -v "$python" > /dev/null || python=python3
exec "$python" "$root/tools/test.py" "$1" "$2" "${@:4}"
