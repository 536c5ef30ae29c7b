"""Errors are printed and logged, and logs go into the evidence."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from draftsmith.contract.access import AccessRecord
from draftsmith.contract.errors import InputError


def test_a_record_that_does_not_fit_is_refused_without_its_text() -> None:
    with pytest.raises(ValidationError, match="messages") as error:
        AccessRecord.model_validate({"id": "r", "messages": "my secret prompt", "completion": ["my secret answer"]})
    assert "secret" not in str(error.value)


def test_an_error_names_no_password_of_an_address() -> None:
    error = InputError("http://me:hunter2@host:9/v1 does not answer", "look at redis://:hunter2@host")
    assert "hunter2" not in f"{error} {error.message} {error.next_step}"
    assert error.message == "http://***@host:9/v1 does not answer"
    assert InputError("mail me@x.org about http://h/a@b").message == "mail me@x.org about http://h/a@b"
