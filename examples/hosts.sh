#!/usr/bin/env bash
# Runs several_machines.py on a list of hosts, one process on each, from the project's folder:
#
#     examples/hosts.sh node1 node2 node3 -- --num-samples 10000
#
# What follows "--" goes to the program. The hosts have to be reachable by ssh without a password,
# to have this folder under the same path, and to reach port 12345 of the first one. PORT, PYTHON
# and RSH choose another port, another Python and another remote shell.
set -euo pipefail
cd "$(dirname "$0")/.."

hosts=()
while [ $# -gt 0 ] && [ "$1" != "--" ]; do
    hosts+=("$1")
    shift
done
if [ ${#hosts[@]} -eq 0 ]; then
    echo "usage: examples/hosts.sh HOST... [-- OPTION...]" >&2
    exit 2
fi
[ $# -eq 0 ] || shift

started=()
for number in "${!hosts[@]}"; do
    command=(
        "${PYTHON:-python}" examples/several_machines.py
        --coordinator "${hosts[0]}:${PORT:-12345}" --processes "${#hosts[@]}" --process "$number"
        "$@"
    )
    "${RSH:-ssh}" "${hosts[$number]}" "cd $(printf %q "$PWD") && exec $(printf '%q ' "${command[@]}")" &
    started+=($!)
done

status=0
for process in "${started[@]}"; do
    wait "$process" || status=$?
done
exit "$status"
