"""Ten questions that operators ask of their lake, ready to run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """A question in words and in SQL, over the tables campaigns, arms and pairs."""

    words: str
    sql: str


QUESTIONS = {
    "latest": Question(
        "the newest campaign of each family",
        """SELECT family, campaign, date, outcome, tier, speedup, speedup_low, speedup_high FROM campaigns
        QUALIFY row_number() OVER (PARTITION BY family ORDER BY measured_unix_s DESC, campaign DESC, manifest_sha256) = 1
        ORDER BY family""",
    ),
    "decay": Question(
        "which drafts decay: acceptance length in their first and their last campaign, worst first",
        """SELECT a.family, a.draft_sha256, count(DISTINCT a.manifest_sha256) AS campaigns,
        arg_min(a.acceptance_length, c.measured_unix_s) AS first_al,
        arg_max(a.acceptance_length, c.measured_unix_s) AS last_al, last_al - first_al AS change
        FROM arms a JOIN campaigns c USING (manifest_sha256)
        WHERE a.draft_sha256 IS NOT NULL AND a.acceptance_length IS NOT NULL AND a.point = c.primary_point
        GROUP BY ALL HAVING campaigns > 1 ORDER BY change, a.family, a.draft_sha256""",
    ),
    "gain-by-engine": Question(
        "the gain by version of the engine, at tier verdict only",
        """SELECT engine, engine_version, method, count(*) AS campaigns, median(speedup) AS median_speedup,
        min(speedup_low) AS lowest_low FROM campaigns WHERE tier = 'verdict' AND speedup IS NOT NULL
        GROUP BY ALL ORDER BY engine, engine_version, method""",
    ),
    "cost": Question(
        "server hours for a million output tokens, by month, family and arm, at the primary point",
        """SELECT a.date[:7] AS month, a.family, a.arm, c.primary_point AS point, a.concurrency,
        median(1e6 / a.throughput_tok_s / 3600) AS server_hours_per_million_tokens, count(*) AS campaigns
        FROM arms a JOIN campaigns c USING (manifest_sha256)
        WHERE a.point = c.primary_point AND a.throughput_tok_s > 0 GROUP BY ALL ORDER BY ALL""",
    ),
    "outcomes": Question(
        "how campaigns end, by month and tier",
        "SELECT date[:7] AS month, outcome, tier, count(*) AS campaigns FROM campaigns GROUP BY ALL ORDER BY ALL",
    ),
    "losses": Question(
        "what lost, and why",
        """SELECT date, family, campaign, candidate, method, k, speedup, reason FROM campaigns
        WHERE outcome = 'LOSS' ORDER BY measured_unix_s DESC, campaign, manifest_sha256""",
    ),
    "guards": Question(
        "which guards stop candidates, and by how much",
        """SELECT g.name AS guard, count(*) AS pairs, count(*) FILTER (NOT g.passed) AS failed,
        count(*) FILTER (g.passed IS NULL) AS could_not_look FROM (SELECT unnest(guards) AS g FROM pairs)
        GROUP BY ALL ORDER BY failed DESC, guard""",
    ),
    "positions": Question(
        "acceptance by position, by method and number of tokens",
        """SELECT family, method, k, position, median(share) AS accepted, count(*) AS arms FROM (
        SELECT family, method, k, unnest(acceptance_by_position) AS share,
        generate_subscripts(acceptance_by_position, 1) AS position FROM arms) GROUP BY ALL ORDER BY ALL""",
    ),
    "noise": Question(
        "the difference that equal servers show, by hardware",
        """SELECT hardware, count(aa_floor) AS campaigns, median(aa_floor) AS median_floor, max(aa_floor) AS largest_floor
        FROM campaigns GROUP BY ALL ORDER BY median_floor DESC, hardware""",
    ),
    "load": Question(
        "the gain by concurrency: where speculation stops paying",
        """SELECT p.family, c.method, p.concurrency, count(*) AS pairs, median(p.speedup) AS median_speedup,
        count(*) FILTER (p.outcome = 'WIN') AS wins FROM pairs p JOIN campaigns c USING (manifest_sha256)
        WHERE p.speedup IS NOT NULL GROUP BY ALL ORDER BY ALL""",
    ),
}
