"""The first edition of the gate, frozen: plans of `draftsmith_comparison_v1` are decided by it, bit for bit as they were."""
