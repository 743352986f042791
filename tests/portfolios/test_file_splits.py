"""Splits of files of B3, whose ratio follows from what is held and counts once it is confirmed."""

from io import StringIO

import pytest
from django.core.management import call_command
from django.db import transaction
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from apps.portfolios.domain.files import read_activities
from apps.portfolios.file_splits import confirm_splits
from apps.portfolios.importing import ImportRefused, import_activities
from apps.portfolios.models import Position, Transaction
from apps.portfolios.services import record_transactions
from tests.builders import make_owner
from tests.portfolios.rows import NOW, bought, columns, make_asset, make_portfolio, record, sold, split_of

HEADER = "Entrada/Saída,Data,Movimentação,Produto,Instituição,Quantidade,Preço unitário,Valor da Operação"
SPLIT = "Credito,02/05/2024,Desdobro,ACME - Acme,XP,100,-,-"
PAID = "Credito,15/04/2024,Dividendo,ACME - Acme,XP,{},1,{}"

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada():
    return make_owner()


def read(*rows):
    return read_activities("\n".join([HEADER, *rows]).encode())


def held(portfolio, quantity="100"):
    record(portfolio, bought(make_asset(), quantity=quantity))


def found(portfolio, *rows, confirmed=(), assets=None):
    """Return the offers of a file, each as its key, and why splits are left out, by row."""
    file = read(*rows)
    if assets is None:
        assets = {one.asset.symbol: one.asset for one in portfolio.transactions.all()}
    given = {"portfolios": dict.fromkeys(file.accounts(), portfolio), "assets": assets, "now": NOW}
    with transaction.atomic():
        after, offers = confirm_splits(file, **given, confirmed=confirmed)
    return [one.key for one in offers], {one.row: one.message for one in after.left_out}


def imported(portfolio, *rows, confirmed=()):
    return import_activities(portfolio=portfolio, read=read(*rows), confirmed=confirmed, now=NOW)[0].added


def splits():
    return list(Transaction.objects.filter(event="split").values_list("day", "numerator", "denominator"))


def test_a_split_is_offered_and_recorded_once_it_is_confirmed(savings):
    held(savings)

    keys, why = found(savings, SPLIT)
    assert keys == ["1:2:1"]
    said = "Desdobro of ACME on 2024-05-02: 100 became 200, a split of 2 for 1"
    assert why == {1: f"Desdobro: nobody has confirmed it (1:2:1). {said}."}
    assert (imported(savings, SPLIT), splits()) == (0, [])

    assert imported(savings, SPLIT, confirmed=keys) == 1
    row = Transaction.objects.get(event="split")
    assert (str(row.day), row.numerator, row.denominator, row.notes) == ("2024-05-02", 2, 1, "Desdobro")
    assert Position.objects.get().quantity == 200
    # The same file again adds nothing.
    assert (imported(savings, SPLIT, confirmed=keys), len(splits())) == (0, 1)
    assert found(savings, SPLIT) == ([], {1: "Desdobro: a split of it on 2024-05-02 is there already, and counts."})


def test_what_is_held_is_of_the_rows_of_the_file_too_and_of_the_day_before(savings):
    held(savings, "60")
    rows = [
        "Credito,20/04/2024,Bonificação em Ativos,ACME - Acme,XP,40,1,40",
        SPLIT,
        "Credito,02/05/2024,Bonificação em Ativos,ACME - Acme,XP,5,1,5",
        "Credito,10/05/2024,Bonificação em Ativos,ACME - Acme,XP,5,1,5",
    ]
    assert found(savings, *rows)[0] == ["2:2:1"]
    assert imported(savings, *reversed(rows), confirmed=["3:2:1"]) == 7
    assert Position.objects.get().quantity == 210


def test_what_is_sold_after_a_split_is_imported_with_it(savings):
    held(savings)
    sale = "Credito,03/06/2024,Leilão de Fração,ACME - Acme,XP,150,1,150"
    with pytest.raises(ImportRefused, match="1 rows"):
        imported(savings, SPLIT, sale)
    assert imported(savings, SPLIT, sale, confirmed=["1:2:1"]) == 2
    assert Position.objects.get().quantity == 50


