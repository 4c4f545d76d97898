#!/bin/sh
# Builds the image and runs it as a cluster does: as uid 10001 and as a uid without a passwd entry, with a read-only root,
# and with SIGTERM to process 1. Exit status 77: there is no container engine here, or no base image can be had.
# Where only buildah is here, the image is built and the demo runs in it; SIGTERM is for the others.
#   tests/container.sh [docker|podman|buildah]
set -eu
cd "$(dirname "$0")/.."

engine=${1:-}
for each in docker podman; do
    if [ -z "$engine" ] && "$each" info >/dev/null 2>&1; then engine=$each; fi
done
if [ -z "$engine" ] && command -v buildah >/dev/null; then engine=buildah; fi
if [ -z "$engine" ]; then
    echo "none of docker, podman and buildah is here" >&2
    exit 77
fi
base=$(sed -n 's/^FROM \(.*\) AS build$/\1/p' Dockerfile)
image=batchsubmit:container-test

if [ "$engine" = buildah ]; then
    if ! buildah pull --quiet "$base" >/dev/null 2>&1; then
        echo "the base image $base cannot be had here" >&2
        exit 77
    fi
    buildah build --quiet --tag "$image" .
    container=$(buildah from "$image")
    trap 'buildah rm "$container" >/dev/null' EXIT
    for user in 10001:10001 1000650000:0; do
        echo "the demo, as $user"
        buildah run --user "$user" --volume "$PWD/configs/demo.csv:/demo.csv:ro" "$container" -- \
            batchsubmit submit /demo.csv --ledger "/tmp/${user%:*}.jsonl" --sandbox --sandbox-job-seconds 1
    done
    exit 0
fi

if ! "$engine" image inspect "$base" >/dev/null 2>&1 && ! "$engine" pull --quiet "$base" >/dev/null 2>&1; then
    echo "the base image $base cannot be had here" >&2
    exit 77
fi

name=batchsubmit-container-test-$$
cleanup() {
    "$engine" rm --force "$name" >/dev/null 2>&1 || true
    "$engine" volume rm --force "$name" >/dev/null 2>&1 || true
}
trap cleanup EXIT

# A volume that is new takes owner and mode of the image's /data.
submit() {
    cleanup
    "$engine" run --name "$name" --interactive --read-only --tmpfs /tmp --volume "$name:/data" "$@" <configs/demo.csv
}

"$engine" build --quiet --tag "$image" .

echo "the demo, as the image's own user"
submit "$image" submit - --ledger demo.jsonl --sandbox --sandbox-job-seconds 1

echo "the demo, as a user without a passwd entry (OpenShift)"
submit --user 1000650000:0 "$image" submit - --ledger demo.jsonl --sandbox --sandbox-job-seconds 1

echo "SIGTERM to process 1"
cleanup
"$engine" run --name "$name" --detach --read-only --tmpfs /tmp --volume "$name:/data" \
    --volume "$PWD/configs/demo.csv:/demo.csv:ro" "$image" \
    submit /demo.csv --ledger demo.jsonl --sandbox --sandbox-job-seconds 600 --wait >/dev/null
tries=0
until "$engine" exec "$name" batchsubmit status demo.jsonl 2>/dev/null | grep -q submitted; do
    tries=$((tries + 1))
    [ "$tries" -lt 60 ] || { echo "no job was submitted within a minute" >&2; exit 1; }
    sleep 1
done
"$engine" stop --time 60 "$name" >/dev/null
status=$("$engine" inspect --format '{{.State.ExitCode}}' "$name")
"$engine" logs "$name"
[ "$status" = 3 ] || { echo "exit status $status after SIGTERM, not 3: it did not end in good order" >&2; exit 1; }
"$engine" run --rm --volume "$name:/data" "$image" verify demo.jsonl --offline
