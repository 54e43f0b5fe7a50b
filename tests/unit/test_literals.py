"""The words of literals.py are the keys of the tables that give them their meaning."""

from typing import get_args

import pytest

from jessl_kernels import literals
from jessl_kernels.backends import BACKENDS
from jessl_kernels.functional import ids, supervised
from jessl_kernels.problem import join, phi, psi

TABLES = {
    "BACKEND_NAMES": BACKENDS,
    "JOIN_NAMES": join.JOINS,
    "PSI_NAMES": psi.PSIS,
    "SUM_NAMES": {"logsumexp", *psi.PSIS},
    "PHI_NAMES": {*phi.PHIS} - {"clamp", "student"},  # whose names alone do not say all
    "FORMS": supervised.JOIN_OF,
    "SAME_ID": {*ids.JOINS, "ignore"},
}


@pytest.mark.parametrize("name", TABLES)
def test_every_word_has_its_entry_and_every_entry_its_word(name):
    words = getattr(literals, name)
    assert len(set(words)) == len(words)
    assert set(words) == set(TABLES[name])


def test_words_for_type_checkers_are_those_of_the_checks():
    lists = {words for name, words in vars(literals).items() if name.isupper()}
    types = {get_args(t) for name, t in vars(literals).items() if name[0].isupper() and not name.isupper()}
    assert lists <= types and len(lists) > 15