def test_a_reverse_split_is_read_as_what_is_left_and_as_what_went(savings):
    held(savings)
    went, left = (f"{kind},02/05/2024,Grupamento,ACME - Acme,XP,{{}},-,-" for kind in ("Debito", "Credito"))
    assert found(savings, went.format(90))[0] == found(savings, left.format(10))[0] == ["1:1:10"]
    both = (
        "90 went and 10 were left where 100 were held before 2024-05-02, which is not 1 for a whole number up to 100."
    )
    keys, why = found(savings, went.format(90), left.format(10))
    assert (keys, [both in text for text in why.values()]) == ([], [True, True])


def test_rows_of_two_institutions_are_one_split(savings):
    held(savings, "150")
    other = SPLIT.replace("XP,100", "CLEAR,50")
    assert found(savings, SPLIT, other)[0] == ["1:2:1"]
    assert found(savings, SPLIT)[0] == []
    assert imported(savings, SPLIT, other, confirmed=["1:2:1"]) == 1
    assert Position.objects.get().quantity == 300


def test_two_splits_are_confirmed_one_after_the_other(savings):
    held(savings, "50")
    first = SPLIT.replace("100", "50").replace("02/05", "02/02")
    keys, why = found(savings, SPLIT, first)
    assert keys == ["2:2:1"]
    assert why[1] == "Desdobro: no ratio follows before the earlier split of it is confirmed, or recorded by hand."
    assert found(savings, SPLIT, first, confirmed=keys)[0] == ["2:2:1", "1:2:1"]
    # Without the first one, the ratio of the second would be 3 for 1.
    assert (imported(savings, SPLIT, first, confirmed=["1:3:1", "1:2:1"]), splits()) == (0, [])
    assert imported(savings, SPLIT, first, confirmed=["1:2:1", "2:2:1"]) == 2
    assert Position.objects.get().quantity == 200


# A past that lacks trades


def test_a_past_that_gives_no_whole_number_is_refused(savings):
    """100 were held, and 60 of them are recorded."""
    held(savings, "60")
    keys, why = found(savings, SPLIT, confirmed=["1:8:3"])
    assert keys == []
    begin = "Desdobro: 100 came where 60 were held before 2024-05-02, which is not a whole number for 1 up to 100."
    assert why == {1: f"{begin} {FIRST}"}


FIRST = "Import the trades that are missing first; or record it by hand, with the ratio that was announced."


def test_a_past_that_gives_another_whole_number_is_refused_where_the_file_contradicts_it(savings):
    """200 were held, and 100 of them are recorded: 200 that came look like 3 for 1."""
    held(savings)
    split = SPLIT.replace("100", "200")
    keys, why = found(savings, PAID.format(200, 200), split, confirmed=["2:3:1"])
    assert keys == []
    said = "trades are missing: Dividendo of 2024-04-15 was paid on 200, and 100 at most were held until then."
    assert why == {2: f"Desdobro: {said} {FIRST}"}
    # Of all that is held, it does not contradict 2 for 1.
    held_too = bought(Transaction.objects.first().asset, "2024-01-03", "100")
    record(savings, held_too)
    assert found(savings, PAID.format(200, 200), split)[0] == ["2:2:1"]


def test_income_that_was_paid_after_a_sale_contradicts_nothing(savings):
    held(savings, "300")
    record(savings, sold(Transaction.objects.get().asset, "2024-04-01", "200"))
    assert found(savings, PAID.format(300, 300), SPLIT)[0] == ["2:2:1"]
    # What is paid after the split says nothing of what was held before it.
    later = PAID.format(999, 999).replace("15/04", "15/06")
    assert found(savings, later, SPLIT)[0] == ["2:2:1"]


def test_a_past_that_nothing_contradicts_is_recorded_by_nobody_but_its_owner(savings):
    """100 of 200 are recorded, and no row says so. The sentence has what is held, for the owner to see."""
    held(savings)
    split = SPLIT.replace("100", "200")
    keys, why = found(savings, split)
    assert (keys, "100 became 300, a split of 3 for 1" in why[1]) == (["1:3:1"], True)
    assert (imported(savings, split), splits()) == (0, [])


def test_a_ratio_that_has_changed_since_it_was_confirmed_is_not_recorded(savings):
    held(savings)
    split = SPLIT.replace("100", "200")
    keys, _ = found(savings, split)
    record(savings, bought(Transaction.objects.get().asset, "2024-01-03", "100"))
    assert (imported(savings, split, confirmed=keys), splits()) == (0, [])
    assert found(savings, split)[0] == ["1:2:1"]


