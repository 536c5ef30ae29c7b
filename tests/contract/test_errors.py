"""Errors are printed and logged, and logs go into the evidence."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from draftsmith.contract.access import AccessRecord


def test_a_record_that_does_not_fit_is_refused_without_its_text() -> None:
    with pytest.raises(ValidationError, match="messages") as error:
        AccessRecord.model_validate({"id": "r", "messages": "my secret prompt", "completion": ["my secret answer"]})
    assert "secret" not in str(error.value)
