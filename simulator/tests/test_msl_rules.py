"""The shader compiler agrees with Apple's, rule by rule."""

from __future__ import annotations

import re
from pathlib import Path

import msl_rules
import pytest

from mps_simulator._C import check_shader

SETTLED = [rule for rule in msl_rules.RULES if rule.settled]


@pytest.mark.parametrize("rule", SETTLED, ids=lambda rule: rule.id)
def test_rule(rule):
    for source, version, accepted in rule.cases():
        said = check_shader(source, version)
        if accepted:
            assert not said, f"refused in version {version}:\n{source}{said}"
            continue
        assert re.search(r"^program_source:\d+:\d+: error: ", said), f"accepted in version {version}:\n{source}{said}"
        assert rule.words in said, said


def test_the_documented_counts():
    documented = (Path(__file__).parents[1] / "docs" / "language.md").read_text()
    assert f"| agrees | {len(SETTLED)} |" in documented
    assert f"| not settled | {len(msl_rules.RULES) - len(SETTLED)} |" in documented


def test_every_rule_is_there_once():
    assert len({rule.id for rule in msl_rules.RULES}) == len(msl_rules.RULES)
    assert all(rule.refused or rule.accepted for rule in msl_rules.RULES)
