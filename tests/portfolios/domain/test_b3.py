"""The two files of B3's investor portal, as values."""

from decimal import Decimal

import pytest

from tests.portfolios.domain.test_files import MOVEMENTS, TRADES, read, said


def test_trades_of_b3_with_numbers_in_each_form():
    found = read(
        TRADES,
        "02/01/2026,Compra,Mercado à Vista,-,XP,PETR4,100,38.5,3850",
        '02/01/2026,Compra,Mercado Fracionário,-,XP,PETR4F,5,"38,50","192,50"',
        '05/01/2026,Venda,Mercado à Vista,-,XP,HGLG11,10,"R$ 160,10","1.601,00"',
        "05/01/2026,Aluguel,-,-,XP,HGLG11,10,-,-",
    )
    assert (found.source, found.errors) == (
        "B3",
        [(4, "tipo de movimentação: Aluguel is not known; known are Compra and Venda.")],
    )
    assert [said(one, "kind", "quantity", "amount", "currency") for one in found.rows] == [
        ("PETR4", "buy", "100", "3850", "BRL"),
        ("PETR4", "buy", "5", "192.5", "BRL"),
        ("HGLG11", "sell", "10", "1601", "BRL"),
    ]
    assert {one.account for one in found.rows} == {"XP"}


def test_movements_of_b3_give_income_and_say_what_they_leave_out():
    found = read(
        MOVEMENTS,
        "Credito,02/01/2026,Juros Sobre Capital Próprio,PETR4 - PETROBRAS,XP,100,0.5,50",
        'Credito,02/01/2026,Rendimento - Transferido,HGLG11 - CSHG,XP,10,"R$ 1,10","R$ 11,00"',
        "Credito,02/01/2026,Transferência - Liquidação,PETR4 - PETROBRAS,XP,100,38.5,3850",
        "Credito,02/01/2026,Desdobro,PETR4 - PETROBRAS,XP,-,-,-",
        "Debito,02/01/2026,Rendimento,PETR4 - PETROBRAS,XP,100,1,100",
        "Credito,02/01/2026,Dividendo,PETR4 - PETROBRAS,XP,100,-,-",
        "Credito,02/01/2026,Dividendo,PETR4 - PETROBRAS,XP,100,-,R$ -",
        'Credito,02/01/2026,Dividendo,PETR4 - PETROBRAS,XP,100,-,"R$ 0,00"',
        "Debito,02/01/2026,Desdobro,MGLU3 - MAGAZINE,XP,10,-,-",
        "Credito,02/01/2026,Direito de Subscrição,HGLG12 - CSHG,XP,2,-,-",
        "Credito,02/01/2026,Direitos de Subscrição - Não Exercido,HGLG12 - CSHG,XP,2,-,-",
        "Credito,02/01/2026,Cisão,ITUB4 - ITAU,XP,2,-,-",
        "Credito,02/01/2026,Atualização,ITUB4 - ITAU,XP,2,-,-",
        "Credito,02/01/2026,Something new,ITUB4 - ITAU,XP,2,-,-",
    )
    assert found.errors == []
    assert [said(one, "kind", "amount", "notes") for one in found.rows] == [
        ("PETR4", "dividend", "50", "Juros Sobre Capital Próprio"),
        ("HGLG11", "dividend", "11", "Rendimento - Transferido"),
    ]
    no_amount, no_count = "the file has no amount for it", "the file has no quantity that came or went"
    begins = [
        (3, "Transferência - Liquidação: it repeats a trade"),
        (4, f"Desdobro: {no_count}"),
        (5, "Rendimento: it is no credit"),
        *((row, f"Dividendo: {no_amount}") for row in (6, 7, 8)),
        (9, f"Desdobro: {no_count}"),
        (10, "Direito de Subscrição: a right to buy cost nothing"),
        (11, "Direitos de Subscrição - Não Exercido: the right was not used"),
        (12, "Cisão: the file has neither the ratio nor the share of the cost."),
        (13, "Atualização: it states anew what is held"),
        (14, "Something new: it is no income and no trade"),
    ]
    assert [(one.row, one.message.startswith(text)) for one, (_, text) in zip(found.left_out, begins, strict=True)] == [
        (row, True) for row, _ in begins
    ]
    assert (found.row_count, dict(found.reasons())[found.left_out[3].message]) == (14, [6, 7, 8])


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (
            ("Incorporação", "Cisão", "Conversão", "Permuta"),
            "the file has neither the ratio nor the share of the cost.",
        ),
        (("Transferência - Liquidação", "COMPRA / VENDA", "Compra", "Venda"), "it repeats a trade"),
        (("Empréstimo", "Empréstimo - Liquidação"), "lent shares stay yours."),
        (("Transferência",), "it moves between institutions."),
        (("Direito de Subscrição",), "a right to buy cost nothing and lapses when it is not used."),
        (
            (
                *("Direitos de Subscrição - Exercido", "Solicitação de Subscrição"),
                *("Recibo de Subscrição", "Subscrição"),
            ),
            "the file does not say what the shares cost. Record their purchase by hand",
        ),
        (("Direitos de Subscrição - Não Exercido",), "the right was not used, and nothing changes."),
        (("Cessão de Direitos", "Cessão de Direitos - Solicitada"), "a right was sold."),
    ],
)
def test_each_movement_of_b3_that_is_left_out_says_why(names, why):
    found = read(MOVEMENTS, *(f"Credito,02/01/2026,{name},ITSA4 - ITAUSA,XP,2,1,2" for name in names))
    assert (found.rows, found.errors) == ([], [])
    reasons = [one.message.partition(": ") for one in found.left_out]
    assert [(name, text[: len(why)]) for name, _, text in reasons] == [(name, why) for name in names]


