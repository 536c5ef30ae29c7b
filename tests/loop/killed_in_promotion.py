"""`draftsmith promote`, killed with SIGKILL at the moment that KILL_AT names."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from draftsmith.cli import main
from draftsmith.loop import promotion
from draftsmith.serving.local import LocalServing


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(call: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: (die(), call(*arguments))


def after(call: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: (call(*arguments), die())


moment = os.environ["KILL_AT"]
if moment == "before_switch":
    LocalServing.switch = before(LocalServing.switch)  # type: ignore[method-assign]
elif moment == "after_switch":
    LocalServing.switch = after(LocalServing.switch)  # type: ignore[method-assign]
else:
    promotion.change = after(promotion.change)

main()
