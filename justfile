# Everyday commands: `just` lists them, `just --show RECIPE` prints one. CONTRIBUTING.md explains them.
# All of them build the whole workspace with one profile, so that wasmtime is built once.

packages := "--workspace --exclude fastworker-guest-macros"
macros := "--package fastworker-guest-macros"

# List the recipes
default:
    @just --list --unsorted

# Install what is missing to build and test
setup:
    scripts/setup --tests

# Build the program and the example task modules
build:
    cargo build --release --workspace --bin fastworker
    scripts/build-tasks

# Start a cluster, run real work and show each result
demo:
    scripts/demo

# Start a control plane with the example task modules and the web page, at http://127.0.0.1:8080
page *OPTIONS: build
    "${CARGO_TARGET_DIR:-target}/release/fastworker" control-plane --task-modules "${CARGO_TARGET_DIR:-target}/tasks" {{ OPTIONS }}

# Run every check and every test, as CI does
test:
    scripts/test

# Run the unit tests, or those whose names contain FILTER
unit FILTER="":
    cargo test --release {{ packages }} --lib -- {{ FILTER }}
    cargo test {{ macros }} -- {{ FILTER }}

# Run one test suite of whole clusters, such as `just suite loss`
suite NAME FILTER="":
    cargo test --release {{ packages }} --test {{ NAME }} -- {{ FILTER }}

# Run the simulation with one seed
sim SEED:
    FASTWORKER_SIM_SEED={{ SEED }} cargo test --release {{ packages }} --test simulation

# Run the simulation with the first COUNT seeds
sims COUNT="100000":
    FASTWORKER_SIM_SEEDS={{ COUNT }} cargo test --release {{ packages }} --test simulation

# Kill, stop, disconnect and restart the processes of a cluster under load
faults *OPTIONS:
    scripts/faults {{ OPTIONS }}

# Measure latency and throughput on this machine
bench *OPTIONS: build
    "${CARGO_TARGET_DIR:-target}/release/fastworker" bench {{ OPTIONS }}

# Format the code
fmt:
    cargo fmt --all

# Run clippy and shellcheck, warnings as errors
lint:
    cargo clippy --release {{ packages }} --all-targets -- -D warnings
    cargo clippy {{ macros }} --all-targets -- -D warnings
    shellcheck --severity=warning -x scripts/* .ci/run

# Build the documentation, warnings as errors
doc *OPTIONS:
    RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --release --no-deps --package fastworker --package fastworker-guest {{ OPTIONS }}

# Check the smaller sets of features: the light client, and the library without the command
features:
    cargo check --release --package fastworker --no-default-features
    cargo check --release --package fastworker --no-default-features --features runtime

# Check licences, sources, duplicates and advisories of the dependencies (needs cargo-deny)
deny *CHECKS:
    cargo deny check {{ CHECKS }}

# Check spelling (needs typos-cli)
typos *OPTIONS:
    typos {{ OPTIONS }}

# Check the GitHub workflows (needs actionlint)
workflows:
    actionlint

# Check that dependencies are used (needs cargo-machete)
machete:
    cargo machete

# Build the archives of a release (Linux)
dist *FOLDER:
    scripts/dist {{ FOLDER }}
