"""Files of positions, and how they differ from what is computed."""

import re
from decimal import Decimal

import pytest

from apps.portfolios.domain.positions import (
    Deviation,
    deviations_in,
    deviations_of,
    document_of,
    read_positions,
)
from apps.portfolios.domain.tables import FileRefused


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("symbol,quantity\nacme,10\nOTHER,0.5\n", {"ACME": 10, "OTHER": Decimal("0.5")}),
        ("Account,Ticker,Shares\nA,ACME,1\nB,ACME,2\n", {"ACME": 3}),
        ("Produto;Quantidade\nPETR4 - PETROLEO;1.000,5\nPETR4F - PETROLEO;3\n;\n", {"PETR4": Decimal("1003.5")}),
        ('Ticker Symbol,Shares\nACME,"1,000"\n', {"ACME": 1000}),
        ("asset,balance\n", {}),
    ],
)
def test_a_file_says_what_is_held(text, held):
    assert read_positions(text.encode()) == held


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"symbol,price\nACME,1\n", "The file has no columns of symbols and quantities"),
        (b"symbol,quantity\nACME,many\n", "1 rows cannot be read. row 1: quantity: many is not a number"),
        (b"PK\x03\x04broken", "The file is no spreadsheet that can be read"),
        (b"symbol,quantity\n" + b"".join(b"A%d,1\n" % one for one in range(2_001)), "more than 2000 positions"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(content, said):
    with pytest.raises(FileRefused, match=re.escape(said)):
        read_positions(content)


def test_each_asset_that_either_side_has_is_compared():
    stated, held = (
        {"A": Decimal(1), "B": Decimal(2), "X": Decimal(5)},
        {"A": Decimal("1.0"), "B": Decimal(3), "C": Decimal(4)},
    )
    found = deviations_of(stated, held, {"A": 1, "B": 2, "C": 3})
    assert found == [Deviation("B", 2, 2, 3), Deviation("C", 3, 0, 4), Deviation("X", None, 5, 0)]
    assert list(deviations_in(document_of(found))) == found
    assert found[0].text == "B: 2 by the file, 3 here"
