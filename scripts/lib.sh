# shellcheck shell=bash
# What the scripts share: where things are, and how they talk. Sourced, not run.
#
# Everything that is said goes to the standard error, so that the standard output is left to
# results. Colours only on a terminal, and never where NO_COLOR is set.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# The folder that everything is built into: $CARGO_TARGET_DIR, or target.
target=${CARGO_TARGET_DIR:-$root/target}
case $target in /*) ;; *) target=$PWD/$target ;; esac
export CARGO_TARGET_DIR=$target
# rustup puts cargo here, and on PATH only for shells that are started later.
command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
# shellcheck disable=SC2034 # for those who source this
modules=$target/tasks fastworker=$target/release/fastworker

bold='' dim='' red='' green='' plain=''
if [ -t 2 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' dim=$'\e[2m' red=$'\e[1;31m' green=$'\e[32m' plain=$'\e[0m'
fi

say() { printf '%s\n' "$*" >&2; }

# title TEXT: begins a part.
title() { printf '\n%s%s%s\n' "$bold" "$*" "$plain" >&2; }

# note TEXT: something by the way.
note() { printf '%s%s%s\n' "$dim" "$*" "$plain" >&2; }

# good TEXT: something that went well.
good() { printf '%s%s%s\n' "$green" "$*" "$plain" >&2; }

# fail MESSAGE HINT: ends the script.
fail() {
    printf '%serror%s: %s\n\nhint: %s\n' "$red" "$plain" "$1" "$2" >&2
    exit 1
}

# Milliseconds of the wall clock. EPOCHREALTIME has a comma in some languages.
millis() {
    if [ -n "${EPOCHREALTIME:-}" ]; then
        local now=${EPOCHREALTIME/,/.}
        echo $((${now%.*} * 1000 + 10#${now#*.} / 1000))
    else
        echo $(($(date +%s) * 1000)) # bash 3, on macOS
    fi
}

# span MILLISECONDS: as people write it.
span() {
    if [ "$1" -lt 1000 ]; then
        echo "$1 ms"
    elif [ "$1" -lt 60000 ]; then
        echo "$(($1 / 1000)).$(($1 % 1000 / 100)) s"
    else
        echo "$(($1 / 60000)) min $(($1 % 60000 / 1000)) s"
    fi
}
