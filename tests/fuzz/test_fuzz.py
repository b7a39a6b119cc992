"""Random programs: the statements hold of some hundreds here, and of as many as one likes by `python -m tests.fuzz`."""

import os

import pytest

from tests.fuzz import statements
from tests.fuzz.programs import programs

PROGRAMS = int(os.environ.get("MICROGRAD_BP_FUZZ_PROGRAMS", "250"))  # for each statement


@pytest.mark.parametrize("name", statements.STATEMENTS)
def test_a_statement_holds_of_random_programs(name):
    before = statements.checked[name]
    tried, finding = statements.search([name], programs(), seed=1, count=PROGRAMS)
    assert finding is None, finding
    assert tried >= min(PROGRAMS, 200)
    assert statements.checked[name] - before > tried / 4  # the rest is left out for a reason, and is no more
