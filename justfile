# What people do here every day. `just` lists the recipes (https://just.systems; `cargo install just`).
# Everything works without just, too: each recipe is one or two ordinary commands.

set positional-arguments

# List the recipes.
default:
    @just --list --unsorted

# Start a server with an address of its own; arguments go to `sluice serve`.
run *arguments:
    cargo run --release -- serve "$@"

# Play a quarter in a simulated time, then serve what came of it.
demo *arguments:
    cargo run --release -- demo "$@"

# All tests, with private instances of the services that they need (Debian, as root).
test:
    tests/run

# The tests that need nothing but Rust.
test-fast:
    tests/run --fast

# The tests whose path contains a word: `just one commands::holds`.
one filter:
    cargo nextest run --no-fail-fast -E "test($1)"

# Format, lints, documentation, dependencies and all tests: what must pass before a merge.
ci:
    .ci/run

# Format the sources and look at them as .ci/run does.
lint:
    cargo fmt
    cargo clippy --locked --all-targets -- -D warnings

# Build and open the documentation of the sources.
docs:
    cargo doc --locked --no-deps --document-private-items --open

# Measure: `just bench report`; without a name, say what can be measured.
bench *arguments:
    cargo bench --bench sluice -- "${@:---help}"

# Write the golden files anew that the program makes itself (API description, events). Read the difference.
golden:
    UPDATE_GOLDEN=1 cargo nextest run schema events::

# Begin a migration of both SQL engines: `just new-migration read site_answers` (or `log`).
new-migration database name:
    #!/usr/bin/env bash
    set -euo pipefail
    [[ $1 == log || $1 == read ]] || { echo "the database is log or read, not $1" >&2; exit 2; }
    [[ $2 =~ ^[a-z][a-z0-9_]*$ ]] || { echo "the name is like site_answers, not $2" >&2; exit 2; }
    newest=$(find migrations -name '*.sql' -printf '%f\n' | sort | tail -1)
    number=$(printf '%04d' $((10#${newest%%_*} + 10)))
    for engine in sqlite postgres; do
        file=migrations/$engine/$1/${number}_$2.sql
        echo "-- What these tables are for." > "$file"
        echo "$file"
    done

# Begin a record of a decision: `just new-adr "Books per resource and month"`.
new-adr title:
    #!/usr/bin/env bash
    set -euo pipefail
    newest=$(find docs/adr -name '*.md' -printf '%f\n' | sort | tail -1)
    number=$(printf '%04d' $((10#${newest%%-*} + 1)))
    name=$(tr '[:upper:] ' '[:lower:]-' <<<"$1" | tr -cd 'a-z0-9-')
    file=docs/adr/$number-$name.md
    printf '# %d. %s\n\n## Context\n\n## Decision\n\n## Consequences\n' "$((10#$number))" "$1" > "$file"
    echo "$file"
