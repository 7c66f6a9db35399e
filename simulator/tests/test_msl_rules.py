"""The shader compiler agrees with Apple's, rule by rule."""

from __future__ import annotations

import re

import msl_rules
import pytest

from mps_simulator._C import check_shader

# Rules that are not enforced yet.
NOT_YET = set(
    "tg08 ks05 ks06 ks13 ks14 ks15 ks16 ks23 ks26 ks31 ks32 la11 la33 s03 s05 "
    "as01 as02 as03 as04 as05 as07 as08 as10 as11 as34 as35 as36 as42 as45 bi01 bi21 bi22 cv35 cv45 cv47 cv49 ks09 ks12 ks18 ks19 ks24"
    " ks25 ks29 la02 la18 la29 la30 la32 s07 s10 s12 s15 s16 s30 s31 s33 s35 s39 s60 tg04 tg05 tg06 tg07".split()
)
SETTLED = [rule for rule in msl_rules.RULES if rule.settled]


@pytest.mark.parametrize("rule", SETTLED, ids=lambda rule: rule.id)
def test_rule(rule, request):
    if rule.id in NOT_YET:
        request.applymarker(pytest.mark.xfail(strict=True))
    for source, version, accepted in rule.cases():
        said = check_shader(source, version)
        if accepted:
            assert not said, f"refused in version {version}:\n{source}{said}"
            continue
        assert re.search(r"^program_source:\d+:\d+: error: ", said), f"accepted in version {version}:\n{source}{said}"
        assert rule.words in said, said


def test_every_rule_is_there_once():
    assert len({rule.id for rule in msl_rules.RULES}) == len(msl_rules.RULES)
    assert all(rule.refused or rule.accepted for rule in msl_rules.RULES)
