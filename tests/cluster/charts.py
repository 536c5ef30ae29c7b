"""Writes docs/charts.md: which charts as people publish them can be compared as they are, and why not.

No chart is part of this project. Give folders with clones, and the program `helm`:

    python tests/cluster/charts.py --helm HELM --production-stack FOLDER --llm-d FOLDER --kserve FOLDER > docs/charts.md
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from draftsmith.contract.errors import DraftsmithError
from draftsmith.serving.canary.text import ArmPlan, pod_of, render_arm
from draftsmith.serving.canary.weights import hub_settings
from draftsmith.serving.kubernetes.options import PresetName, ServingOptions
from draftsmith.serving.kubernetes.standing import read_standing, require_copyable

Object = dict[str, Any]
ARM = ArmPlan("ngram", {"method": "ngram", "num_speculative_tokens": 3})
VERSIONS = ("1.37", "1.36", "1.35")
NOT_ENGINES = ("router", "cache-server", "lora-controller", "epp", "gateway")
# llm-d's chart asks a library chart for one function: text as a template.
COMMON = """{{- define "common.tplvalues.render" -}}
{{- $text := typeIs "string" .value | ternary .value (.value | toYaml) -}}
{{- if contains "{{" (toJson .value) }}{{ tpl $text .context }}{{ else }}{{ $text }}{{ end -}}
{{- end -}}
"""


@dataclass(frozen=True)
class Row:
    """One served object of one file. `why` empty = it can be compared; `option`: the setting with which it can."""

    source: str
    file: str
    name: str
    what: str = ""
    why: str = ""
    option: str = ""


def copy_chart(chart: Path, folder: Path) -> Path:
    """The chart without the charts that it depends on: none of them makes what serves."""
    place = folder / "chart"
    shutil.copytree(chart, place, ignore=shutil.ignore_patterns("tests", "charts", "Chart.lock"))
    head = yaml.safe_load((place / "Chart.yaml").read_text())
    head.pop("dependencies", None)
    (place / "Chart.yaml").write_text(yaml.safe_dump(head))
    (place / "templates" / "_common.tpl").write_text(COMMON)
    return place


def rendered(helm: str, chart: Path, values: Path) -> Iterator[Object]:
    """Objects of a release. Raises ValueError with what helm says."""
    words = [helm, "template", "ms", str(chart), "-f", str(values), "--skip-schema-validation"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise ValueError(done.stderr.strip().splitlines()[-1][:200])
    for item in yaml.safe_load_all(done.stdout):
        if item:
            item["metadata"].setdefault("namespace", "serve")
            yield item


def judged(source: str, file: str, item: Object, preset: PresetName, **changes: Any) -> Row:
    """What a comparison would make of a served object."""
    row = Row(source, file, str(item["metadata"]["name"]))
    options = ServingOptions.model_validate({"namespace": "serve", "preset": preset} | changes)
    try:
        standing = read_standing(item, options)
        if preset != "kserve":
            require_copyable(standing, options)
            made = render_arm(standing, ARM, options, "charts", None, 0.0, "w")
            for version in VERSIONS:
                for each in (made.workload, pod_of(made), made.service):
                    kubernetes_validate.validate(each, version, strict=True)
    except DraftsmithError as error:
        if not changes and preset != "kserve":
            with_drop = judged(source, file, item, preset, drop_flags=["--kv-transfer-config"])
            if not with_drop.why:
                option = "`drop_flags = ['--kv-transfer-config']`"
                return Row(source, file, row.name, with_drop.what, error.message, option)
        return Row(source, file, row.name, why=error.message)
    resource, amount = standing.accelerator(options.gpu_resource)
    gpus = "claimed devices" if standing.claims_devices else f"{amount} {resource}" if amount else "no GPU"
    place = "a folder or a cache on a volume" if hub_settings(standing) else "the Hub, at every start"
    what = f"{gpus}; {standing.command.model or 'its model'} from {place}"
    return Row(source, file, row.name, what)


def of_chart(helm: str, source: str, chart: Path, files: list[Path], preset: PresetName) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        place = copy_chart(chart, Path(folder))
        for values in files:
            try:
                items = list(rendered(helm, place, values))
            except ValueError as error:
                yield Row(source, values.name, "", why=f"helm: {error}")
                continue
            served = [i for i in items if i["kind"] in ("Deployment", "LeaderWorkerSet", "RayCluster", "ReplicaSet")]
            for item in served:
                name = str(item["metadata"]["name"])
                if any(word in name for word in NOT_ENGINES):
                    continue
                if item["kind"] != "Deployment":
                    yield Row(
                        source,
                        values.name,
                        name,
                        why=f"a {item['kind']}: one server spans several pods, or another program starts it",
                    )
                    continue
                yield judged(source, values.name, item, preset)


def of_kserve(folder: Path) -> Iterator[Row]:
    for path in sorted(folder.glob("docs/samples/**/*.yaml")):
        try:
            items = [item for item in yaml.safe_load_all(path.read_text()) if isinstance(item, dict)]
        except yaml.YAMLError:
            continue
        for item in items:
            model = ((item.get("spec") or {}).get("predictor") or {}).get("model") or {}
            kind = str((model.get("modelFormat") or {}).get("name", ""))
            if item.get("kind") == "InferenceService" and kind in ("huggingface", "vllm"):
                item["metadata"].setdefault("name", "unnamed")
                row = judged("KServe", str(path.relative_to(folder / "docs/samples")), item, "kserve")
                yield Row(row.source, row.file, row.name, row.what and f"promotion: {row.what}", row.why)


def page(rows: list[Row], sources: list[str]) -> str:
    files = {(row.source, row.file) for row in rows if row.source != "KServe"}
    good = {(row.source, row.file) for row in rows if row.source != "KServe" and not row.why}
    more = {(row.source, row.file) for row in rows if row.source != "KServe" and row.why and row.option} - good
    lines = [
        "# Published charts, and what a comparison makes of them",
        "",
        "Written by `tests/cluster/charts.py` from charts as their authors publish them; none of them is part of this project. A row goes",
        "through if the served container is understood, one pod is a fair copy of it, and the Job, the Pod and the Service of an arm are valid",
        f"under the schemas of Kubernetes {', '.join(VERSIONS)}. Whether a node is idle, and whether an image can be pulled, only a cluster tells.",
        "",
        f"Of {len(files)} example files {len(good)} can be compared as they are, {len(more)} more with one option.",
        "",
        *(f"- {source}" for source in sources),
        "",
        "| chart | file | object | compared as it is | what is copied, or why not |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        verdict = "yes" if not row.why else f"with {row.option}" if row.option else "no"
        told = (row.why or row.what).replace("|", "\\|").replace(f"{row.name} cannot be copied for a comparison: ", "")
        lines.append(f"| {row.source} | `{row.file}` | `{row.name}` | {verdict} | {told} |")
    return "\n".join(lines) + "\n"


def source(name: str, folder: Path) -> str:
    """A clone, and its commit where the folder tells."""
    words = ["git", "-C", str(folder), "log", "-1", "--format=%h of %cs"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return f"{name}{f', {done.stdout.strip()}' if not done.returncode else ''}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--helm", "--production-stack", "--llm-d", "--kserve"):
        parser.add_argument(name, required=True)
    given = parser.parse_args()
    stack, llmd, kserve = Path(given.production_stack), Path(given.llm_d), Path(given.kserve)
    files = [*sorted((stack / "tutorials/assets").glob("values-*.yaml")), stack / "helm/values-example.yaml"]
    rows = list(of_chart(given.helm, "production-stack", stack / "helm", files, "production-stack"))
    rows += of_chart(
        given.helm,
        "llm-d",
        llmd / "charts/llm-d-modelservice",
        sorted((llmd / "examples").glob("values*.yaml")),
        "llm-d",
    )
    rows += of_kserve(kserve)
    told = [
        source("vllm-project/production-stack", stack),
        source("llm-d-incubation/llm-d-modelservice", llmd),
        source("kserve/kserve", kserve),
    ]
    sys.stdout.write(page(rows, told))


if __name__ == "__main__":
    main()
