# What tests/run stands on: installing what is missing, running steps, counting their results,
# starting a server. It knows no step by name, but for the three that are quick.

ROOT=$PWD
QUICK=(fmt clippy rust)
STEPS=()
declare -A COUNTED ABOUT

# step NAME COUNTED ABOUT: declares a step, run by the function run_NAME.
step() {
    STEPS+=("$1")
    COUNTED[$1]=$2
    ABOUT[$1]=$3
}

main() {
    local chosen=("${STEPS[@]}") name passed=0 failed=0
    case "${1:-}" in
        "") ;;
        quick) chosen=("${QUICK[@]}") ;;
        *) chosen=("$@") ;;
    esac
    for name in "${chosen[@]}"; do
        [[ -n ${ABOUT[$name]:-} ]] || usage "$name"
    done
    SCRATCH=$(mktemp -d)
    trap 'rm -rf "$SCRATCH"' EXIT
    for name in "${chosen[@]}"; do
        perform "$name"
    done
    echo
    cat "$SCRATCH/summary"
    echo "$passed passed, $failed failed"
    [[ $failed -eq 0 ]]
}

usage() {
    echo "There is no step \"$1\". Steps: quick ${STEPS[*]}" >&2
    exit 2
}

# Runs a step, shows what it says, and adds its results to `passed` and `failed` of main.
perform() {
    local name=$1 log=$SCRATCH/$1.log begin=$SECONDS status good bad
    printf '\n== %s: %s\n' "$name" "${ABOUT[$name]}"
    "run_$name" </dev/null 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    read -r good bad < <("count_${COUNTED[$name]}" "$log" "$status")
    # A suite that broke off, or in which nothing ran, has failed whatever it counted.
    if [[ $bad -eq 0 && ($status -ne 0 || $good -eq 0) ]]; then bad=1; fi
    passed=$((passed + good))
    failed=$((failed + bad))
    printf '%-8s %4d passed %4d failed %5d s\n' "$name" "$good" "$bad" $((SECONDS - begin)) \
        | tee -a "$SCRATCH/summary" | sed 's/^/-- /'
}

# count_KIND LOG STATUS: prints how many passed and how many failed.

count_check() {
    [[ $2 -eq 0 ]] && echo "1 0" || echo "0 1"
}

count_cargo() {
    awk '/^test result: / { for (i = 2; i <= NF; i++) {
            if ($i ~ /^passed/) good += $(i - 1)
            if ($i ~ /^failed/) bad += $(i - 1)
        } } END { print good + 0, bad + 0 }' "$1"
}

count_node() {
    awk '$2 == "pass" && NF == 3 { good += $3 }
        ($2 == "fail" || $2 == "cancelled") && NF == 3 { bad += $3 }
        END { print good + 0, bad + 0 }' "$1"
}

count_python() {
    awk '/^Ran [0-9]+ tests? in/ { all = $2 }
        /^FAILED \(/ { while (match($0, /(failures|errors|unexpected successes)=[0-9]+/)) {
            split(substr($0, RSTART, RLENGTH), part, "="); bad += part[2]
            $0 = substr($0, RSTART + RLENGTH) } }
        END { print (all > bad ? all - bad : 0), bad + 0 }' "$1"
}

# need_*: sees that something is installed; fails if it can't be.

need_component() {
    cargo "${1/rustfmt/fmt}" --version >/dev/null 2>&1 || rustup component add "$1"
}

need_chromium() {
    command -v chromium >/dev/null || apt_install chromium
}

# need_npm DIRECTORY: the packages of its lockfile.
need_npm() {
    local lock=$1/package-lock.json stamp=$1/node_modules/.installed
    cmp -s "$lock" "$stamp" && return
    npm --prefix "$1" ci --no-audit --no-fund --loglevel=error && cp "$lock" "$stamp"
}

# need_venv DIRECTORY: a virtual environment .venv with the packages of its requirements.txt.
need_venv() {
    local wanted=$1/requirements.txt stamp=$1/.venv/installed
    cmp -s "$wanted" "$stamp" && return
    python3 -m venv --clear "$1/.venv" >/dev/null \
        || { apt_install python3-venv && python3 -m venv --clear "$1/.venv"; } || return
    "$1/.venv/bin/pip" install --quiet --disable-pip-version-check --no-deps \
        --requirement "$wanted" && cp "$wanted" "$stamp"
}

apt_install() {
    local as_root=()
    [[ $(id -u) -eq 0 ]] || as_root=(sudo)
    "${as_root[@]}" apt-get update -q \
        && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -q --no-install-recommends "$@"
}

# with_server COMMAND...: runs it with the address of a server in HEARTH_URL: a fresh one with an
# empty data directory, gone afterwards, unless HEARTH_URL already says which to use.
with_server() (
    [[ -z ${HEARTH_URL:-} ]] || exec "$@"
    home=$(mktemp -d "$SCRATCH/server.XXXX")
    port=$(free_port)
    export HEARTH_URL=http://127.0.0.1:$port
    server_config "$port" "$home/data" >"$home/hearth.toml"
    # As the Rust tests build it: by itself it would want its dependencies with other features, and so anew.
    (cd "$ROOT" && cargo test --quiet --workspace --locked --no-run) || exit 1
    "$(binary)" serve --config "$home/hearth.toml" >"$home/log" 2>&1 &
    server=$!
    trap 'kill "$server" 2>/dev/null; wait "$server" 2>/dev/null' EXIT
    if ! answers "$server"; then
        echo "The server did not start. It said:"
        cat "$home/log"
        exit 1
    fi
    "$@"
    status=$?
    if [[ $status -ne 0 ]]; then
        echo "The end of the server's log:"
        tail -n 40 "$home/log"
    fi
    exit "$status"
)

# server_config PORT DATA_DIRECTORY: the configuration of a server for tests, with SERVER_SETTINGS if there are any.
server_config() {
    cat <<CONFIG
server_name = "localhost"
listen = ["127.0.0.1:$1"]
data_dir = "$2"
registration = "open"
rate_limits = false
oauth = true
${SERVER_SETTINGS:-}
CONFIG
}

binary() {
    echo "${CARGO_TARGET_DIR:-$ROOT/target}/debug/hearth"
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# answers PID: whether the server at HEARTH_URL answers before 30 s are over or the process ends.
answers() {
    local deadline=$((SECONDS + 30))
    while kill -0 "$1" 2>/dev/null && [[ $SECONDS -lt $deadline ]]; do
        python3 -c 'import sys, urllib.request as r; r.urlopen(sys.argv[1], timeout=5)' \
            "$HEARTH_URL/_matrix/client/versions" 2>/dev/null && return
        sleep 0.1
    done
    return 1
}
