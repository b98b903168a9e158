# Shortcuts. Each is a task of ./dev or a command of this project.

# List the recipes
default:
    @just --list

# Train two tutors, promote the good one, refuse the regressed one
demo:
    ./dev demo

# Run the quick tests, or all with --all; further arguments go to pytest
test *args:
    ./dev test {{ args }}

# Run the deploy workflow's steps on this machine, also with attacks and failures
rehearse *scenarios:
    ./dev rehearse {{ scenarios }}

# Run a team's server on this machine: crashes, backup and restore. Takes minutes
deployment:
    ./dev deployment

# Check formatting, types, import contracts, Dagster definitions and workflows
check:
    ./dev check

# Serve the Dagster UI at http://127.0.0.1:3000
ui:
    ./dev run dagster dev

# Record a run's bundle by hand, without evaluation and gate (dev only)
register-model run_id:
    @echo "WARNING: this is not the CI path. Nothing is evaluated; in prod it is refused." >&2
    ./dev run lynx-pipeline registry register {{ quote(run_id) }}

# Compare the speed with bare reference scripts and write benchmarks/results.md; takes some minutes
benchmarks *rows:
    ./dev benchmarks {{ rows }}

# Take the pictures of the UI in docs/images again, in the browser tests
screenshots:
    ./dev screenshots
