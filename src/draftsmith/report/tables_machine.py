"""Tables of engine and machine: what the engine said, how near the ceiling, where the time went."""

from __future__ import annotations

from draftsmith.report.cells import Cell, Table, table, word
from draftsmith.report.numbers import duration, milliseconds, percent, significant, sol_shares
from draftsmith.report.parts import ReportParts
from draftsmith.report.svg import arm_slots


def engine_facts(parts: ReportParts) -> Table | None:
    """What the engine's log said, per arm; a field in which starts of one arm differ shows all values."""
    if not parts.facts:
        return None
    by_arm: dict[str, list[object]] = {}
    for arm, fact in parts.facts:
        by_arm.setdefault(arm, []).append(fact)

    def told(name: str, field: str) -> Cell:
        values = [getattr(fact, field) for fact in by_arm[name]]
        words = sorted({word(value) for value in values})
        return Cell(" / ".join(words), tone="open" if len(words) > 1 and field != "kv_tokens" else None)

    names = list(by_arm)
    fields = (
        ("version", "version"),
        ("device", "device"),
        ("dtype", "dtype"),
        ("eager mode", "enforce_eager"),
        ("compile mode", "compile_mode"),
        ("graph mode", "graph_mode"),
        ("model runner", "runner"),
        ("max model length, tokens", "max_model_len"),
        ("max sequences", "max_num_seqs"),
        ("prefix caching", "prefix_caching"),
        ("other settings", "settings"),
        ("KV cache, tokens", "kv_tokens"),
        ("speculation method", "spec_method"),
        ("draft tokens (K)", "num_speculative_tokens"),
        ("shared weights", "sharing"),
        ("warnings", "warnings"),
    )
    rows: list[list[Cell | str]] = [["server starts", *(str(len(by_arm[name])) for name in names)]]
    rows += [[label, *(told(name, field) for name in names)] for label, field in fields]
    rows = [row for row in rows if any((c.text if isinstance(c, Cell) else c) != "not said" for c in row[1:])]
    return table(("", *names), rows)


def gpu_counters(parts: ReportParts) -> Table | None:
    """How busy the GPU's memory and tensor cores were, by its own counters; None where none were kept."""
    if parts.counters is None:
        return None
    slots = arm_slots(parts.arms)
    rows = [
        (
            Cell(row.arm, arm=slots.get(row.arm)),
            row.point,
            percent(row.dram_active),
            percent(row.tensor_active),
            percent(row.sm_active),
            percent(row.sm_occupancy),
            Cell(f"{row.samples}", detail=f"{row.trials} of {row.of} trials"),
        )
        for row in parts.counters.rows
    ]
    return table(
        ("arm", "point", "DRAM active", "tensor active", "SM active", "occupancy", "readings"), rows, range(2, 7)
    )


def speed_of_light(parts: ReportParts) -> Table | None:
    """How close each arm is to the memory-traffic floor of TPOT."""
    slots = arm_slots(parts.arms)
    rows = [
        (
            Cell(s.arm, arm=slots.get(s.arm)),
            s.point,
            significant(s.bytes_per_step / 1e6),
            f"{s.tokens_per_step:.2f}",
            milliseconds(s.floor_s),
            milliseconds(s.measured_s),
            Cell(f"{100 * s.share:.1f} %", share=min(1.0, s.share), tone="loss" if s.share > 1 else None),
        )
        for s in sol_shares(parts)
    ]
    head = (
        "arm",
        "point",
        "read per step, MB",
        "tokens / step",
        "floor of TPOT, ms",
        "measured, ms",
        "share of ceiling",
    )
    return table(head, rows, (2, 3, 4, 5))


def timings(parts: ReportParts) -> Table | None:
    """Where the wall time went."""
    total = sum(t.wall_s for t in parts.timings)
    if not total:
        return None
    rows: list[tuple[Cell | str, ...]] = [
        (t.phase, duration(t.wall_s), Cell(percent(t.wall_s / total, 2), share=t.wall_s / total), t.note)
        for t in parts.timings
    ]
    rows.append(("all phases", duration(total), Cell("100 %", share=None), ""))
    return table(("phase", "wall time", "share of the run", "note"), rows, (1,))
