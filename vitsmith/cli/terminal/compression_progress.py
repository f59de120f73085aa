"""Shows a run of quantize, prune, merge-tokens or compress on a terminal."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from vitsmith.cli.terminal.output import progress, say

if TYPE_CHECKING:
    from vitsmith.compress.result import RunEvent


class CompressionProgress:
    """A bar for the work under way, on a terminal, and the lines of a run, everywhere."""

    def __init__(self, unit: str = "") -> None:
        self._progress = progress(unit=unit)
        self._task: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Removes the bar."""
        self._progress.stop()

    def __call__(self, event: RunEvent) -> None:
        from vitsmith.compress.result import Advance, Working

        if event.line:
            say(event.line)
        elif isinstance(event, Working):
            self._progress.start()
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task(event.what, total=event.steps, note="")
        elif isinstance(event, Advance) and self._task is not None:
            self._progress.advance(self._task, event.steps)
