"""How large a batch gets, however much is said of one account."""

import pytest

from server.ingest.writer import BATCH_CHANGES
from tests.ingest.test_writer import begin


@pytest.mark.usefixtures("sqlite")
@pytest.mark.parametrize("words", [("gone", "back"), ("gone", "commit"), ("sync", "sync")])
def test_a_batch_has_few_parts_however_many_words_there_are_on_an_account(words):
    told = begin({("live", words): "ann"})
    while told.writer.changes < BATCH_CHANGES:
        for what in words:
            told.tell("ann", what)
    assert 50 < len(list(told.writer.batch.parts())) <= 102
