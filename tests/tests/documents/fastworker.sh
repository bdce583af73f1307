#!/usr/bin/env bash
# fastworker as the commands of a document call it, in a test: $real is the program, $state a folder.
#
# Servers run in the background and are ready when this ends; another one of the same kind ends before. Ports are those of
# the test: $base, $discovery, $listener, $health.
set -u
shopt -s extglob
: "${real:?}" "${state:?}" "${base:?}" "${discovery:?}" "${listener:?}" "${health:?}"

words=()
for word in "$@"; do
    word=${word/+([0-9.]):5555/127.0.0.1:$base}
    word=${word/+([0-9.]):5550/127.0.0.1:$discovery}
    word=${word/+([0-9.]):6000/127.0.0.1:$listener}
    words+=("${word/+([0-9.]):8081/127.0.0.1:$health}")
done

# The compiler of task modules in Rust.
if [ "$1" = build ] || [ "$1" = dev ]; then
    # shellcheck source=/dev/null
    . "$state/compiler"
fi

# server NAME REPORT: starts a server, and waits until it has printed this report.
server() {
    local pid left=600
    if [ -f "$state/$1.pid" ]; then
        pid=$(cat "$state/$1.pid")
        kill -KILL "$pid" 2>/dev/null
        while kill -0 "$pid" 2>/dev/null && [ $((left -= 1)) -gt 0 ]; do sleep 0.05; done
    fi
    "$real" "${words[@]}" --json >"$state/$1.out" 2>"$state/$1.log" </dev/null &
    pid=$!
    echo $pid >"$state/$1.pid"
    until grep -q "$2" "$state/$1.out" "$state/$1.log"; do
        if ! kill -0 $pid 2>/dev/null || [ $((left -= 1)) -eq 0 ]; then
            cat "$state/$1.out" "$state/$1.log" >&2
            exit 1
        fi
        sleep 0.05
    done
    exit 0
}

# given OPTION: whether the command line has the option.
given() { [[ " ${words[*]} " == *" $1 "* ]]; }

report='"event":"ready"'
if given --task-modules || given --serve; then report='"event":"loaded"'; fi
case $1 in
    control-plane | subworker) server "$1" "$report" ;;
    listen) server listen listening ;;
esac
if [ "$1" = dev ] && given --serve; then
    server control-plane "$report"
elif [ "$1" = events ] && given --follow; then
    # It has no end.
    timeout 1 "$real" "${words[@]}"
    [ $? -eq 124 ]
else
    exec "$real" "${words[@]}"
fi
