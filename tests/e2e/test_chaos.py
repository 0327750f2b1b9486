"""A short storm: parts of a gateway are killed at random while clients are served.

`make chaos` runs a long one, with another seed each time.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.plan import Upstream
from tests.chaos.run import SHORT, run


@pytest.mark.parametrize("upstream", ["pandora", "openai"])
def test_in_a_storm_every_client_gets_an_answer_or_an_error_and_nothing_is_left_behind(
    directory: Path, upstream: Upstream
) -> None:
    report = run(1, SHORT, directory, upstream)
    assert not report.violations, report.shown()
    assert report.strikes
    assert report.endings["whole"]
