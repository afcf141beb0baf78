#!/usr/bin/env bash
# Train in N processes, one per GPU (without a GPU on the CPU, over gloo):
#   tools/dist_train.sh CONFIG N [options of tools/train.py]
# Several machines: NNODES, NODE_RANK, MASTER_ADDR, PORT as for OpenMMLab's script. PYTHON names
# another interpreter than .venv/bin/python.
set -euo pipefail
if [[ $# -lt 2 || ! $2 =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: tools/dist_train.sh CONFIG N [options]; N processes, got '${2:-}'" >&2
    exit 2
fi
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
command -v "$python" > /dev/null || python=python3
exec "$python" -m torch.distributed.run --nnodes "${NNODES:-1}" --node_rank "${NODE_RANK:-0}" \
    --master_addr "${MASTER_ADDR:-127.0.0.1}" --master_port "${PORT:-29500}" --nproc_per_node "$2" \
    "$root/tools/train.py" "$1" --launcher pytorch "${@:3}"
