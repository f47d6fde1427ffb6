"""What is told of adding images: a line for each, a summary of a walk, or one JSON document."""

from __future__ import annotations

import collections
import os
import sys
from typing import TYPE_CHECKING, Any

from .exit_codes import code_of, message_of
from .images import all_warnings, damage_of, fs_of
from .settings import complain, notify, settings

if TYPE_CHECKING:
    from ..catalog.adding.batch import Result
    from ..catalog.adding.outcome import Ingested
    from ..catalog.store import Catalog

_ORDER = ("added", "updated", "moved", "unchanged")


class Report:
    """Tells of each result as it comes, and of all at the end.

    Args:
        catalog: what was added to.
        is_walk: directories are searched: then what was told before is not told again.
        tells_again: tell of what was refused before, too.
        verify: look at the checksums of what was added.
        index: write every file of what was added, and of what is in it, into the catalog.
        as_json: write one document at the end, and nothing before.

    Attributes:
        code: the exit code that the worst of all calls for.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        is_walk: bool,
        tells_again: bool,
        verify: bool,
        as_json: bool,
        index: bool = False,
    ) -> None:
        from ..catalog.adding.refused import RefusedFiles

        self.code = 0
        self._catalog = catalog
        self._is_walk = is_walk
        self._tells_again = tells_again
        self._verify = verify
        self._as_json = as_json
        self._index = index
        self._refused = RefusedFiles(catalog) if is_walk else None
        self._counts: collections.Counter[str] = collections.Counter()
        self._images: list[dict[str, Any]] = []
        self._not_added: list[dict[str, Any]] = []
        self._passed_over: list[dict[str, str]] = []

    def pass_over(self, path: str, why: str) -> None:
        """Take note of a file that is no image."""
        self._passed_over.append({"path": path, "reason": why})
        if settings.verbose and not self._as_json:
            complain(f"{path}: passed over: {why}")

    def was_refused(self, path: str) -> bool:
        """Tell whether a file was refused before, and need not be tried again."""
        if self._refused is None or self._tells_again:
            return False
        refusal = self._refused.known(path)
        if refusal is None:
            return False
        self._note_refused(path, *refusal, is_news=False)
        return True

    def fail(self, error: OSError) -> None:
        """Take note of a file or directory that cannot be read."""
        path = os.fsdecode(error.filename or "")
        self.refuse(path, code_of(error), error.strerror or str(error))

    def refuse(self, path: str, code: int, reason: str) -> None:
        """Take note of what is not added."""
        from ..catalog.adding.refused import Refusal

        is_news = self._refused is None or self._refused.note(path, Refusal(code, reason))
        self._note_refused(path, code, reason, is_news=is_news)

    def take(self, result: Result) -> None:
        """Tell what came of one path."""
        if result.ingested is None:
            assert result.error is not None
            reason = message_of(result.error)
            for path in (os.path.abspath(result.path), result.path):
                reason = reason.removeprefix(f"{path}: ")
            self.refuse(result.path, code_of(result.error), reason)
            return
        if self._refused is not None:
            self._refused.forget(result.path)
        ingested = result.ingested
        self._counts[ingested.outcome.value] += 1
        if not self._as_json:
            _write_line(ingested)
        warnings = all_warnings(self._catalog, ingested.record)
        for warning in () if self._as_json else warnings:
            notify(f"{result.path}: {warning}")
        code = self._damage(ingested)
        found = _fields(result.path, ingested) | {"warnings": warnings}
        if self._verify:
            verify_code, found["verified"] = self._verified(ingested)
            code = max(code, verify_code)
        self.code = max(self.code, code)
        self._images.append(found)

    def finish(self) -> None:
        """Remember what was refused, and tell of all together."""
        if self._refused is not None:
            self._refused.save()
        if self._index:
            from .index import index_below

            code, told = index_below(
                self._catalog,
                [each["id"] for each in self._images],
                as_json=self._as_json,
                known={each["id"] for each in self._images if self._is_old(each["outcome"])},
            )
            self.code = max(self.code, code)
            for each in self._images:
                each["indexed"] = [one for one in told if one["of"] == each["id"]]
        if self._as_json:
            from .render import write_json

            write_json(
                {
                    "images": self._images,
                    "refused": self._not_added,
                    "passed_over": self._passed_over,
                    "summary": self._summary(),
                    "exit_code": self.code,
                }
            )
        elif self._is_walk and not settings.quiet:
            self._write_summary()

    def _note_refused(self, path: str, code: int, reason: str, *, is_news: bool) -> None:
        tells = is_news or self._tells_again
        self._not_added.append({"path": path, "code": code, "reason": reason, "is_news": is_news})
        if tells:
            self.code = max(self.code, code)
        if (tells or settings.verbose) and not self._as_json:
            complain(f"{path}: {reason}" if tells else f"{path}: as before: {reason}")

    def _damage(self, ingested: Ingested) -> int:
        """Tell what is wrong with an image; of a walk, only where that is news."""
        row = ingested.record.row
        if row.status_detail is None:
            return 0
        self._counts["damaged"] += 1
        if self._is_old(ingested.outcome.value):
            return 0
        return damage_of(ingested, silent=self._as_json)

    def _is_old(self, outcome: str) -> bool:
        """Tell whether what is wrong with an image was told before, as of a walk."""
        return self._is_walk and outcome == "unchanged" and not self._tells_again

    def _verified(self, ingested: Ingested) -> tuple[int, dict[str, Any] | None]:
        """Verify what was added, unless its scan has told all."""
        from ..catalog.upkeep.verify import record_right
        from .verify import print_report, report_fields, verify_one

        if ingested.record.is_composed:
            # It has no bytes of its own: they are those of other images.
            return 0, None
        if ingested.is_right:
            right = record_right(self._catalog, ingested.record)
            return print_report(right, silent=self._as_json), report_fields(right)
        return verify_one(self._catalog, ingested.record.row.id, silent=self._as_json)

    def _summary(self) -> dict[str, int]:
        return {
            "images": sum(self._counts[each] for each in _ORDER),
            **{each: self._counts[each] for each in _ORDER},
            "damaged": self._counts["damaged"],
            "refused": len(self._not_added),
            "refused_news": sum(each["is_news"] for each in self._not_added),
            "passed_over": len(self._passed_over),
        }

    def _write_summary(self) -> None:
        found = self._summary()
        images = "1 image" if found["images"] == 1 else f"{found['images']} images"
        parts = [f"{found[each]} {'new' if each == 'added' else each}" for each in _ORDER
                 if found[each]]  # fmt: skip
        parts += [f"{found['damaged']} damaged"] if found["damaged"] else []
        line = f"{images}: {', '.join(parts)}" if parts else images
        if found["refused"]:
            as_before = found["refused"] - found["refused_news"]
            line += f"; {found['refused']} refused"
            line += f", {as_before} of them as before" if as_before else ""
        if found["passed_over"]:
            files = "file" if found["passed_over"] == 1 else "files"
            line += f"; {found['passed_over']} other {files} passed over"
        sys.stdout.write(f"{line}\n")


def _write_line(ingested: Ingested) -> None:
    from ..formats.text import printable
    from .render import human_size

    if settings.quiet:
        return
    row = ingested.record.row
    size, used = human_size(row.size_bytes), human_size(row.used_bytes)
    sys.stdout.write(
        f"{ingested.outcome.value:<9} {printable(row.name)}: "
        f"{row.format} {printable(fs_of(row))}, {size}, {used} used\n"
    )
    # Whoever reads this from a pipe shall see it when it is done, not at the end.
    sys.stdout.flush()


def _fields(path: str, ingested: Ingested) -> dict[str, Any]:
    row = ingested.record.row
    return {
        "path": path,
        "outcome": ingested.outcome.value,
        "id": row.id,
        "name": row.name,
        "format": row.format,
        "fs_type": row.fs_type,
        "size_bytes": row.size_bytes,
        "used_bytes": row.used_bytes,
        "status": row.status,
        "status_detail": row.status_detail,
    }
