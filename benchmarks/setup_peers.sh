#!/usr/bin/env bash
# Installs the peers of the speed benchmarks into benchmarks/.venvs. A second run changes nothing that is there.
#
# usage: benchmarks/setup_peers.sh [NAME ...]     names of peers or of environments; without any: all of them
#
# Everything runs on the CPU. Of torch, pip takes the build for CPUs (2.13.0+cpu) where an index offers it.
set -euo pipefail
cd "$(dirname "$0")"
VERSION_0_1_0=30f021c  # the commit; pip finds no release of it

install() { # ENVIRONMENT PIP-ARGUMENT ...
    local environment=$1
    shift
    ".venvs/$environment/bin/pip" --disable-pip-version-check install -qq "$@"
}

setup() { # ENVIRONMENT
    local environment=$1
    echo "$environment"
    rm -f ".venvs/$environment/complete"
    [[ -x .venvs/$environment/bin/pip ]] || python3 -m venv --clear ".venvs/$environment"
    case $environment in
    tensorflow)
        install tensorflow tensorflow==2.21.0 tf-keras==2.21.0 tensorflow-recommenders==0.7.7
        # --no-deps: its h5py and requests came with TensorFlow, in the versions that TensorFlow takes.
        install tensorflow --no-deps deepctr==0.9.4
        ;;
    version_0_1_0)
        local source
        source=$(mktemp -d)
        git -C .. archive "$VERSION_0_1_0" | tar -x -C "$source"
        install version_0_1_0 tensorflow==2.21.0 tf-keras==2.21.0 "$source"
        rm -r "$source"
        ;;
    keras_rs)
        install keras_rs tensorflow==2.21.0 keras==3.15.1 keras-rs==0.4.0
        ;;
    torch)
        install torch torch==2.13.0
        # What the three import, then these alone: what they would ask for besides is other versions of torch.
        install torch numpy pandas pyyaml scikit-learn h5py tqdm pyarrow polars pydantic "ray[data]==2.60.0" requests
        install torch --no-deps deepctr-torch==0.3.0 fuxictr==2.3.10 torchfm==0.7.0 fbgemm-gpu-cpu==1.8.0 \
            rtdl-num-embeddings==0.0.12
        ;;
    esac
    touch ".venvs/$environment/complete"
}

mkdir -p .venvs
echo '*' >.venvs/.gitignore
names=("$@")
if ((${#names[@]} == 0)); then names=(version_0_1_0 tensorflow keras_rs torch); fi
environments=()
for name in "${names[@]}"; do
    case $name in
    tensorflow | deepctr | tutorial | tfrs_cross) environments+=(tensorflow) ;;
    version_0_1_0) environments+=(version_0_1_0) ;;
    keras_rs) environments+=(keras_rs) ;;
    torch | deepctr_torch | fuxictr | torchfm | fbgemm | rtdl) environments+=(torch) ;;
    *)
        echo "Unknown name $name; known: version_0_1_0 deepctr tutorial tfrs_cross keras_rs deepctr_torch fuxictr torchfm fbgemm rtdl." >&2
        exit 2
        ;;
    esac
done
for environment in $(printf '%s\n' "${environments[@]}" | sort -u); do setup "$environment"; done
