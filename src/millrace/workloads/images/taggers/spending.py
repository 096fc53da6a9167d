"""Keeps account of what a tagger costs in a day, for all worker processes of a machine."""

from __future__ import annotations

import fcntl
import json
import os
from datetime import UTC, datetime
from pathlib import Path

from millrace.workloads.images.settings import VisionSettings
from millrace.workloads.images.taggers import TaggerFailed


class Spending:
    """Reserves the most a request can cost before it is sent, and settles afterwards what it did cost."""

    def __init__(self, path: Path, settings: VisionSettings) -> None:
        self._path = path
        self._settings = settings

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """Return what so many tokens cost, in the currency of the prices."""
        return (tokens_in * self._settings.price_input + tokens_out * self._settings.price_output) / 1e6

    def reserve(self, amount: float) -> None:
        """Count ``amount`` as spent. TaggerFailed when the day's budget does not allow it."""
        budget = self._settings.daily_budget
        if budget is None:
            return
        if not self._change(amount, budget):
            raise TaggerFailed(f"the budget of {budget:g} a day (images.vision.daily_budget) is spent")

    def settle(self, reserved: float, spent: float) -> None:
        """Replace what was reserved by what was spent."""
        if self._settings.daily_budget is not None:
            self._change(spent - reserved, None)

    def _change(self, amount: float, limit: float | None) -> bool:
        today = datetime.now(UTC).date().isoformat()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(handle, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            text = file.read()
            account = json.loads(text) if text else {}
            spent = float(account.get("spent", 0.0)) if account.get("day") == today else 0.0
            if limit is not None and spent + amount > limit:
                return False
            file.seek(0)
            file.truncate()
            json.dump({"day": today, "spent": max(0.0, spent + amount)}, file)
        return True
