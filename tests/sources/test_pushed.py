"""The one reader of pushed quotes: what is malformed is refused as a whole, with its place."""

import json
from decimal import Decimal

import pytest

from apps.market.domain import RawQuote
from apps.sources.pushed import PushMalformed, read_message, read_quotes

QUOTE = {"symbol": "A", "price": "1"}


def body(*quotes, **more):
    return json.dumps({"quotes": quotes, **more}).encode()


def why(content, read=read_quotes):
    with pytest.raises(PushMalformed) as caught:
        read(content)
    return str(caught.value)


def test_texts_and_numbers_are_read_exactly():
    content = b"""{"quotes": [
        {"symbol": "BTC-USD", "price": "61230.5", "at": "2026-11-25T12:00:00Z", "volume": "1.5"},
        {"symbol": "ETH-USD", "price": 0.1, "at": 1700000000.5, "volume": 2},
        {"symbol": "X", "price": 7, "at": null, "volume": null}
    ]}"""

    assert read_quotes(content) == [
        RawQuote("BTC-USD", Decimal("61230.5"), "2026-11-25T12:00:00Z", Decimal("1.5")),
        RawQuote("ETH-USD", Decimal("0.1"), Decimal("1700000000.5"), Decimal(2)),
        RawQuote("X", Decimal(7)),
    ]


def test_a_byte_order_mark_is_passed_over():
    assert read_quotes(b"\xef\xbb\xbf" + body(QUOTE)) == [RawQuote("A", Decimal(1))]


def test_a_message_names_its_feed():
    assert read_message(body(QUOTE, feed="own")) == ("own", [RawQuote("A", Decimal(1))])


@pytest.mark.parametrize("feed", [None, "", 1, [], {}, True])
def test_a_message_without_the_name_of_a_feed_is_refused(feed):
    assert why(body(QUOTE, feed=feed), read_message) == "feed: must be a text that is not empty"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" ",
        b"\xff\xfe",
        b"\xef\xbb\xbf\xef\xbb\xbf{}",
        '{"quotes": [{"symbol": "A", "price": 1}]}'.encode("utf-16"),
        b"quotes=1",
        b'{"quotes": [',
        b'{"quotes": [{"symbol": "A", "price": NaN}]}',
        b'{"quotes": [{"symbol": "A", "price": -Infinity}]}',
        b'{"quotes": [{"symbol": "A", "price": ' + b"9" * 5_001 + b"}]}",
        b'{"quotes": [{"symbol": "A", "price": 0.' + b"1" * 5_001 + b"}]}",
        b'{"quotes": [{"symbol": "A", "price": 1e99999999999999999999}]}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
    ids=range(14),
)
def test_what_is_no_json_is_refused(content):
    assert why(content) == "the body is not JSON"


@pytest.mark.parametrize("content", [b"null", b"[]", b"1", b'"quotes"', b"true"])
def test_another_thing_than_an_object_is_refused(content):
    assert why(content) == 'the body must be an object like {"quotes": […]}'


def test_a_megabyte_is_read_and_a_byte_more_is_not():
    content = body(QUOTE)
    padded = content + b" " * (1_000_000 - len(content))

    assert len(read_quotes(padded)) == 1
    assert why(padded + b" ") == "the body is larger than 1000000 bytes"


@pytest.mark.parametrize("quotes", [None, {}, "A", 1, [], [QUOTE] * 5_001], ids=range(6))
def test_anything_but_1_to_5000_quotes_is_refused(quotes):
    assert why(json.dumps({"quotes": quotes}).encode()) == "quotes: must be a list of 1 to 5000 quotes"


def test_5000_quotes_are_read():
    assert len(read_quotes(body(*[QUOTE] * 5_000))) == 5_000


@pytest.mark.parametrize("quote", [None, [], "A", 1, True])
def test_a_quote_that_is_no_object_is_refused(quote):
    assert why(body(QUOTE, quote)) == 'quotes[1]: must be an object like {"symbol": "BTC-USD", "price": "61230.5"}'


@pytest.mark.parametrize("symbol", [None, "", 1, [], {}, True])
def test_a_symbol_that_is_no_text_is_refused(symbol):
    assert why(body(QUOTE | {"symbol": symbol})) == "quotes[0].symbol: must be a text that is not empty"


NO_NUMBERS = [
    *("NaN", "sNaN", "Infinity", "-Infinity", "0x10", "1_000", "1,5", "１２", "", "abc", "1" * 65, "0951"),
    *(True, [], {}, ["1"], 10**70),
]


@pytest.mark.parametrize("value", [None, *NO_NUMBERS], ids=str)
def test_a_price_that_is_no_number_is_refused(value):
    expected = "quotes[2].price: must be a number, or a text that is one"
    assert why(body(QUOTE, QUOTE, QUOTE | {"price": value})) == expected


@pytest.mark.parametrize("value", NO_NUMBERS, ids=str)
def test_a_volume_that_is_no_number_is_refused(value):
    assert why(body(QUOTE | {"volume": value})) == "quotes[0].volume: must be a number, or a text that is one"


@pytest.mark.parametrize("value", [True, [], {}])
def test_a_time_that_is_neither_text_nor_number_is_refused(value):
    expected = "quotes[0].at: must be a time in ISO 8601 with its zone, or an epoch"
    assert why(body(QUOTE | {"at": value})) == expected


def test_the_price_is_needed():
    assert why(body({"symbol": "A"})) == "quotes[0].price: must be a number, or a text that is one"


def test_unknown_keys_are_refused_by_name():
    known = "at, price, symbol, volume"
    assert why(body(QUOTE | {"prize": 1})) == f'quotes[0]."prize": is not known; known are {known}'
    assert why(body(QUOTE, feed="own")) == '"feed": is not known; known are quotes'
    assert why(body(QUOTE, feed="own", x=1), read_message) == '"x": is not known; known are feed, quotes'


def test_a_key_stands_in_no_line_as_it_came():
    message = why(body(QUOTE | {"\n\0" + "x" * 1_000: 1}))

    assert message.isprintable()
    assert len(message) < 150