def test_what_is_not_held_and_what_is_no_asset_is_refused(savings):
    acme = make_asset()
    _, why = found(savings, SPLIT, assets={"ACME": acme})
    assert why == {1: f"Desdobro: none of it is held before 2024-05-02. {FIRST}"}
    _, why = found(savings, SPLIT, assets={})
    assert why[1].startswith("Desdobro: there is no asset ACME; choose one for it")


@pytest.mark.parametrize("by", ["feed", "hand"])
@pytest.mark.parametrize(("day", "is_there"), [("2024-04-22", True), ("2024-05-12", True), ("2024-04-21", False)])
def test_a_split_that_is_there_already_is_not_recorded_twice(savings, by, day, is_there):
    """The shares are credited some days after the price has changed."""
    held(savings)
    acme = Transaction.objects.get().asset
    if by == "feed":
        split_of(acme, day)
    else:
        record(savings, columns(day, "event", asset=acme, event="split", numerator=2, denominator=1))
    keys, why = found(savings, SPLIT if is_there else SPLIT.replace("100", "200"), confirmed=["1:2:1"])
    if is_there:
        assert (keys, why) == ([], {1: f"Desdobro: a split of it on {day} is there already, and counts."})
    else:
        # Another one, of what is held after the first.
        assert keys == ["1:2:1"]


def test_a_portfolio_that_is_left_out_and_a_wrong_row_beside_change_nothing(ada, savings):
    held(savings)
    other = make_portfolio(ada, "Other")
    file = read(SPLIT, SPLIT.replace("XP", "CLEAR"), "Credito,20/04/2999,Dividendo,ACME - Acme,XP,1,1,1")
    acme = Transaction.objects.get().asset
    with transaction.atomic():
        after, offers = confirm_splits(
            file, portfolios={"XP": savings}, assets={"ACME": acme}, confirmed=["1:2:1"], now=NOW
        )
    assert [(one.portfolio, one.rows, one.is_confirmed) for one in offers] == [(savings, [1], True)]
    assert [one.columns["kind"] for one in after.rows] == ["dividend", "event"]
    assert not other.transactions.exists()


def test_the_command_says_how_a_split_is_confirmed(tmp_path, savings):
    held(savings)
    file = tmp_path / "b3.csv"
    file.write_text("\n".join([HEADER, SPLIT]))

    def run(**options):
        said = StringIO()
        call_command("import_transactions", str(file), owner="ada", portfolio="Savings", stdout=said, **options)
        return said.getvalue().splitlines()

    assert run(dry_run=True) == [
        "1 left out (row 1): Desdobro: nobody has confirmed it (1:2:1). "
        "Desdobro of ACME on 2024-05-02: 100 became 200, a split of 2 for 1.",
        "0 would be recorded, 0 were there already.",
    ]
    assert run(split=["1:2:1"]) == ["1 recorded, 0 were there already."]
    assert [(new, old) for _, new, old in splits()] == [(2, 1)]


class OfAnyPast(TestCase):
    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.integers(1, 50), min_size=1, max_size=4), st.integers(2, 10), st.integers(0, 3))
    def test_the_ratio_of_a_whole_past_is_right_and_of_another_one_is_never_recorded_unseen(self, lots, new, lacking):
        ada, acme = make_owner(), make_asset()
        savings, whole = make_portfolio(ada), make_portfolio(ada, "Whole")
        rows = [bought(acme, "2024-01-02", str(lot)) for lot in lots]
        record_transactions(portfolio=whole, rows=rows, now=NOW)
        kept = [row for number, row in enumerate(rows) if number != lacking]
        record_transactions(portfolio=savings, rows=kept, now=NOW)
        split = SPLIT.replace("100", str(sum(lots) * (new - 1)))
        assets = {"ACME": acme}

        assert found(whole, split, assets=assets)[0] == [f"1:{new}:1"]
        assert imported(savings, split) == 0
        # Where its dividend says how many were held, what lacks trades is not even offered.
        if len(kept) < len(rows):
            paid = PAID.format(sum(lots), sum(lots))
            assert found(savings, paid, split, assets=assets)[0] == []