def test_splits_of_b3_have_a_quantity_and_no_ratio():
    found = read(
        MOVEMENTS,
        'Credito,02/01/2026,Desdobro,PETR4F - PETROBRAS,XP,"1.000",-,-',
        "Credito,02/01/2026,Desdobramento,ITSA4 - ITAUSA,XP,5.5,-,-",
        "Debito,03/01/2026,Grupamento,MGLU3 - MAGAZINE,XP,90,-,-",
        "Credito,03/01/2026,GRUPAMENTO,MGLU3 - MAGAZINE,CLEAR,10,-,-",
        "Credito,03/01/2026,GRUPAMENTO,MGLU3 - MAGAZINE,CLEAR,10,-,-",
    )
    assert (found.rows, found.errors, found.left_out, found.row_count) == ([], [], [], 5)
    assert [(one.symbol, one.account, f"{one.at:%m-%d}", one.is_reverse) for one in found.splits] == [
        ("PETR4", "XP", "01-02", False),
        ("ITSA4", "XP", "01-02", False),
        ("MGLU3", "XP", "01-03", True),
        *[("MGLU3", "CLEAR", "01-03", True)] * 2,
    ]
    ten = Decimal(10)
    counts = [(1000, None), (Decimal("5.5"), None), (-90, None), (None, ten), (None, ten)]
    assert [(one.change, one.left) for one in found.splits] == counts
    # Two equal rows are two.
    assert len({one.external_id for one in found.splits}) == 5
    assert (found.accounts(), found.symbols()) == ({"XP", "CLEAR"}, {"PETR4", "ITSA4", "MGLU3"})


def test_income_of_b3_says_on_how_much_it_was_paid():
    rows = [
        "Credito,02/01/2026,Rendimento,HGLG11 - CSHG,XP,100,1,100",
        "Credito,02/01/2026,Amortização,HGLG11 - CSHG,XP,100,1,100",
        "Credito,03/01/2026,Rendimento,HGLG11 - CSHG,XP,-,1,100",
        "Credito,03/01/2026,Leilão de Fração,HGLG11 - CSHG,XP,0.5,1,0.5",
    ]
    assert [one.held for one in read(MOVEMENTS, *rows).rows] == [100, 100, None, None]


def test_corporate_events_of_b3_that_the_file_says_enough_of():
    found = read(
        MOVEMENTS,
        'Credito,02/01/2026,Bonificação em Ativos,ITSA4 - ITAUSA,XP,"5,5","R$ 17,92",-',
        "Credito,03/01/2026,Bonificação em Ativos,BBDC4 - BRADESCO,XP,10,-,-",
        "Debito,04/01/2026,Fração em Ativos,ITSA4 - ITAUSA,XP,0.5,-,-",
        'Credito,20/01/2026,Leilão de Fração,ITSA4 - ITAUSA,XP,"0,5","R$ 9,00","R$ 4,50"',
        'Credito,21/01/2026,Amortização,HGLG11 - CSHG,XP,10,"R$ 1,00","R$ 10,00"',
        'Credito,21/01/2026,Amortização,HGLG11 - CSHG,CLEAR,20,"R$ 1,00","R$ 20,00"',
        'Credito,22/01/2026,Restituição de Capital,PETR4 - PETROBRAS,XP,10,"R$ 1,00","R$ 10,00"',
    )
    assert found.errors == []
    names = ("kind", "event", "quantity", "amount", "group_id", "notes")
    assert [said(one, *names) for one in found.rows] == [
        ("ITSA4", "dividend", None, None, "98.56", "b3-ITSA4-2026-01-02", "Bonificação em Ativos"),
        ("ITSA4", "buy", None, "5.5", "98.56", "b3-ITSA4-2026-01-02", "Bonificação em Ativos"),
        ("BBDC4", "buy", None, "10", "0", None, "Bonificação em Ativos"),
        ("ITSA4", "sell", None, "0.5", "4.5", None, "Leilão de Fração"),
        ("HGLG11", "event", "return_of_capital", None, "10", None, "Amortização"),
        ("PETR4", "event", "return_of_capital", None, "10", None, "Restituição de Capital"),
    ]
    assert [(one.row, one.message.partition(":")[0]) for one in found.left_out] == [
        (3, "Fração em Ativos"),
        (6, "Amortização"),
    ]
