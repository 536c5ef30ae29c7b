"""The application layer: what commands, scripts and notebooks call. Values in, frozen values out; progress through the console
protocol. It never prints, never reads a global, and imports nothing of the command line.

    arms.py          arms from the command line
    atlases.py       what the cells of a campaign say together, and the GPU's counters beside them
    baselines.py     a campaign beside an earlier one: what moved beyond noise
    nodes.py         a Slurm node taken out of service for a quiet window, and given back
    campaigns.py     arms measured at the shapes of a profile, a cell each
    canaries.py      canaries in Kubernetes: planned, up, down, swept; and the patch that a promotion would be
    findings.py      one finding about this machine
    checks.py        what this machine has and lacks, before work starts
    cluster.py       what commands say about a cluster, and what they show of it before anything is done there
    comparisons.py   `compare` without the rest of the loop, and `decide` on what it left
    child.py         a run of the controller, in a process of its own
    controllers.py   the controller as operators use it: start it, read it, send it requests
    demos.py         the demo: a target from a Python package, traffic from a generator, the loop on both
    drafts.py        a draft checked without being loaded, a bundle verified, and a recipe for training elsewhere
    fitting.py       whether a target fits the GPUs of its servers, and over how many it is split
    frontiers.py     what to try next on a workspace, kept over runs
    lake.py          the lake: bundles published to it, and questions to it
    explanations.py  a run and a decision in words, and the report of a run as far as it came
    local_jobs.py    a job on this machine, beside the command that asked for it: used by `compare` and `plan`
    machine_checks.py  what this machine has: accelerators, memory, disk, ports, and whether servers of the target fit
    places.py        where the jobs of a run go: settled once, when the run begins, and kept
    precision.py     what a server needs beside its settings to compute fast on this machine
    plan_request.py  the request of a plan: what is to be measured, and what is known beside it
    plans.py         carrying out `draftsmith plan`
    recipe_jobs.py   programs of a SpecForge recipe: one process of a training, and the probe of captured states
    recipe_run.py    templates of a SpecForge recipe: the run script and the README. @name@ is replaced
    recipe_text.py   the texts of a SpecForge recipe, from frozen values
    records.py       a log as Draftsmith reads it, record by record
    runbooks.py      the runbooks that come with Draftsmith, found by words
    runs.py          opening a run: the same request finds its run again, a new one gets a folder of its own
    service.py       runs and the standing configuration: the acts of the loop as functions of values
    service_checks.py  what a service needs of this machine beside what the loop needs
    shapes.py        a profile of bench shapes as the input of a run: prompts are made to its lengths
    shipping.py      publishing that remembers: what is in the lake, what waits, what was refused
    settings.py      the request of a command or a notebook
    traffic.py       traffic: measured, compared, replayed against a server, and stood in for by public prompts
    watching.py      reading workspaces again and again, cheaply: what a page, a scrape and a terminal ask for
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from draftsmith.api.atlases import Correlated as Correlated
    from draftsmith.api.atlases import atlas_aggregate as atlas_aggregate
    from draftsmith.api.atlases import dcgm_correlate as dcgm_correlate
    from draftsmith.api.atlases import report_render as report_render
    from draftsmith.api.baselines import BaselineDiff as BaselineDiff
    from draftsmith.api.baselines import baseline_diff as baseline_diff
    from draftsmith.api.campaigns import Campaign as Campaign
    from draftsmith.api.campaigns import CampaignRequest as CampaignRequest
    from draftsmith.api.campaigns import campaign_init as campaign_init
    from draftsmith.api.campaigns import cell_run as cell_run
    from draftsmith.api.campaigns import find_campaign as find_campaign
    from draftsmith.api.canaries import (
        canaries_up as canaries_up,
    )
    from draftsmith.api.canaries import (
        plan_canaries as plan_canaries,
    )
    from draftsmith.api.canaries import (
        promotion_patch as promotion_patch,
    )
    from draftsmith.api.canaries import (
        remove_canaries as remove_canaries,
    )
    from draftsmith.api.canaries import (
        start_canaries as start_canaries,
    )
    from draftsmith.api.canaries import (
        sweep_canaries as sweep_canaries,
    )
    from draftsmith.api.checks import check as check
    from draftsmith.api.cluster import DryRun as DryRun
    from draftsmith.api.comparisons import (
        Comparison as Comparison,
    )
    from draftsmith.api.comparisons import (
        ComparisonRequest as ComparisonRequest,
    )
    from draftsmith.api.comparisons import (
        compare as compare,
    )
    from draftsmith.api.comparisons import (
        decide as decide,
    )
    from draftsmith.api.controllers import (
        answer_proposal as answer_proposal,
    )
    from draftsmith.api.controllers import (
        control as control,
    )
    from draftsmith.api.controllers import (
        controller_log as controller_log,
    )
    from draftsmith.api.controllers import (
        controller_story as controller_story,
    )
    from draftsmith.api.controllers import (
        controller_view as controller_view,
    )
    from draftsmith.api.controllers import (
        pause_controller as pause_controller,
    )
    from draftsmith.api.controllers import (
        request_run as request_run,
    )
    from draftsmith.api.controllers import (
        resume_controller as resume_controller,
    )
    from draftsmith.api.controllers import (
        service_view as service_view,
    )
    from draftsmith.api.controllers import (
        stop_service as stop_service,
    )
    from draftsmith.api.demos import demo as demo
    from draftsmith.api.demos import demo_prompts as demo_prompts
    from draftsmith.api.demos import demo_target as demo_target
    from draftsmith.api.drafts import Converted as Converted
    from draftsmith.api.drafts import Scaffold as Scaffold
    from draftsmith.api.drafts import convert as convert
    from draftsmith.api.drafts import lint as lint
    from draftsmith.api.drafts import scaffold as scaffold
    from draftsmith.api.drafts import sign as sign
    from draftsmith.api.drafts import verify as verify
    from draftsmith.api.explanations import (
        Explanation as Explanation,
    )
    from draftsmith.api.explanations import (
        Report as Report,
    )
    from draftsmith.api.explanations import (
        explain as explain,
    )
    from draftsmith.api.explanations import (
        report as report,
    )
    from draftsmith.api.findings import Check as Check
    from draftsmith.api.frontiers import frontier as frontier
    from draftsmith.api.frontiers import refute_lever as refute_lever
    from draftsmith.api.frontiers import reopen_lever as reopen_lever
    from draftsmith.api.lake import ask_lake as ask_lake
    from draftsmith.api.lake import compact_lake as compact_lake
    from draftsmith.api.lake import ship as ship
    from draftsmith.api.lake import ship_campaign as ship_campaign
    from draftsmith.api.lake import ship_run as ship_run
    from draftsmith.api.nodes import drain_node as drain_node
    from draftsmith.api.nodes import resume_node as resume_node
    from draftsmith.api.plans import check_plan as check_plan
    from draftsmith.api.plans import plan as plan
    from draftsmith.api.plans import plan_across as plan_across
    from draftsmith.api.runbooks import Runbook as Runbook
    from draftsmith.api.runbooks import search_runbooks as search_runbooks
    from draftsmith.api.runs import RunRequest as RunRequest
    from draftsmith.api.service import (
        Stopped as Stopped,
    )
    from draftsmith.api.service import (
        find_run as find_run,
    )
    from draftsmith.api.service import (
        list_runs as list_runs,
    )
    from draftsmith.api.service import (
        open_run as open_run,
    )
    from draftsmith.api.service import (
        promote as promote,
    )
    from draftsmith.api.service import (
        rollback as rollback,
    )
    from draftsmith.api.service import (
        run as run,
    )
    from draftsmith.api.service import (
        status as status,
    )
    from draftsmith.api.service import (
        teardown as teardown,
    )
    from draftsmith.api.settings import configure as configure
    from draftsmith.api.settings import override as override
    from draftsmith.api.shipping import Shipment as Shipment
    from draftsmith.api.shipping import ship_waiting as ship_waiting
    from draftsmith.api.traffic import (
        Replayed as Replayed,
    )
    from draftsmith.api.traffic import (
        drift as drift,
    )
    from draftsmith.api.traffic import (
        mix as mix,
    )
    from draftsmith.api.traffic import (
        profile as profile,
    )
    from draftsmith.api.traffic import (
        replay as replay,
    )
    from draftsmith.api.watching import watch as watch
    from draftsmith.contract.config import Config as Config
    from draftsmith.contract.control import ControlView as ControlView
    from draftsmith.contract.errors import DraftsmithError as DraftsmithError
    from draftsmith.contract.view import RunView as RunView
    from draftsmith.contract.view import ServiceOverview as ServiceOverview
    from draftsmith.contract.view import ServiceView as ServiceView
    from draftsmith.lake.put import Shipped as Shipped
    from draftsmith.lake.query import Answer as Answer
    from draftsmith.loop.base import Console as Console

# Loaded when it is first used: importing this package costs nothing.
_PLACES = {
    "atlases": (
        "Correlated",
        "atlas_aggregate",
        "dcgm_correlate",
        "report_render",
    ),
    "baselines": (
        "BaselineDiff",
        "baseline_diff",
    ),
    "campaigns": (
        "Campaign",
        "CampaignRequest",
        "campaign_init",
        "cell_run",
        "find_campaign",
    ),
    "nodes": (
        "drain_node",
        "resume_node",
    ),
    "canaries": (
        "canaries_up",
        "plan_canaries",
        "promotion_patch",
        "remove_canaries",
        "start_canaries",
        "sweep_canaries",
    ),
    "checks": (
        "Check",
        "check",
    ),
    "cluster": ("DryRun",),
    "comparisons": (
        "Comparison",
        "ComparisonRequest",
        "compare",
        "decide",
    ),
    "controllers": (
        "answer_proposal",
        "control",
        "controller_log",
        "controller_story",
        "controller_view",
        "pause_controller",
        "request_run",
        "resume_controller",
        "service_view",
        "stop_service",
    ),
    "demos": (
        "demo",
        "demo_prompts",
        "demo_target",
    ),
    "drafts": (
        "Converted",
        "Scaffold",
        "convert",
        "lint",
        "scaffold",
        "sign",
        "verify",
    ),
    "explanations": (
        "Explanation",
        "Report",
        "explain",
        "report",
    ),
    "frontiers": (
        "frontier",
        "refute_lever",
        "reopen_lever",
    ),
    "lake": (
        "ask_lake",
        "compact_lake",
        "ship",
        "ship_campaign",
        "ship_run",
    ),
    "plans": (
        "check_plan",
        "plan",
        "plan_across",
    ),
    "runbooks": (
        "Runbook",
        "search_runbooks",
    ),
    "runs": ("RunRequest",),
    "service": (
        "Stopped",
        "find_run",
        "list_runs",
        "open_run",
        "promote",
        "rollback",
        "run",
        "status",
        "teardown",
    ),
    "settings": (
        "configure",
        "override",
    ),
    "shipping": (
        "Shipment",
        "ship_waiting",
    ),
    "traffic": (
        "Replayed",
        "drift",
        "mix",
        "profile",
        "replay",
    ),
    "watching": ("watch",),
}
_MODULES = {name: f"draftsmith.api.{module}" for module, names in _PLACES.items() for name in names} | {
    "Answer": "draftsmith.lake.query",
    "Config": "draftsmith.contract.config",
    "Console": "draftsmith.loop.base",
    "ControlView": "draftsmith.contract.control",
    "DraftsmithError": "draftsmith.contract.errors",
    "RunView": "draftsmith.contract.view",
    "ServiceOverview": "draftsmith.contract.view",
    "ServiceView": "draftsmith.contract.view",
    "Shipped": "draftsmith.lake.put",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"draftsmith.api has no {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(_MODULES)
